"""One unit by itself: what ablating it alone does on *select*, what it responds to, and an image made for it.

Nothing here looks at the report images.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from repair_engine.case.case import Case
from repair_engine.case.mean_constants import means_of
from repair_engine.choosing.plan import prefix_predictions
from repair_engine.documents.measures import group_table
from repair_engine.network import Responses, stored_constants
from repair_engine.question.objectives import cell_codes, metric_weights
from repair_engine.question.objectives.pixels import Rows
from repair_engine.studies.pictures import Span, optimized, responses_to, score_sample, webp_of
from repair_engine.support.progress import Progress
from repair_engine.support.statistics import paired_bootstrap

MOST_IMAGES = 4000  # select images that are looked at
SHOWN = 5  # images of each end
FLIPPED = 5  # images that change from right to wrong, and the other way round
MOST_VALUES = 12  # of a metadata column whose values are subgroups
MOST_COLUMNS = 4
MOST_ROWS = 100


def effect(case: Case, unit: str, constant: float, progress: Progress) -> dict[str, Any]:
    """What ablating one unit does, and the score images to which it responds most and least; JSON-able.

    Args:
        case: without constants (`preparing.read_case`) or with.
        unit: `site:channel`.
        constant: what ablation puts in its place; of a head, which has several, they are computed anew.

    Raises:
        BadInput: the network has no such unit.
    """
    player = case.network.player(unit)
    _set_constant(case, player, constant, progress)
    album = _Album(case)
    found = _ablated(case, player, album, progress)
    found["responses"] = _responses(case, player, album, progress)
    return found | {"pictures": album.pictures, "shape": [int(side) for side in case.dataset.images.shape[2:]]}


def picture(case: Case, unit: str, progress: Progress) -> dict[str, Any]:
    """Images that make one unit respond as strongly as possible, in either direction; JSON-able. Raises BadInput."""
    player = case.network.player(unit)
    rows = optimized(case, [player], lambda share: progress("optimizing two images", share))
    return {
        "rows": [
            {"sign": one.sign, "start": one.start, "response": one.response, "picture": _inline(one.pixels, most=224)}
            for one in rows
        ]
    }


def _set_constant(case: Case, player: int, constant: float, progress: Progress) -> None:
    """Only the one unit is ever absent: no other's constant is asked for."""
    network = case.network
    outputs = network.numbering.outputs_of(np.array([player]))[0]
    if len(outputs) == 1:
        network.constants[int(outputs[0])] = constant
    elif bool(network.constants[torch.from_numpy(outputs).to(network.device)].isnan().any()):
        betas = case.checkpoint.tensors if case.request.constant == "bn_beta" else None
        means = means_of(case, progress).values
        network.constants = stored_constants(network, means, case.checkpoint.dtypes, betas)[0].to(network.device)


def _ablated(case: Case, player: int, album: _Album, progress: Progress) -> dict[str, Any]:
    every = case.indices("select")
    indices = every[:: -(-len(every) // MOST_IMAGES)]
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        progress("ablating it on the select images", done / (2 * len(indices)))

    pixels = Rows(case.pixels, indices)
    predicted = prefix_predictions(case.network, pixels, case.normalize, [player], tick, case.room)
    labels = case.dataset.labels[indices]
    right = predicted == labels
    seed, level = case.request.seed, case.request.level
    subgroups = [case.subgroups[i] for i in indices] if case.subgroups is not None else None
    cells = cell_codes(labels, subgroups)

    def change(weights: np.ndarray) -> dict[str, Any]:
        used = weights > 0
        interval = paired_bootstrap(right[0][used], right[1][used], weights[used], cells[used], seed, level=level)
        values = [float(weights[used] @ one[used]) for one in right]
        return {"before": values[0], "after": values[1], "change": interval.estimate, "lower": interval.lower,
                "upper": interval.upper}  # fmt: skip

    names = case.dataset.class_names
    metric = case.request.metric
    weights = None if metric.attacked else metric_weights(metric, labels, subgroups, names)
    groups = [{"title": "class", "rows": _rows(group_table(names, right[0], right[1], labels))}]
    for title, values in _columns(case, indices):
        known, codes = np.unique(values, return_inverse=True)
        groups.append({"title": title, "rows": _rows(group_table([*map(str, known)], right[0], right[1], codes))})
    return {
        "images": len(indices),
        "of": len(every),
        "level": level,
        "metric": None if weights is None else change(weights),
        "accuracy": change(np.full(len(labels), 1 / len(labels))),
        "groups": groups,
        "turned_right": _flipped(case, indices, predicted, ~right[0] & right[1], album),
        "turned_wrong": _flipped(case, indices, predicted, right[0] & ~right[1], album),
        "turned_right_count": int((~right[0] & right[1]).sum()),
        "turned_wrong_count": int((right[0] & ~right[1]).sum()),
    }


def _rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that change most come first."""
    ordered = sorted(rows, key=lambda row: (-abs(row["change"]), -row["won"] - row["lost"]))[:MOST_ROWS]
    return [{key: row[key] for key in ("name", "n", "before", "after", "change", "won", "lost", "size")}
            for row in ordered]  # fmt: skip


def _columns(case: Case, indices: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """The metric's own subgroups; where it has none, the metadata columns of few values."""
    if case.subgroups is not None:
        return [(case.request.metric.argument, np.asarray([case.subgroups[i] for i in indices]))]
    found: list[tuple[str, np.ndarray]] = []
    for name, values in case.dataset.attributes.items():
        if 1 < len(set(values)) <= MOST_VALUES and len(found) < MOST_COLUMNS:
            found.append((name, np.asarray([values[i] for i in indices])))
    return found


def _flipped(
    case: Case, indices: np.ndarray, predicted: np.ndarray, which: np.ndarray, album: _Album
) -> list[dict[str, Any]]:
    names = case.dataset.class_names
    rows = []
    for i in np.flatnonzero(which)[:FLIPPED]:
        index = int(indices[i])
        before, after = (names[int(predicted[k, i])] for k in (0, 1))
        label = names[int(case.dataset.labels[index])]
        rows.append({"file": album.show(index), "label": label, "before": before, "after": after})
    return rows


def _responses(case: Case, player: int, album: _Album, progress: Progress) -> dict[str, Any]:
    responses = Responses(case.network)
    indices, found = responses_to(case, responses, [player], progress)
    order = np.argsort(-found[:, 0], kind="stable")
    count = min(SHOWN, len(order) // 2)
    ends = {"most": order[:count], "least": order[::-1][:count]}
    rows = {}
    for end, at in ends.items():
        places = _places(case, responses, player, indices[at], 1 if end == "most" else -1)
        rows[end] = [
            {
                "file": album.show(int(indices[i])),
                "label": case.dataset.class_names[int(case.dataset.labels[indices[i]])],
                "response": float(found[i, 0]),
                "at": place,
            }
            for i, place in zip(at, places, strict=True)
        ]
    return {
        "images": len(indices),
        "mean": float(found[:, 0].mean()),
        "range": [float(found[:, 0].min()), float(found[:, 0].max())],
        **rows,
    }


def _places(
    case: Case, responses: Responses, player: int, indices: np.ndarray, sign: int
) -> Sequence[list[float] | None]:
    """Where in each image the unit responds most strongly: x and y in [0, 1]; None where its outputs have no place."""
    if not len(indices):
        return []
    network = case.network
    site = int(network.site_of(np.array([player]))[0])
    with torch.inference_mode():
        images = case.normalize(case.pixels[torch.from_numpy(indices)].to(network.device))
        maps = responses.maps(images, site)[:, network.channel(player)].cpu().numpy()
    height, width = maps.shape[1:]
    if height < 2 or width < 2:
        return [None] * len(indices)
    at = (sign * maps).reshape(len(maps), -1).argmax(1)
    return [[(int(i) % width + 0.5) / width, (int(i) // width + 0.5) / height] for i in at]


class _Album:
    """Pictures of images as the network is given them, each once: file name -> data URL."""

    def __init__(self, case: Case) -> None:
        self.case, self.span = case, Span.of(case, score_sample(case))
        self.pictures: dict[str, str] = {}

    def show(self, index: int) -> str:
        """The name under which an image of the dataset is kept."""
        name: str = self.case.dataset.file_names[index]
        if name not in self.pictures:
            self.pictures[name] = _inline(self.span.shown(self.case.dataset.images[index]))
        return name


def _inline(pixels: np.ndarray, most: int = 96) -> str:
    return "data:image/webp;base64," + base64.b64encode(webp_of(pixels, most)).decode()
