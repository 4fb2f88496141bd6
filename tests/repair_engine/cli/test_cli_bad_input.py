"""Input that cannot be used as it is: exit code 2, what is wrong and how to mend it; or a warning and a result."""

from __future__ import annotations

import dataclasses
import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from repair_engine.case.preparing import prepare
from tests.repair_engine import tiny
from tests.repair_engine.search.test_exact_values import request_of
from tests.repair_engine.tiny import CLASSES, Tiny, World, call, images, save

pytestmark = pytest.mark.usefixtures("quick_module")

# option, value, words of the error, words of the mending
REFUSED = [
    pytest.param("metric", "beauty", "beauty", "subgroup-recall:COLUMN", id="no such metric"),
    pytest.param("metric", "recall:dog", "'dog'", "ant, bee, cat", id="no such class"),
    pytest.param("metric", "subgroup-recall:breed", "'breed'", "ground", id="no such column"),
    pytest.param("metric", "subgroup-recall:same", "one value|only the value", "", id="a column with one value"),
    pytest.param("group", "patient", "'patient'", "ground", id="no such group column"),
    pytest.param("group", "same", "stay together", "", id="a group column with one value"),
    pytest.param("model", "/no/such/file.pth", "/no/such/file.pth", "", id="no model file"),
    pytest.param("data", "/no/such/images.zip", "/no/such/images.zip", "", id="no image file"),
    pytest.param("guard", "/no/such/guard.zip", "/no/such/guard.zip", "", id="no guard file"),
    pytest.param("classes", "/no/such/names.txt", "/no/such/names.txt", "", id="no classes file"),
    pytest.param("num_classes", "4", "head", "", id="wrong number of classes"),
    pytest.param("num_classes", "0", "--num-classes", "", id="no classes at all"),
    pytest.param("architecture", "resnet17", "resnet17", "", id="no such architecture"),
    pytest.param("architecture", "resnet18", "", "", id="another architecture"),
    pytest.param("register", "net=no.such.module:f", "no.such.module", "", id="no such factory"),
    pytest.param("mean", "0.5 0.5", "2 numbers", "1 number,", id="a mean of other channels"),
    pytest.param("mean", "", "--mean", "", id="a mean of nothing"),
    pytest.param("std", "1e-300", "NaN or infinite", "--std", id="a std at which outputs overflow"),
    pytest.param("resize", "big", "big", "", id="a size that is none"),
    pytest.param("resize", "8²", "8²", "", id="a digit that is no number"),
    pytest.param("crop", "3", "3 × 3 pixels", "--crop", id="a size that the network does not take"),
    pytest.param("model", "/tmp/" + "x" * 300, "too long", "", id="a name that no file can have"),
    pytest.param("budget", "0", "--budget", "", id="no budget"),
    pytest.param("batch_size", "0", "--batch-size", "", id="no images in a draw"),
    pytest.param("top_k", "0", "--top-k", "", id="no filters to tell apart"),
    pytest.param("seed", "-1", "--seed", "", id="a negative seed"),
]


@pytest.fixture(scope="module")
def world(skewed: World) -> World:
    """With a further column that has one value."""
    data = skewed.images.zip(skewed.folder / "columns.zip", extra="same", column=["x"] * 96)
    return dataclasses.replace(skewed, data=data)


@pytest.mark.parametrize("option", ["data", "guard"])
def test_a_folder_of_images_is_told_how_to_become_a_zip(world: World, option: str, tmp_path: Path) -> None:
    (tmp_path / "my images").mkdir()
    result = call(world.argv("score", "--json", **{"budget": "2000", option: str(tmp_path / "my images")}))
    assert result.code == 2
    assert f"--{option}: " in result.document["error"]
    assert "is a folder" in result.document["error"]
    assert f"(cd '{tmp_path}/my images' && zip -qr ../images.zip .)" in result.document["mend"]


def test_inspect_quotes_values_with_commas_and_says_how_many_are_left_out(skewed: World, tmp_path: Path) -> None:
    column = ['"a, b"', "", *(f"writer {i:02}" for i in range(94))]
    data = skewed.images.zip(tmp_path / "columns.zip", extra="writer", column=column)
    result = call(skewed.argv("inspect", data=str(data)))
    assert 'column writer: "", "a, b", writer 00' in result.out
    assert "writer 07 and 86 more" in result.out


@pytest.mark.parametrize(("option", "value", "problem", "mend"), REFUSED)
def test_refused(world: World, option: str, value: str, problem: str, mend: str) -> None:
    result = call(world.argv("score", "--json", **{"budget": "2000", option: value}))
    assert result.code == 2, result.err
    assert any(word in result.document["error"] for word in problem.split("|")), result.document
    assert mend in result.document["mend"]
    assert "Traceback" not in result.err


ATTACK = [
    pytest.param({"epsilon": "0"}, "epsilon", id="no room"),
    pytest.param({"steps": "0"}, "steps", id="no step"),
    pytest.param({"attack_images": "0"}, "--attack-images", id="no images"),
    pytest.param({"attack_images": "-3"}, "--attack-images", id="less than no images"),
]


@pytest.mark.parametrize(("options", "named"), ATTACK)
def test_attacks_that_cannot_be(world: World, options: dict[str, str], named: str) -> None:
    result = call(world.argv("evaluate", "--json", metric="attack-success", **options))
    assert result.code == 2, result.err
    assert named in result.document["error"]


@pytest.mark.parametrize("limit", ["max_clean_drop", "max_subgroup_drop"])
@pytest.mark.parametrize("value", ["-0.1", "2", "nan"])
def test_limits_that_are_no_shares(world: World, limit: str, value: str, tmp_path: Path) -> None:
    result = call(world.argv("repair", "--json", out=str(tmp_path), **{limit: value}))
    assert result.code == 2
    assert f"--{limit.replace('_', '-')}: {value} is not between 0 and 1" in result.document["error"]


@pytest.mark.parametrize(
    ("ablate", "named"),
    [
        ("steam:0", "stem"),
        ("stem:3", "channels 0 to 2"),
        ("stem", "site:channel"),
        ("stem:²", "site:channel"),
        ("stem:-1", "site:channel"),
        ("stem:0,head:1", "'head:1'"),
    ],
)
def test_filters_that_are_not_there(world: World, ablate: str, named: str) -> None:
    result = call(world.argv("evaluate", "--json", "--ablate", ablate))
    assert result.code == 2
    assert named in result.document["error"] + result.document["mend"]


def test_near_chance_names_the_usual_mistakes(world: World, tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = save(Tiny(), tmp_path / "untrained.safetensors")
    warnings = call(world.argv("evaluate", "--json", model=str(model))).document["warnings"]
    (warning,) = [w for w in warnings if "chance" in w]
    for mistake in ("--mean", "--std", "--classes", "--resize", "--crop", "channel order"):
        assert mistake in warning
    assert not [w for w in call(world.argv("evaluate", "--json")).document["warnings"] if "chance" in w]


def rare(world: World, path: Path, cats: int) -> World:
    """Only so many cats."""
    shown = world.images
    cat = np.flatnonzero(shown.labels == 2)
    rows = np.setdiff1d(np.arange(len(shown.labels)), cat[cats:])
    names = tuple(shown.names[i] for i in rows)
    few = tiny.Images(shown.pixels[rows], shown.labels[rows], shown.ground[rows], names)
    return dataclasses.replace(world, data=few.zip(path), images=few)


@pytest.mark.parametrize("metric", ["accuracy", "recall:ant", "subgroup-recall:ground"])
def test_a_class_with_one_image_is_pooled_with_a_warning(world: World, tmp_path: Path, metric: str) -> None:
    one = rare(world, tmp_path / "one.zip", cats=1)
    result = call(one.argv("repair", "--json", budget="4000", metric=metric, out=str(tmp_path / "out")))
    assert result.code in (0, 5), result.err
    assert any("pooled" in w and "cat" in w for w in result.document["warnings"])


@pytest.mark.parametrize("cats", [1, 2])
def test_recall_of_a_class_that_not_every_split_has(world: World, tmp_path: Path, cats: int) -> None:
    """Said before anything is sampled: there would be nothing to choose k on, or to report."""
    few = rare(world, tmp_path / "few.zip", cats=cats)
    result = call(few.argv("repair", "--json", budget="4000", metric="recall:cat", out=str(tmp_path / "out")))
    assert result.code == 2
    assert "'cat'" in result.document["error"]
    assert "split" in result.document["error"]
    with pytest.raises(ValueError, match="'cat'"):
        prepare(request_of(few, "recall:cat"), tmp_path / "case")


def test_an_attack_that_has_nothing_to_win(world: World, tmp_path: Path) -> None:
    """Untargeted, on images that are all wrong already."""
    wrong = tiny.Images(
        world.images.pixels,
        (world.images.labels + 1) % 3,
        world.images.ground,
        tuple(f"{CLASSES[(c + 1) % 3]}/{i}.png" for i, c in enumerate(world.images.labels)),
    )
    rows = [i for i, g in enumerate(world.images.ground) if g == "dark"]
    dark = tiny.Images(wrong.pixels[rows], wrong.labels[rows], wrong.ground[rows], tuple(wrong.names[i] for i in rows))
    other = dataclasses.replace(world, data=dark.zip(tmp_path / "wrong.zip"))
    result = call(other.argv("evaluate", "--json", metric="attack-success", attack="standard"))
    assert result.code == 2
    assert "can be attacked" in result.document["error"]


def test_colour_images_for_a_grey_model_and_back(tmp_path: Path) -> None:
    """The first convolution decides; images are converted."""
    shown = images(48)
    for factory, channels in (("tiny", 1), ("tiny_rgb", 3)):
        model = save(Tiny(channels=channels), tmp_path / f"{channels}.safetensors")
        world = World(
            tmp_path, Tiny(), model, shown.zip(tmp_path / "d.zip"), shown, f"tests.repair_engine.tiny:{factory}"
        )
        assert call(world.argv("inspect", "--json")).document["input"] == [channels, 8, 8]
        document = call(world.argv("evaluate", "--json")).document
        assert len(document["data"]["preprocessing"]["mean"]) == channels


def test_reading_subgroups_takes_linear_time(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = prepare(request_of(world, "subgroup-recall:ground"), tmp_path)
    calls = []
    column = type(case.images.dataset).column

    def counted(self: object, *args: object) -> tuple[str, ...]:
        calls.append(time.time())
        return column(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(type(case.images.dataset), "column", counted)
    for part in ("score", "select", "report"):
        case.question.objective(part)
    assert len(calls) <= 3


def test_evaluate_names_accuracy_once(skewed: World) -> None:
    lines = call(skewed.argv("evaluate")).out.splitlines()
    assert lines[0] == "accuracy:"
    assert [len(line.split()) for line in lines[1:5]] == [3] * 4  # which network, which part, one figure
    lines = call(skewed.argv("evaluate", metric="subgroup-recall:ground")).out.splitlines()
    assert lines[0].endswith(", then clean accuracy:")
    assert [len(line.split()) for line in lines[1:5]] == [4] * 4


@pytest.mark.parametrize("verb", ["evaluate", "attack"])
def test_a_network_whose_outputs_overflow_predicts_nothing(world: World, tmp_path: Path, verb: str) -> None:
    """Its weights are finite; argmax of NaN would be read as a class."""
    module = Tiny().eval().requires_grad_(False)
    for parameter in module.parameters():
        parameter.fill_(1e30)
    model = save(module, tmp_path / "large.safetensors")
    argv = world.argv(verb, "--json", model=str(model))
    if verb == "attack":
        at = argv.index("--metric")
        del argv[at : at + 2]
    result = call(argv)
    assert result.code == 2, result.err
    assert re.search(r"NaN or infinite on (\d+) of \1 images", result.document["error"])
