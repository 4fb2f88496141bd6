from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from repair_engine.errors import BadInput
from repair_engine.models.architectures import Architecture
from repair_engine.models.classes import ClassNames, class_names, map_labels, parse_class_names, read_class_names
from repair_engine.question.objectives import Metric


@pytest.mark.parametrize(
    "text",
    [
        "cat\ndog\n",
        "cat\r\ndog",
        "﻿cat\ndog\n\n",
        '["cat", "dog"]',
        '{"n1": [0, "cat"], "n2": [1, "dog"]}',
        '{"1": ["n2", "dog"], "0": ["n1", "cat"]}',
        '{"0": "cat", "1": "dog"}',
        '{"dog": 1, "cat": 0}',
    ],
    ids=["text", "windows", "bom", "list", "folder-index-name", "index-folder-name", "index-name", "name-index"],
)
def test_every_form_of_class_names(text: str, tmp_path: Path) -> None:
    path = tmp_path / "classes"
    path.write_text(text, encoding="utf-8")
    classes = read_class_names(path, 2)
    assert classes.names == ("cat", "dog")
    assert classes.folders == (("n1", "n2") if "n1" in text else ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat\n", "1 class names; the model has 2"),
        ("cat\n\ndog\n", "class 1 is empty"),
        ('["cat", 1]', "class 1 is empty or not text"),
        ('["cat", ', "not valid JSON"),
        ("{}", "neither a list"),
        ('{"a": [0, "cat"], "b": [0, "dog"]}', "not 0 to 1, each once"),
        ('{"a": [0, "cat"], "b": [2, "dog"]}', "not 0 to 1"),
        ('{"a": {"x": 1}, "b": 2}', "neither a list"),
    ],
)
def test_bad_class_names(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        parse_class_names(text, 2)


def test_classes_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no classes file"):
        read_class_names(tmp_path / "absent.txt", 2)
    (tmp_path / "latin.txt").write_bytes("käse\nbrot".encode("latin-1"))
    with pytest.raises(BadInput, match="not UTF-8"):
        read_class_names(tmp_path / "latin.txt", 2)


def test_names_of_torchvision_weights_where_the_count_agrees() -> None:
    assert class_names(Architecture("resnet18", 1000)).names[1] == "goldfish"
    assert class_names(Architecture("resnet18", 10)).names == ()


def test_folders_map_by_name_folder_key_case_and_integer() -> None:
    classes = ClassNames(3, ("cat", "dog", "Émile"), ("n1", "n2", "n3"))
    assert map_labels(["dog", "cat"], classes).index == {"cat": 0, "dog": 1}
    assert map_labels(["n3"], classes).index == {"n3": 2}  # only some of the classes
    assert map_labels(["DOG", "n1"], classes).index == {"DOG": 1, "n1": 0}
    assert map_labels(["2", "0"], classes).index == {"2": 2, "0": 0}
    decomposed = unicodedata.normalize("NFD", "Émile")
    assert map_labels([decomposed], classes).index == {decomposed: 2}


def test_exact_names_win_over_case_and_integers() -> None:
    assert map_labels(["Cat", "cat"], ClassNames(2, ("cat", "Cat"))).index == {"Cat": 1, "cat": 0}
    assert map_labels(["1", "7"], ClassNames(2, ("7", "1"))).index == {"1": 1, "7": 0}


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        (["CAT"], ("cat", "Cat"), "name of 2 classes"),
        (["cat", "Cat"], ("cat", "dog"), "all mean class 0"),
        (["crane"], ("crane", "crane"), "name of 2 classes"),
        (["0", "dog"], ("cat", "dog"), "1 of the dataset's 2 labels"),
        (["0", "2"], ("cat", "dog"), "2 of the dataset's 2 labels"),
        (["-1"], ("cat", "dog"), "no class of the model"),
        (["cat", "0"], ("cat", "0"), ""),
    ],
)
def test_labels_that_do_not_map(labels: list[str], names: tuple[str, str], message: str) -> None:
    if not message:
        assert map_labels(labels, ClassNames(2, names)).index == {"cat": 0, "0": 1}
        return
    with pytest.raises(BadInput, match=message):
        map_labels(labels, ClassNames(2, names))


def test_duplicate_names_matter_only_where_used() -> None:
    classes = ClassNames(3, ("crane", "crane", "tench"), ("n1", "n2", "n3"))
    assert map_labels(["tench", "n2"], classes).index == {"n2": 1, "tench": 2}


def test_the_error_shows_both_lists_shortened() -> None:
    classes = ClassNames(1000, tuple(f"class{i}" for i in range(1000)), source="names.txt")
    with pytest.raises(BadInput) as caught:
        map_labels([f"folder{i:03}" for i in range(500)], classes)
    text = caught.value.problem
    assert "folder000, folder001" in text
    assert "class0, class1" in text
    assert "(1000 in all)" in text
    assert "names.txt" in text
    assert len(text) < 1500


def test_without_names_the_folders_in_sorted_order_are_taken_and_that_is_said() -> None:
    found = map_labels(["b", "a", "b"], ClassNames(2))
    assert found.index == {"a": 0, "b": 1}
    assert found.names == ("a", "b")
    assert "sorted order" in found.notes[0]
    assert not found.warnings
    with pytest.raises(BadInput, match="2 class folders and the model has 3") as caught:
        map_labels(["b", "a"], ClassNames(3))
    assert "classes file" in caught.value.mend


def test_unnamed_numbers_above_nine_are_refused() -> None:
    with pytest.raises(BadInput, match="another order than by size: 0, 1, 10, 2") as error:
        map_labels([str(i) for i in range(11)], ClassNames(11))
    assert "classes file" in error.value.mend
    said = parse_class_names("\n".join(map(str, range(11))), 11)
    assert map_labels([str(i) for i in range(11)], said).index == {str(i): i for i in range(11)}
    padded = [f"{i:02}" for i in range(11)]
    assert map_labels(padded, ClassNames(11)).index == {name: i for i, name in enumerate(padded)}
    assert map_labels(list("0123456789"), ClassNames(10)).names == tuple("0123456789")
    assert map_labels(list("1234"), ClassNames(4)).index == {"1": 0, "2": 1, "3": 2, "4": 3}


def test_numbers_of_a_label_column_are_indices() -> None:
    found = map_labels([str(i) for i in range(11)], ClassNames(11), column=True)
    assert found.index == {str(i): i for i in range(11)}
    with pytest.raises(BadInput, match="another order than by size"):
        map_labels([str(i) for i in range(1, 12)], ClassNames(11), column=True)


@pytest.mark.parametrize(
    ("labels", "says"),
    [(["1", "2", "3"], "count from 1"), (["1", "2"], "may count from 0 or from 1"), (["2"], "from 0 or from 1")],
)
def test_numbers_that_may_count_from_one_are_refused_where_classes_have_names(labels: list[str], says: str) -> None:
    with pytest.raises(BadInput, match=says) as error:
        map_labels(labels, ClassNames(3, ("cat", "dog", "fox")))
    assert "{folder: [index, name]}" in error.value.mend
    said = parse_class_names('{"1": [0, "cat"], "2": [1, "dog"], "3": [2, "fox"]}', 3)
    assert map_labels(labels, said).index == {label: int(label) - 1 for label in labels}


def test_names_are_compared_composed() -> None:
    decomposed = unicodedata.normalize("NFD", "école")
    assert parse_class_names(f"ours\n{decomposed}", 2).names == ("ours", "école")
    assert Metric.parse(f"recall:{decomposed}").argument == "école"


def test_imagenet_style_file() -> None:
    data = {f"n{i:08}": [i, f"name {i}"] for i in range(1000)}
    classes = parse_class_names(json.dumps(data), 1000)
    assert map_labels(["n00000998"], classes).index == {"n00000998": 998}
