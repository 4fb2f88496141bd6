"""Pictures of filters: score images to which they respond most and least, and optimized images."""

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
from repair_engine.studies.visualize import STEPS, colour_root, visualize
from repair_engine.studies.visualize import Visualization as Optimized
from repair_engine.support.memory import give_back
from repair_engine.support.progress import Progress

SHOWN = 5  # images of each sign
SIDE = 96  # pixels, at most, of a picture's longer side
_COLOUR_IMAGES = 256
_EXACT = 64  # pixels of the longer side, up to which a WebP keeps every one
_MOST_IMAGES = 4000  # score images that are looked at


class Extreme(TypedDict):
    """An image to which a filter responds most (sign 1) or least."""

    sign: int
    response: float
    picture: str
    label: str


class Visualization(TypedDict):
    """An optimized image; `start` is the response to what it began as."""

    sign: int
    response: float
    start: float
    picture: str


class PictureRow(TypedDict):
    """One pictured filter; its mean response over `images` score images, and the range."""

    id: str
    images: int
    mean: float
    range: list[float]
    extremes: list[Extreme]
    visualizations: list[Visualization]


@dataclass(frozen=True)
class Pictures:
    """What is known of the pictured filters.

    Attributes:
        rows: JSON-able, one per filter: id, mean and range of its response, `extremes` and `visualizations`.
        png: name -> PNG; the names stand in the rows.
    """

    rows: list[PictureRow]
    png: dict[str, bytes]

    def source(self, name: str) -> str:
        """A data URL of a picture."""
        return "data:image/png;base64," + base64.b64encode(self.png[name]).decode()


def make_pictures(case: Case, order: np.ndarray, progress: Progress) -> Pictures:
    """Pictures of the first and last filters of an order (most to least critical, int64 [n])."""
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
    for found in optimized(case, drawn, lambda share: progress("optimizing images for filters", share)):
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
    indices, found = responses_to(case, responses, players, progress)
    rows: list[PictureRow] = []
    png: dict[str, bytes] = {}
    for j, player in enumerate(players):
        row: PictureRow = {
            "id": case.subject.network.filter_id(player),
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
                name = case.images.dataset.file_names[index]
                png.setdefault(name, png_of(span.shown(case.images.dataset.images[index])))
                label = case.images.class_names[int(case.images.labels[index])]
                row["extremes"].append({"sign": sign, "response": float(found[i, j]), "picture": name, "label": label})
        rows.append(row)
    return rows, png


def responses_to(
    case: Case, responses: Responses, players: Sequence[int], progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """Dataset indices [N] of score images, and the players' mean responses to them, float64 [N, m]."""
    indices = case.images.splits.score[:: -(-len(case.images.splits.score) // _MOST_IMAGES)]
    found = np.empty((len(indices), len(players)))
    step = case.subject.room.plain
    for i in range(0, len(indices), step):
        pixels = case.images.pixels[torch.from_numpy(indices[i : i + step])].to(case.subject.device)
        found[i : i + step] = responses.means(case.images.normalize(pixels), players).cpu().numpy()
        progress("looking for images that filters respond to", min(i + step, len(indices)) / len(indices))
    return indices, found


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
