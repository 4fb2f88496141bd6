"""Pictures of units: score images to which they respond most and least, and optimized images."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from PIL import Image

from repair_engine.case.case import Case
from repair_engine.data.images import Images
from repair_engine.data.pixels import Rows
from repair_engine.network import Responses
from repair_engine.studies.responding import furthest_from, heat_of, maps_of, responding
from repair_engine.studies.visualize import STEPS, colour_root, visualize
from repair_engine.studies.visualize import Visualization as Optimized
from repair_engine.support.memory import give_back
from repair_engine.support.progress import Progress

SIDE = 96  # pixels, at most, of a picture's longer side
_COLOUR_IMAGES = 256
_EXACT = 64  # pixels of the longer side, up to which a WebP keeps every one


class Extreme(TypedDict):
    """An image to which a unit responds most (sign 1) or least; `heat`: a picture of where, to be laid over it."""

    sign: int
    response: float
    picture: str
    label: str
    heat: str | None


class Visualization(TypedDict):
    """An optimized image; `start` is the response to what it began as."""

    sign: int
    response: float
    start: float
    picture: str


class PictureRow(TypedDict):
    """One pictured unit; its mean response over `images` score images, and the range.

    `grid` (rows, columns) says how its positions lie on an image, None that they do not; `left_out` of them lie nowhere
    (class tokens). With `by_position` the range and the extremes are of single positions, else of an image's means.
    """

    id: str
    kind: str
    grid: list[int] | None
    left_out: int
    by_position: bool
    images: int
    mean: float
    range: list[float]
    extremes: list[Extreme]
    visualizations: list[Visualization]


@dataclass(frozen=True)
class Pictures:
    """What is known of the pictured units.

    Attributes:
        rows: JSON-able, one per unit.
        png: name -> PNG; the names stand in the rows.
    """

    rows: list[PictureRow]
    png: dict[str, bytes]

    def source(self, name: str) -> str:
        """A data URL of a picture."""
        return "data:image/png;base64," + base64.b64encode(self.png[name]).decode()


def make_pictures(case: Case, order: np.ndarray, progress: Progress) -> Pictures:
    """Pictures of the first and last units of an order (most to least critical, int64 [n])."""
    asked = case.settings.explain
    assert asked is not None
    shown, drawn = _ends(order, asked.pictures), _ends(order, asked.visualize)
    players = list(dict.fromkeys([*shown, *drawn]))
    if not players:
        return Pictures([], {})
    responses = Responses(case.subject.network)
    span = Span.of(case.images, score_sample(case.images))
    rows, png = _extremes(case, responses, players, set(shown), span, progress)
    give_back()
    for found in optimized(case, drawn, lambda share: progress("optimizing images for units", share)):
        row = rows[players.index(found.player)]
        name = f"{row['id']} {'+' if found.sign > 0 else '-'}"
        png[name] = png_of(found.pixels, most=224)
        row["visualizations"].append(
            {"sign": found.sign, "response": found.response, "start": found.start, "picture": name}
        )
    return Pictures(rows, png)


def optimized(case: Case, players: Sequence[int], told: Callable[[float], None]) -> Iterator[Optimized]:
    """For each player two optimized images, of a positive response and of a negative one.

    Args:
        told: after each step the share that is done.
    """
    if not players:
        return
    responses, sample = Responses(case.subject.network), score_sample(case.images)
    span = Span.of(case.images, sample)
    _, height, width = case.images.shape
    colours = colour_root(sample, span.unit)
    total, done = len(players) * 2 * STEPS, 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        told(done / total)

    for player in players:
        for sign in (1, -1):
            yield visualize(
                responses, player, sign, colours, (height, width), span.input, case.settings.seed, tick=tick
            )


@dataclass(frozen=True)
class Span:
    """What images as they lie in memory are to the eye, where they are normalized already: their range is 0 to 1.

    Attributes:
        images: that these are.
        low, high: float32 [C, 1, 1], per channel; 0 and 1 for pixels.
    """

    images: Images
    low: torch.Tensor
    high: torch.Tensor

    @classmethod
    def of(cls, images: Images, sample: Rows) -> Span:
        """By some of the images."""
        if not images.dataset.preprocessing.normalized:
            return cls(images, torch.zeros(1), torch.ones(1))
        pixels = sample.clone()
        low, high = pixels.amin((0, 2, 3)), pixels.amax((0, 2, 3))
        return cls(images, low[:, None, None], torch.maximum(high, low + 1e-6)[:, None, None])

    def unit(self, pixels: torch.Tensor) -> torch.Tensor:
        """Images [..., C, H, W] -> float64 in [0, 1]."""
        if not pixels.is_floating_point():
            return pixels.double().div(255)
        return ((pixels.double() - self.low) / (self.high - self.low)).clamp(0, 1)

    def input(self, unit: torch.Tensor) -> torch.Tensor:
        """float32 in [0, 1] -> the network's input, differentiable."""
        if not self.images.dataset.preprocessing.normalized:
            return self.images.normalize(unit)
        return unit * (self.high - self.low).to(unit.device) + self.low.to(unit.device)

    def shown(self, pixels: np.ndarray) -> np.ndarray:
        """One image [C, H, W] as uint8."""
        if pixels.dtype == np.uint8:
            return pixels
        shown: np.ndarray = self.unit(torch.from_numpy(np.array(pixels))).mul(255).round().to(torch.uint8).numpy()
        return shown


def _ends(order: np.ndarray, count: int) -> list[int]:
    count = min(count, len(order) // 2)
    return [int(p) for p in (*order[:count], *order[len(order) - count :][::-1])]


def _extremes(
    case: Case, responses: Responses, players: list[int], shown: set[int], span: Span, progress: Progress
) -> tuple[list[PictureRow], dict[str, bytes]]:
    network, rows = case.subject.network, list[PictureRow]()
    png: dict[str, bytes] = {}
    for player, found in zip(players, responding(case, responses, players, progress), strict=True):
        unit, grid = network.filter_id(player), found.grid
        row: PictureRow = {
            "id": unit,
            "kind": network.kind(player),
            "grid": None if grid is None else [grid.height, grid.width],
            "left_out": 0 if grid is None else grid.left_out,
            "by_position": found.by_position,
            "images": len(found.indices),
            "mean": float(found.mean.mean()),
            "range": found.range,
            "extremes": [],
            "visualizations": [],
        }
        ends = found.ends() if player in shown else []
        maps = [maps_of(case, responses, player, indices) for _, indices, _ in ends]
        furthest = furthest_from(row["mean"], [one for one in maps if one is not None])
        for (sign, indices, values), of_images in zip(ends, maps, strict=True):
            for i, (index, value) in enumerate(zip(indices.tolist(), values.tolist(), strict=True)):
                name = case.images.dataset.file_names[index]
                png.setdefault(name, png_of(span.shown(case.images.dataset.images[index])))
                heat = None
                if of_images is not None:
                    heat = f"{unit} on {name}"
                    png[heat] = heat_of(of_images[i], row["mean"], furthest)
                label = case.images.class_names[int(case.images.labels[index])]
                row["extremes"].append({"sign": sign, "response": value, "picture": name, "label": label, "heat": heat})
        rows.append(row)
    return rows, png


def score_sample(images: Images) -> Rows:
    """Some score images, by which colours and their range are judged."""
    rows = images.splits.score
    return Rows(images.pixels, rows[:: max(1, len(rows) // _COLOUR_IMAGES)][:_COLOUR_IMAGES])


def png_of(pixels: np.ndarray, most: int = SIDE) -> bytes:
    """A PNG of pixels uint8 [C, H, W], at most `most` pixels long; of two or four channels the last is left out."""
    out = io.BytesIO()
    _image(pixels, most).save(out, "PNG", optimize=True)
    return out.getvalue()


def webp_of(pixels: np.ndarray, most: int = SIDE) -> bytes:
    """The same as WebP, a tenth as large where it is more than a few pixels."""
    out, image = io.BytesIO(), _image(pixels, most)
    image.save(out, "WEBP", quality=80, lossless=max(image.size) <= _EXACT)
    return out.getvalue()


def _image(pixels: np.ndarray, most: int) -> Image.Image:
    array = np.asarray(pixels)
    array = array[:3] if len(array) >= 3 else array[:1]
    image = Image.fromarray(array[0] if len(array) == 1 else np.ascontiguousarray(array.transpose(1, 2, 0)))
    image.thumbnail((most, most))
    return image
