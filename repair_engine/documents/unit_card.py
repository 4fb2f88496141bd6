"""One unit by itself: what ablating it alone does on *select*, what it responds to, and an image made for it.

Nothing here looks at the report images.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import NotRequired, TypedDict

import numpy as np
import torch

from repair_engine.case.case import Case
from repair_engine.choosing.plan import prefix_predictions
from repair_engine.data.before import small_columns
from repair_engine.data.pixels import Pixels
from repair_engine.documents.measures import change_of_accuracy, gain, group_table
from repair_engine.documents.records import Change, GroupRow
from repair_engine.network import Responses
from repair_engine.studies.pictures import Span, optimized, responses_to, score_sample, webp_of
from repair_engine.support.progress import Progress

SHOWN = 5  # images of each end
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
    and without it; or the unit's response, and where it is the strongest: x and y in [0, 1]."""

    file: str
    label: str
    before: NotRequired[str]
    after: NotRequired[str]
    response: NotRequired[float]
    at: NotRequired[list[float] | None]


class ResponseRecord(TypedDict):
    """Responses to so many score images."""

    images: int
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
        "accuracy": _changed(right.mean(axis=1), change_of_accuracy(right[0], right[1], labels, seed, level)),
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
    indices, found = responses_to(case, responses, [player], progress)
    order = np.argsort(-found[:, 0], kind="stable")
    count = min(SHOWN, len(order) // 2)
    ends = {"most": order[:count], "least": order[::-1][:count]}
    rows: dict[str, list[Shown]] = {}
    for end, at in ends.items():
        places = _places(case, responses, player, indices[at], 1 if end == "most" else -1)
        rows[end] = [
            {
                "file": album.show(int(indices[i])),
                "label": case.images.class_names[int(case.images.labels[indices[i]])],
                "response": float(found[i, 0]),
                "at": place,
            }
            for i, place in zip(at, places, strict=True)
        ]
    return {
        "images": len(indices),
        "mean": float(found[:, 0].mean()),
        "range": [float(found[:, 0].min()), float(found[:, 0].max())],
        "most": rows["most"],
        "least": rows["least"],
    }


def _places(
    case: Case, responses: Responses, player: int, indices: np.ndarray, sign: int
) -> Sequence[list[float] | None]:
    """Where in each image the unit responds most strongly: x and y in [0, 1]; None where its outputs have no place."""
    if not len(indices):
        return []
    network = case.subject.network
    site = int(network.site_of(np.array([player]))[0])
    with torch.inference_mode():
        images = case.images.normalize(case.images.pixels[torch.from_numpy(indices)].to(network.device))
        maps = responses.maps(images, site)[:, network.channel(player)].cpu().numpy()
    height, width = maps.shape[1:]
    if height < 2 or width < 2:
        return [None] * len(indices)
    at = (sign * maps).reshape(len(maps), -1).argmax(1)
    return [[(int(i) % width + 0.5) / width, (int(i) // width + 0.5) / height] for i in at]


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
    return "data:image/webp;base64," + base64.b64encode(webp_of(pixels, most)).decode()
