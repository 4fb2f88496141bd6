"""What is known of a set of images as columns: of a run's report images, of those that an adversary changed, and of a
dataset's. Read once from files that are named by their content."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from repair_engine.support import tables, thumbnail_pack
from repair_engine.support.thumbnail_pack import VIEWS, Column, Pack

MOST_CHOICES = 300  # values of a metadata column, above which it is no list to choose from
COLUMN = "column."  # before a metadata column's name in the address
KINDS = {
    "newly-right": "newly right",
    "newly-wrong": "newly wrong",
    "still-wrong": "still wrong",
    "still-right": "still right",
}


@dataclass(frozen=True)
class Images:
    """Images as columns, [N] each.

    Attributes:
        names: file names as in the zip.
        columns: key in the address -> what it is called, and its values: class, subgroup, predictions, metadata.
        kind: number in KINDS; None where there are no predictions.
        confidence: before and after, float32 [2, N]; None: the run is from before they were kept.
        place: number of each image in the dataset's pack, -1: it has none by that name; None: there is no pack.
        pack: sizes, and the reasons why some cannot be shown.
        views: pictures of each image in the pack, one after the other from its place.
    """

    names: Sequence[str]
    columns: Mapping[str, tuple[str, Column]]
    kind: np.ndarray | None = None
    confidence: np.ndarray | None = None
    place: np.ndarray | None = None
    pack: Pack | None = None
    views: int = 1

    def __len__(self) -> int:
        return len(self.names)


@lru_cache(maxsize=4)
def pack(path: Path) -> Pack:
    """A file named by its content: what was read once stays true."""
    return thumbnail_pack.read(path)


def of_dataset(pictures: Path) -> Images:
    found = pack(pictures)
    columns = {"class": ("class", found.labels), **_metadata(found.columns)}
    return Images(found.names, columns, place=np.arange(len(found.names)), pack=found)


def of_run(predictions: Path, pictures: Path | None) -> Images:
    """The report images of predictions.csv, with what the dataset's metadata says of them where that is at hand."""
    return _joined(predictions, pictures) if pictures else _predicted(predictions)


@lru_cache(maxsize=4)
def of_attack(adversarial: Path, pictures: Path | None) -> Images:
    """The images that an adversary changed, with what is predicted of them now; the dataset's metadata as of a run."""
    found = pack(adversarial)
    said = {key: _first(column) for key, column in found.columns.items()}
    label, before = _first(found.labels), said["before"]
    after = said.get("after", before)
    columns = {"class": ("true class", label)}
    if "target" in said:
        columns["target"] = ("adversary's target", said["target"])
    if "after" in said:
        columns |= {"before": ("prediction before", before), "after": ("prediction after", after)}
    else:
        columns["before"] = ("prediction", before)
    names = found.names[:: len(VIEWS)]
    images = Images(names, columns, _kind(label, before, after))
    if pictures:
        images = _described(images, pack(pictures))
    place = len(VIEWS) * np.arange(len(names))
    return replace(images, place=place, pack=found, views=len(VIEWS))


def _first(column: Column) -> Column:
    """Of each image what stands at the first of its pictures."""
    return Column(column.values, column.codes[:: len(VIEWS)])


@lru_cache(maxsize=4)
def _joined(predictions: Path, pictures: Path) -> Images:
    return _described(_predicted(predictions), pack(pictures))


def _described(images: Images, found: Pack) -> Images:
    """With the pictures of the dataset, and what its metadata says of the images."""
    number = {name: i for i, name in enumerate(found.names)}
    place = np.fromiter((number.get(name, -1) for name in images.names), np.int64, len(images))
    known = bool((place >= 0).all())
    more = {name: Column(c.values, c.codes[place]) for name, c in found.columns.items()} if known else {}
    columns = dict(images.columns)
    for name in [
        name for name, column in more.items() if "subgroup" in columns and _equal(columns["subgroup"][1], column)
    ]:
        columns["subgroup"] = (name, more.pop(name))  # the metric's own column, by its name
    return Images(images.names, {**columns, **_metadata(more)}, images.kind, images.confidence, place, found)


def _equal(one: Column, other: Column) -> bool:
    return bool(_same(one, other).all())


def _metadata(columns: Mapping[str, Column]) -> dict[str, tuple[str, Column]]:
    several = {name: column for name, column in columns.items() if 1 < len(column.values) <= MOST_CHOICES}
    return {COLUMN + name: (name, column) for name, column in several.items()}


@lru_cache(maxsize=4)
def _predicted(path: Path) -> Images:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        split = header.index("split") if "split" in header else 0
        rows = [row for row in reader if len(row) == len(header) and row[split] == "report"]
    cells = dict(zip(header, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(header, ())
    if not {"file_name", "label", "predicted_before", "predicted_after"} <= set(cells):
        return Images((), {})
    label, before, after = (_column(cells[name]) for name in ("label", "predicted_before", "predicted_after"))
    kind = _kind(label, before, after)
    columns = {"class": ("true class", label)}
    if any(groups := cells.get("subgroup", ())):
        columns["subgroup"] = ("subgroup", _column(groups))
    if cells["predicted_before"] == cells["predicted_after"]:
        columns["before"] = ("prediction", before)
    else:
        columns |= {"before": ("prediction before", before), "after": ("prediction after", after)}
    confidence = None
    if "confidence_before" in cells:
        sure = [cells[f"confidence_{moment}"] for moment in ("before", "after")]
        confidence = np.array(sure, np.float32)
    return Images([tables.original(name) for name in cells["file_name"]], columns, kind, confidence)


def _kind(label: Column, before: Column, after: Column) -> np.ndarray:
    """Numbers in KINDS."""
    right = [_same(label, one) for one in (before, after)]
    return np.select([right[0] & right[1], right[0], right[1]], [3, 1, 0], 2)


def _column(cells: Sequence[str]) -> Column:
    """Of cells as they stand in the file: the texts are made what they were, each once."""
    raw = Column.of(cells)
    return Column(tuple(tables.original(value) for value in raw.values), raw.codes)


def _same(one: Column, other: Column) -> np.ndarray:
    number = {value: i for i, value in enumerate(one.values)}
    return np.array([number.get(value, -1) for value in other.values] or [-1])[other.codes] == one.codes
