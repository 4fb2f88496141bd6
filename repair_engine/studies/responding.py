"""The score images to which units respond most and least, and where on these.

A filter is judged by its mean over positions. A hidden unit or a head of a network that reads tokens is judged token by
token: what it looks for may be one patch among hundreds, which a mean does not show.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from repair_engine.case.case import Case
from repair_engine.network import Grid, Responses
from repair_engine.support.progress import Progress

SHOWN = 5  # images of each sign
_MOST_IMAGES = 4000  # score images that are looked at
_ABOVE, _BELOW = (230, 85, 0), (20, 90, 200)  # colours of heat
_STRONGEST = 190  # its alpha where a response is furthest from the mean


@dataclass(frozen=True)
class Responding:
    """One unit's responses to score images [N].

    Attributes:
        indices: of the images in the dataset, int64 [N].
        mean, most, least: over an image's positions, float64 [N].
        grid: of the positions on an image; None where they have no places.
        by_position: that images are ordered by single positions, not by their means.
    """

    indices: np.ndarray
    mean: np.ndarray
    most: np.ndarray
    least: np.ndarray
    grid: Grid | None
    by_position: bool

    @property
    def range(self) -> list[float]:
        low, high = (self.least, self.most) if self.by_position else (self.mean, self.mean)
        return [float(low.min()), float(high.max())]

    def ends(self) -> list[tuple[int, np.ndarray, np.ndarray]]:
        """(sign, images of the dataset [k], responses [k]) of the largest and of the smallest responses."""
        count = min(SHOWN, len(self.indices) // 2)
        found = []
        for sign, values in ((1, self.most), (-1, self.least)):
            of = values if self.by_position else self.mean
            at = np.argsort(-of, kind="stable")
            at = at[:count] if sign > 0 else at[::-1][:count]
            found.append((sign, self.indices[at], of[at]))
        return found


def responding(case: Case, responses: Responses, players: Sequence[int], progress: Progress) -> list[Responding]:
    """Of each player how it responds to the score images."""
    indices = case.images.splits.score[:: -(-len(case.images.splits.score) // _MOST_IMAGES)]
    found = np.empty((3, len(indices), len(players)))
    step = case.subject.room.plain
    for i in range(0, len(indices), step):
        pixels = case.images.pixels[torch.from_numpy(indices[i : i + step])].to(case.subject.device)
        found[:, i : i + step] = responses.reduced(case.images.normalize(pixels), players).cpu().numpy()
        progress("looking for images that units respond to", min(i + step, len(indices)) / len(indices))
    network, rows = case.subject.network, []
    for j, player in enumerate(players):
        grid = responses.grid(int(network.site_of(np.array([player]))[0]))
        tokens = grid is not None and network.kind(player) != "filter"
        mean, most, least = found[:, :, j]
        rows.append(Responding(indices, mean, most, least, grid, tokens))
    return rows


def maps_of(case: Case, responses: Responses, player: int, indices: np.ndarray) -> np.ndarray | None:
    """A unit's responses [k, h, w] where they lie on some images; None where they have no places there."""
    network = case.subject.network
    site = int(network.site_of(np.array([player]))[0])
    if not len(indices) or responses.grid(site) is None:
        return None
    with torch.inference_mode():
        images = case.images.normalize(case.images.pixels[torch.from_numpy(indices)].to(network.device))
        found: np.ndarray = responses.maps(images, site)[:, network.channel(player)].cpu().numpy()
    return found


def heat_of(found: np.ndarray, middle: float, furthest: float) -> bytes:
    """A PNG of a map's cells [h, w], to be laid over the image: orange above the `middle`, blue below, else clear.

    Args:
        furthest: distance from the middle that is the least transparent.
    """
    away = (found.astype(np.float64) - middle) / (furthest or 1.0)
    cells = np.where((away > 0)[..., None], np.array(_ABOVE), np.array(_BELOW))
    alpha = np.abs(away).clip(0, 1) * _STRONGEST
    out = io.BytesIO()
    pixels = np.concatenate([cells, alpha[..., None]], -1).round().astype(np.uint8)
    Image.fromarray(pixels, "RGBA").save(out, "PNG", optimize=True)
    return out.getvalue()


def furthest_from(middle: float, maps: Sequence[np.ndarray]) -> float:
    return max((float(np.abs(one - middle).max()) for one in maps), default=0.0)
