"""Splits, flat images with a label column, rotated and transparent images."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from repair_engine.data import inspect_archive, read_dataset
from repair_engine.errors import BadInput
from repair_engine.models.architectures import Architecture
from repair_engine.models.classes import ClassNames
from repair_engine.models.preprocessing import Preprocessing
from repair_engine.question.objectives import Metric
from repair_engine.question.request import RepairRequest
from tests.repair_engine.image_sets import encoded, make_zip, pixels, png
from tests.repair_engine.tiny import call, make_world

CATDOG = ClassNames(2)


def made(path: Path, *names: str, table: str = "", **tables: str) -> Path:
    entries: dict[str, bytes | str] = {name: png(i) for i, name in enumerate(names)}
    entries |= {"metadata.csv": table} if table else {}
    entries |= {f"{folder}/metadata.csv": text for folder, text in tables.items()}
    return make_zip(path / "images.zip", entries)


def splits(*tops: str, subs: tuple[str, ...] = ("cat", "dog"), root: str = "") -> list[str]:
    return [f"{root}{top}/{sub}/{i}.png" for i, (top, sub) in enumerate((t, s) for t in tops for s in subs)]


@pytest.mark.parametrize(
    "tops", [("train", "test"), ("training_set", "test_set"), ("fold1", "fold2"), ("A", "B", "C"), ("Train", "valid")]
)
@pytest.mark.parametrize("root", ["", "pets/"])
def test_splits_are_refused_and_one_can_be_chosen(tmp_path: Path, tops: tuple[str, ...], root: str) -> None:
    path = made(tmp_path, *splits(*tops, root=root))
    with pytest.raises(BadInput, match="splits, not classes") as error:
        read_dataset(path, CATDOG, Preprocessing())
    first = sorted(tops)[0]
    assert f"--split-folder {first}" in error.value.mend
    with pytest.raises(BadInput, match="splits, not classes"):
        inspect_archive(path)
    data = read_dataset(path, CATDOG, Preprocessing(), split=first)
    zipfile.ZipFile(path).extractall(tmp_path / "there")
    theirs = ImageFolder(str(tmp_path / "there" / root / first))
    assert list(data.class_names) == theirs.classes
    assert [(f, int(i)) for f, i in zip(data.file_names, data.labels, strict=True)] == [
        (str(Path(name).relative_to(tmp_path / "there")), i) for name, i in theirs.samples
    ]
    assert any("other folders are left out" in warning for warning in data.warnings)
    assert inspect_archive(path, split=first).folders == {"cat": 1, "dog": 1}


def test_classes_with_the_same_subfolders_can_be_said_to_be_classes(tmp_path: Path) -> None:
    path = made(tmp_path, *splits("cat", "dog", subs=("indoor", "outdoor")))
    with pytest.raises(BadInput, match="same subfolders") as error:
        read_dataset(path, CATDOG, Preprocessing())
    assert "--split-folder none" in error.value.mend
    said = read_dataset(path, CATDOG, Preprocessing(), split="none")
    named = read_dataset(path, ClassNames(2, ("cat", "dog")), Preprocessing())
    assert list(said.labels) == list(named.labels) == [0, 0, 1, 1]


@pytest.mark.parametrize(
    "names",
    [
        ["cat/images/1.png", "dog/images/1.png"],  # one subfolder is no list of classes
        ["cat/a/1.png", "cat/b/1.png", "dog/a/1.png", "dog/c/1.png"],
        ["cat/a/1.png", "cat/b/1.png", "dog/a/1.png", "dog/1.png"],
        ["test/1.png", "other/1.png"],
    ],
)
def test_other_nested_folders_are_classes_as_in_image_folder(tmp_path: Path, names: list[str]) -> None:
    data = read_dataset(made(tmp_path, *names), CATDOG, Preprocessing())
    assert data.class_names == tuple(sorted({name.split("/")[0] for name in names}))


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no folder 'dev'") as error:
        read_dataset(made(tmp_path, *splits("train", "test")), CATDOG, Preprocessing(), split="dev")
    assert "test, train" in error.value.mend


def test_two_splits_of_one_zip_share_no_stored_pixels(tmp_path: Path) -> None:
    path, cache = made(tmp_path, *splits("train", "test")), tmp_path / "cache"
    one, two = (read_dataset(path, CATDOG, Preprocessing(), cache, split=split) for split in ("train", "test"))
    assert not set(one.pixel_hashes) & set(two.pixel_hashes)
    assert one.identity != two.identity


def test_a_table_above_the_splits_names_all_images(tmp_path: Path) -> None:
    names = splits("train", "test")
    table = "file_name,sex\n" + "".join(f"{name},{'fm'[i % 2]}\n" for i, name in enumerate(names))
    data = read_dataset(made(tmp_path, *names, table=table), CATDOG, Preprocessing(), split="test")
    assert data.file_names == ("test/cat/2.png", "test/dog/3.png")
    assert data.attributes == {"sex": ("f", "m")}


def test_flat_images_with_a_label_column(tmp_path: Path) -> None:
    rows = {"0.png": "dog", "1.png": "cat", "2.png": "dog"}
    table = "file_name,label,sex\n" + "".join(f"{name},{label},f\n" for name, label in rows.items())
    data = read_dataset(made(tmp_path, *rows, table=table), CATDOG, Preprocessing())
    assert data.class_names == ("cat", "dog")
    assert [data.class_names[i] for i in data.labels] == list(rows.values())
    assert "column label" in data.notes[-1]
    assert inspect_archive(tmp_path / "images.zip").folders == {"cat": 1, "dog": 2}


@pytest.mark.parametrize("root", ["", "data/", "images/"])
def test_flat_images_in_one_folder(tmp_path: Path, root: str) -> None:
    """The table beside the images, or above their folder."""
    inside = root == "data/"
    rows = {f"{root}{i}.png": label for i, label in enumerate(("dog", "cat", "dog"))}
    lines = "".join(f"{name.removeprefix(root if inside else '')},{label}\n" for name, label in rows.items())
    table = f"file_name,label\n{lines}"
    path = made(tmp_path, *rows, **({"data": table} if inside else {"table": table}))
    data = read_dataset(path, CATDOG, Preprocessing())
    assert [data.class_names[i] for i in data.labels] == list(rows.values())


def test_flat_images_in_splits(tmp_path: Path) -> None:
    tables = {
        top: f"file_name,label\n0.png,{a}\n1.png,{b}\n" for top, a, b in (("one", "dog", "cat"), ("two", "cat", "dog"))
    }
    path = made(tmp_path, *(f"{top}/{i}.png" for top in tables for i in range(2)), **tables)
    with pytest.raises(BadInput, match=r"a metadata\.csv of its own"):
        read_dataset(path, CATDOG, Preprocessing())
    for top, labels in (("one", ["dog", "cat"]), ("two", ["cat", "dog"])):
        data = read_dataset(path, CATDOG, Preprocessing(), split=top)
        assert [data.class_names[i] for i in data.labels] == labels


def test_labels_that_are_numbers_are_indices(tmp_path: Path) -> None:
    rows = {f"{i}.png": str(11 - i) for i in range(12)}
    table = "file_name,label\n" + "".join(f"{name},{label}\n" for name, label in rows.items())
    data = read_dataset(made(tmp_path, *rows, table=table), ClassNames(12), Preprocessing())
    assert [int(i) for i in data.labels] == [int(rows[name]) for name in data.file_names]


@pytest.mark.parametrize(
    ("names", "table", "says"),
    [
        (("0.png", "1.png"), "", "in no class folder"),
        (("0.png", "1.png"), "file_name,sex\n0.png,f\n1.png,m\n", "no column label"),
        (("0.png", "1.png"), "file_name,label\n0.png,cat\n1.png,\n", "gives 1.png no label"),
    ],
)
def test_images_without_a_label(tmp_path: Path, names: tuple[str, ...], table: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        read_dataset(made(tmp_path, *names, table=table), CATDOG, Preprocessing())


def test_another_kind_of_table_is_named(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"0.png": png(0), "metadata.jsonl": '{"file_name": "0.png", "label": "cat"}\n'})
    with pytest.raises(BadInput, match=r"cannot be read from metadata\.jsonl"):
        read_dataset(path, CATDOG, Preprocessing())


def turned(orientation: int, kind: str) -> bytes:
    out, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels(orientation, 8, 12)).save(out, kind, exif=exif)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_rotation_is_not_applied_and_said(tmp_path: Path, kind: str) -> None:
    suffix = kind.lower().replace("jpeg", "jpg")
    entries = {f"cat/1.{suffix}": turned(6, kind), f"dog/1.{suffix}": turned(1, kind)}
    path = make_zip(tmp_path / "a.zip", entries)
    data = read_dataset(path, CATDOG, Preprocessing())
    (tmp_path / "there").mkdir()
    zipfile.ZipFile(path).extractall(tmp_path / "there")
    for i, (image, _) in enumerate(ImageFolder(str(tmp_path / "there"))):
        assert np.array_equal(data.images[i], np.asarray(image).transpose(2, 0, 1))
    said = [warning for warning in data.warnings if "EXIF" in warning]
    assert said == [w for w in inspect_archive(path).warnings if "EXIF" in w]
    assert len(said) == 1
    assert said[0].startswith("1 images carry an EXIF rotation, which is not applied")
    assert f"cat/1.{suffix}" in said[0]


def test_transparent_parts_are_said(tmp_path: Path) -> None:
    clear = pixels(0, 8, 8, 4)
    whole = clear.copy()
    whole[..., 3] = 255
    path = make_zip(tmp_path / "a.zip", {"cat/1.png": encoded(clear), "dog/1.png": encoded(whole)})
    data = read_dataset(path, CATDOG, Preprocessing())
    assert np.array_equal(data.images[0], clear[..., :3].transpose(2, 0, 1))
    assert [w for w in data.warnings if "transparent" in w and w.startswith("1 images")]


def test_split_folder_on_the_command_line(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    entries = {
        f"{top}/{name}": encoded(p)
        for top in ("one", "two")
        for name, p in zip(world.images.names, world.images.pixels)
    }
    data = make_zip(tmp_path / "both.zip", entries)
    refused = call(world.argv("inspect", data=str(data)))
    assert (refused.code, "--split-folder one" in refused.err) == (2, True)
    chosen = call(world.argv("inspect", "--json", data=str(data), split_folder="two")).document["data"]
    assert chosen["images"] == len(world.images.names)
    assert any("other folders are left out" in warning for warning in chosen["warnings"])


def test_a_request_keeps_its_split_folders() -> None:
    request = RepairRequest(
        "m", "d", Architecture("resnet18", 3), metric=Metric.parse("accuracy"), split_folder="train"
    )
    assert RepairRequest.from_json(request.to_json()).split_folder == "train"
