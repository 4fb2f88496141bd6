"""One unit by itself: what ablating it alone does on *select*, what it responds to, and an image made for it.

Nothing here looks at the report images.
"""

from __future__ import annotations

import base64
from typing import NotRequired, TypedDict

import numpy as np

from repair_engine.case.case import Case
from repair_engine.choosing.plan import prefix_predictions
from repair_engine.data.before import small_columns
from repair_engine.data.pixels import Pixels
from repair_engine.documents.measures import change_of_accuracy, gain, group_table
from repair_engine.documents.records import Change, GroupRow
from repair_engine.network import Responses
from repair_engine.studies.pictures import Span, optimized, score_sample, webp_of
from repair_engine.studies.responding import furthest_from, heat_of, maps_of, responding
from repair_engine.support.progress import Progress

FLIPPED = 5  # images that change from right to wrong, and the other way round
MOST_ROWS = 100


class Changed(TypedDict):
    """A figure with the unit and without it; `change` with its paired interval."""

    before: float
    after: float
    change: float
    lower: float
    upper: float


class Row(TypedDict):
    """Recall of a class or subgroup of n images; `won` turn right without the unit, `lost` turn wrong."""

    name: str
    n: int
    before: float
    after: float
    change: float
    won: int
    lost: int
    size: str


class Group(TypedDict):
    title: str
    rows: list[Row]


class Shown(TypedDict):
    """An image: its file name, under which its picture is kept, and its class; what is predicted of it with the unit
    and without it; or the unit's response, where it is the strongest (x and y in [0, 1]), and a picture of where it is
    how strong, to be laid over the image."""

    file: str
    label: str
    before: NotRequired[str]
    after: NotRequired[str]
    response: NotRequired[float]
    at: NotRequired[list[float] | None]
    heat: NotRequired[str | None]


class ResponseRecord(TypedDict):
    """Responses to so many score images; see `PictureRow` of an explanation."""

    images: int
    grid: list[int] | None
    left_out: int
    by_position: bool
    mean: float
    range: list[float]
    most: list[Shown]
    least: list[Shown]


class Ablated(TypedDict):
    """What ablating a unit does on so many select images."""

    images: int
    level: float
    metric: Changed
    accuracy: Changed
    groups: list[Group]
    turned_right: list[Shown]
    turned_wrong: list[Shown]
    turned_right_count: int
    turned_wrong_count: int


class Effect(Ablated):
    """`pictures`: file name -> data URL, all of the `shape` height and width (or smaller in proportion)."""

    responses: ResponseRecord
    pictures: dict[str, str]
    shape: list[int]


class Drawn(TypedDict):
    """An image made for a unit, as a data URL, and the responses to it and to what it began as."""

    sign: int
    start: float
    response: float
    picture: str


class Drawings(TypedDict):
    rows: list[Drawn]


def effect(case: Case, unit: str, progress: Progress) -> Effect:
    """What ablating one unit does, and the score images to which it responds most and least; JSON-able.

    Raises:
        BadInput: the network has no such unit.
    """
    player = case.subject.network.player(unit)
    album = _Album(case)
    found, responses = _ablated(case, player, album, progress), _responses(case, player, album, progress)
    shape = [int(side) for side in case.images.shape[1:]]
    return {**found, "responses": responses, "pictures": album.pictures, "shape": shape}


def picture(case: Case, unit: str, progress: Progress) -> Drawings:
    """Images that make one unit respond as strongly as possible, in either direction; JSON-able. Raises BadInput."""
    player = case.subject.network.player(unit)
    rows = optimized(case, [player], lambda share: progress("optimizing two images", share))
    return {
        "rows": [
            {"sign": one.sign, "start": one.start, "response": one.response, "picture": _inline(one.pixels, most=224)}
            for one in rows
        ]
    }


def _ablated(case: Case, player: int, album: _Album, progress: Progress) -> Ablated:
    objective = case.question.objective("select")
    network, indices, pixels = case.subject.network, case.images.indices("select"), case.images.rows("select")
    done, total = 0, 2 * (len(pixels) + (0 if case.question.rows("select") is not None else len(objective)))

    def tick(count: int) -> None:
        nonlocal done
        done += count
        progress("ablating it on the select images", done / total)

    def predicted_of(images: Pixels) -> np.ndarray:
        return prefix_predictions(network, images, case.images.normalize, [player], tick, case.subject.room)

    predicted = predicted_of(pixels)
    labels = case.images.labels[indices]
    right = predicted == labels
    answers = case.question.answers("select", predicted, predicted_of)
    seed, level = case.settings.seed, case.settings.level
    kept = np.searchsorted(indices, case.question.retained("select"))
    names = case.images.class_names
    metric = objective.value(answers)
    groups: list[Group] = [{"title": "class", "rows": _rows(group_table(names, right[0], right[1], labels))}]
    for title, values in _columns(case, indices):
        known, codes = np.unique(values, return_inverse=True)
        groups.append({"title": title, "rows": _rows(group_table([*map(str, known)], right[0], right[1], codes))})
    return {
        "images": len(indices),
        "level": level,
        "metric": _changed(metric, gain(objective, answers[0], answers[1], seed, level)),
        "accuracy": _changed(
            right[:, kept].mean(axis=1), change_of_accuracy(right[0, kept], right[1, kept], labels[kept], seed, level)
        ),
        "groups": groups,
        "turned_right": _flipped(case, indices, predicted, ~right[0] & right[1], album),
        "turned_wrong": _flipped(case, indices, predicted, right[0] & ~right[1], album),
        "turned_right_count": int((~right[0] & right[1]).sum()),
        "turned_wrong_count": int((right[0] & ~right[1]).sum()),
    }


def _changed(values: np.ndarray, change: Change) -> Changed:
    before, after = map(float, values)
    return {"before": before, "after": after, "change": change["value"], "lower": change["lower"],
            "upper": change["upper"]}  # fmt: skip


def _rows(rows: list[GroupRow]) -> list[Row]:
    """Those that change most come first."""
    ordered = sorted(rows, key=lambda row: (-abs(row["change"]), -row["won"] - row["lost"]))[:MOST_ROWS]
    return [
        {
            "name": row["name"],
            "n": row["n"],
            "before": row["before"],
            "after": row["after"],
            "change": row["change"],
            "won": row["won"],
            "lost": row["lost"],
            "size": row["size"],
        }
        for row in ordered
    ]


def _columns(case: Case, indices: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """The metric's own subgroups; where it has none, the metadata columns of few values."""
    if case.question.subgroups is not None:
        return [(case.question.metric.argument, np.asarray([case.question.subgroups[i] for i in indices]))]
    attributes = case.images.dataset.attributes
    return [(name, np.asarray(attributes[name])[indices]) for name in small_columns(attributes)]


def _flipped(case: Case, indices: np.ndarray, predicted: np.ndarray, which: np.ndarray, album: _Album) -> list[Shown]:
    names = case.images.class_names
    rows: list[Shown] = []
    for i in np.flatnonzero(which)[:FLIPPED]:
        index = int(indices[i])
        before, after = (names[int(predicted[k, i])] for k in (0, 1))
        label = names[int(case.images.labels[index])]
        rows.append({"file": album.show(index), "label": label, "before": before, "after": after})
    return rows


def _responses(case: Case, player: int, album: _Album, progress: Progress) -> ResponseRecord:
    responses = Responses(case.subject.network)
    (found,) = responding(case, responses, [player], progress)
    grid, middle = found.grid, float(found.mean.mean())
    maps = [maps_of(case, responses, player, indices) for _, indices, _ in found.ends()]
    furthest = furthest_from(middle, [one for one in maps if one is not None])
    rows: dict[int, list[Shown]] = {}
    for (sign, indices, values), of_images in zip(found.ends(), maps, strict=True):
        rows[sign] = []
        for i, (index, value) in enumerate(zip(indices.tolist(), values.tolist(), strict=True)):
            row: Shown = {
                "file": album.show(index),
                "label": case.images.class_names[int(case.images.labels[index])],
                "response": value,
                "at": None,
            }
            if of_images is not None:
                row["at"] = _place(sign * of_images[i])
                row["heat"] = _url("png", heat_of(of_images[i], middle, furthest))
            rows[sign].append(row)
    return {
        "images": len(found.indices),
        "grid": None if grid is None else [grid.height, grid.width],
        "left_out": 0 if grid is None else grid.left_out,
        "by_position": found.by_position,
        "mean": middle,
        "range": found.range,
        "most": rows[1],
        "least": rows[-1],
    }


def _place(found: np.ndarray) -> list[float]:
    """Where a map [h, w] is the largest: x and y in [0, 1]."""
    height, width = found.shape
    row, column = divmod(int(found.argmax()), width)
    return [(column + 0.5) / width, (row + 0.5) / height]


class _Album:
    """Pictures of images as the network is given them, each once: file name -> data URL."""

    def __init__(self, case: Case) -> None:
        self.case, self.span = case, Span.of(case.images, score_sample(case.images))
        self.pictures: dict[str, str] = {}

    def show(self, index: int) -> str:
        """The name under which an image of the dataset is kept."""
        name: str = self.case.images.dataset.file_names[index]
        if name not in self.pictures:
            self.pictures[name] = _inline(self.span.shown(self.case.images.dataset.images[index]))
        return name


def _inline(pixels: np.ndarray, most: int = 96) -> str:
    return _url("webp", webp_of(pixels, most))


def _url(kind: str, image: bytes) -> str:
    return f"data:image/{kind};base64," + base64.b64encode(image).decode()
