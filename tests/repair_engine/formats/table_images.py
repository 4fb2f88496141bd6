"""Image sets: layouts, names, labels."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path

from PIL import Image

from repair_engine.data import read_dataset
from repair_engine.models.classes import ClassNames
from repair_engine.models.preprocessing import Preprocessing
from tests.repair_engine.data.test_dataset_names import CHINESE, FRENCH, raw_zip
from tests.repair_engine.formats.rows import Row
from tests.repair_engine.image_sets import encoded, make_zip, pixels, png, two_classes

Entries = Mapping[str, bytes | str]
NAMED = ClassNames(3, ("cat", "dog", "fox"))


def _read(path: Path, classes: ClassNames, split: str = "") -> str:
    data = read_dataset(path, classes, Preprocessing(resize=(8, 8)), split=split)
    return " ".join((*data.warnings, *data.notes))


def zipped(entries: Entries, classes: ClassNames = NAMED, split: str = "") -> Callable[[Path], str]:
    return lambda folder: _read(make_zip(folder / "images.zip", entries), classes, split)


def of_page(folders: tuple[str, ...], page: str, classes: ClassNames) -> Callable[[Path], str]:
    return lambda folder: _read(raw_zip(folder / "images.zip", folders, page), classes)


def _folders(*names: str) -> Entries:
    return {f"{name}/1.png": png(i) for i, name in enumerate(names)}


def _flat(table: str) -> Entries:
    return {"1.png": png(1), "2.png": png(2), **({"metadata.csv": table} if table else {})}


def _turned() -> bytes:
    out, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels(1)).save(out, "JPEG", exif=exif)
    return out.getvalue()


def _splits(*tops: str) -> Entries:
    return {f"{top}/{sub}/1.png": png(i) for i, (top, sub) in enumerate((t, s) for t in tops for s in ("cat", "dog"))}


ROWS = [
    Row("`class/name.png`, one folder per class, no class names given", zipped(two_classes(), ClassNames(2))),
    Row("the same with the model's class names", zipped(two_classes())),
    Row("folders that are no class of the model", zipped(_folders("cat", "wolf"))),
    Row("names in UTF-8 without zip's flag", of_page(FRENCH, "utf-8", ClassNames(4))),
    Row("names in a code page, no class names", of_page(CHINESE, "gbk", ClassNames(4))),
    Row("names in a code page, class names given", of_page(CHINESE, "gbk", ClassNames(4, CHINESE))),
    Row("train/ and test/ above the class folders", zipped(_splits("train", "test"))),
    Row("folds of any name, each with the same class folders", zipped(_splits("A", "B"))),
    Row("the same with `--split-folder A`", zipped(_splits("A", "B"), split="A")),
    Row("folders 0 to 10, no class names", zipped(_folders(*map(str, range(11))), ClassNames(11))),
    Row("folders 1 to 3 of a model with 3 named classes", zipped(_folders("1", "2", "3"))),
    Row("folders 1 and 2 of a model with 3 named classes", zipped(_folders("1", "2"))),
    Row("folders 0 to 2 of a model with 3 named classes", zipped(_folders("0", "1", "2"))),
    Row(
        "images in no folder, `metadata.csv` with a column label",
        zipped(_flat("file_name,label\n1.png,dog\n2.png,cat\n")),
    ),
    Row(
        "images in no folder, `metadata.csv` without a column label", zipped(_flat("file_name,sex\n1.png,f\n2.png,m\n"))
    ),
    Row("images in no folder, no table", zipped(_flat(""))),
    Row("an image with an EXIF rotation", zipped({"cat/1.jpg": _turned(), "dog/1.png": png(2)})),
    Row("an image with transparent parts", zipped({"cat/1.png": encoded(pixels(0, 8, 8, 4)), "dog/1.png": png(2)})),
    Row(
        "`metadata.csv` separated by semicolons", zipped(two_classes({"metadata.csv": "file_name;sex\ncat/1.png;f\n"}))
    ),
    Row("an image that is a GIF", zipped(two_classes({"cat/3.gif": b"GIF89a"}))),
]
