"""Pictures of filters: score images to which they respond most and least, and optimized images."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from repair_engine.case.case import Case, Progress
from repair_engine.network import Responses
from repair_engine.question.objectives.pixels import Rows
from repair_engine.studies.visualize import STEPS, colour_root, visualize
from repair_engine.support.memory import give_back

SHOWN = 5  # images of each sign
SIDE = 96  # pixels, at most, of a picture's longer side
_COLOUR_IMAGES = 256
_MOST_IMAGES = 4000  # score images that are looked at


@dataclass(frozen=True)
class Pictures:
    """What is known of the pictured filters.

    Attributes:
        rows: JSON-able, one per filter: id, mean and range of its response, `extremes` and `visualizations`.
        png: name -> PNG; the names stand in the rows.
    """

    rows: list[dict[str, Any]]
    png: dict[str, bytes]

    def source(self, name: str) -> str:
        """A data URL of a picture."""
        return "data:image/png;base64," + base64.b64encode(self.png[name]).decode()


def make_pictures(case: Case, order: np.ndarray, progress: Progress) -> Pictures:
    """Pictures of the first and last filters of an order (most to least critical, int64 [n])."""
    asked = case.request.explain
    assert asked is not None
    shown, drawn = _ends(order, asked.pictures), _ends(order, asked.visualize)
    players = list(dict.fromkeys([*shown, *drawn]))
    if not players:
        return Pictures([], {})
    responses = Responses(case.network)
    rows, png = _extremes(case, responses, players, set(shown), progress)
    give_back()
    total, done = len(drawn) * 2 * STEPS, 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        progress("optimizing images for filters", done / total)

    size = tuple(case.dataset.images.shape[2:])
    colours = colour_root(_score_pixels(case, _COLOUR_IMAGES)) if drawn else torch.empty(0)
    for player in drawn:
        row = rows[players.index(player)]
        for sign in (1, -1):
            found = visualize(
                responses, player, sign, colours, (int(size[0]), int(size[1])), case.normalize, case.request.seed,
                tick=tick,
            )  # fmt: skip
            name = f"{row['id']} {'+' if sign > 0 else '-'}"
            png[name] = png_of(found.pixels, most=224)
            row["visualizations"].append(
                {"sign": sign, "response": found.response, "start": found.start, "picture": name}
            )
    return Pictures(rows, png)


def _ends(order: np.ndarray, count: int) -> list[int]:
    count = min(count, len(order) // 2)
    return [int(p) for p in (*order[:count], *order[len(order) - count :][::-1])]


def _extremes(
    case: Case, responses: Responses, players: list[int], shown: set[int], progress: Progress
) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    indices = case.splits.score[:: -(-len(case.splits.score) // _MOST_IMAGES)]
    found = np.empty((len(indices), len(players)))
    step = case.room.plain
    for i in range(0, len(indices), step):
        pixels = case.pixels[torch.from_numpy(indices[i : i + step])].to(case.network.device)
        found[i : i + step] = responses.means(case.normalize(pixels), players).cpu().numpy()
        progress("looking for images that filters respond to", min(i + step, len(indices)) / len(indices))
    rows: list[dict[str, Any]] = []
    png: dict[str, bytes] = {}
    for j, player in enumerate(players):
        row: dict[str, Any] = {
            "id": case.network.filter_id(player),
            "images": len(indices),
            "mean": float(found[:, j].mean()),
            "range": [float(found[:, j].min()), float(found[:, j].max())],
            "extremes": [],
            "visualizations": [],
        }
        order = np.argsort(-found[:, j], kind="stable")
        count = min(SHOWN, len(order) // 2)
        for sign, at in ((1, order[:count]), (-1, order[::-1][:count])):
            for i in at if player in shown else ():
                index = int(indices[i])
                name = case.dataset.file_names[index]
                png.setdefault(name, png_of(case.dataset.images[index]))
                label = case.dataset.class_names[int(case.dataset.labels[index])]
                row["extremes"].append({"sign": sign, "response": float(found[i, j]), "picture": name, "label": label})
        rows.append(row)
    return rows, png


def _score_pixels(case: Case, most: int) -> Rows:
    rows = case.splits.score
    return Rows(case.pixels, rows[:: max(1, len(rows) // most)][:most])


def png_of(pixels: np.ndarray, most: int = SIDE) -> bytes:
    """A PNG of pixels uint8 [C, H, W], at most `most` pixels long; of two or four channels the last is left out."""
    array = np.asarray(pixels)
    array = array[:3] if len(array) >= 3 else array[:1]
    image = Image.fromarray(array[0] if len(array) == 1 else np.ascontiguousarray(array.transpose(1, 2, 0)))
    image.thumbnail((most, most))
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()
