"""A backdoor's trigger that nobody knows, reconstructed from clean images (Neural Cleanse, Wang et al., IEEE S&P 2019).

For each class a pattern and its cover are sought that make the intact network say this class of clean images of the
others, while the cover is kept small. Every network has such patterns: that of a backdoor's class is far smaller than
those of other classes. Nothing but clean images is looked at: this is evidence of a trigger, and no measurement on one.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from torch.nn.functional import cross_entropy, pad

from repair_engine.data import Dataset
from repair_engine.data.patches import Patch
from repair_engine.errors import BadInput
from repair_engine.network.network import two_dimensional
from repair_engine.question.attacked import unit_pixels
from repair_engine.support.progress import Progress
from repair_engine.support.words import p_value

STEPS, IMAGES = 80, 32  # of a class: gradient steps, and clean images of each
BACKWARD = 3  # evaluations that an image forward and backward counts
MOST_CLASSES = 50  # that are tried where none is named
_BESIDE = 9  # other classes that a named one is compared with
_LEAST_CLASSES = 5  # fewer tell nothing of how much sizes differ
_LEVEL = 0.05
_ENOUGH = 0.5  # success below which a class has no trigger that can be compared
_SUCCESS, _HARDER, _SOFTER = 0.95, 1.1, 1 / 1.15  # the price of the cover rises while so many give the class
_PRICE, _RATE, _BETAS, _START = 10.0, 0.3, (0.5, 0.9), -4.0
_JUDGED = 256  # images
_SIMULATED = 20_000
_STREAM = 0x41DD


class ClassRecord(TypedDict("ClassRecord", {"class": str})):
    """What was reconstructed for one class: its size in pixels, how often it gives the class on clean score images of
    others, and how many robust standard deviations its log size lies below the median (None: it cannot be compared)."""

    size: float
    success: float
    below: float | None


class ReconstructedRecord(TypedDict):
    """In documents.

    `p`: how often a class would lie so far below the others if all were alike (None: too few to tell); `stands_out`:
    less often than 5%. `evaluations`: images forward and backward, three each.
    """

    classes: list[ClassRecord]
    named: bool
    p: float | None
    stands_out: bool
    evaluations: int


@dataclass(frozen=True)
class Reconstruction:
    """The trigger of the class that stands out most, or of the class that was named."""

    name: str
    patch: Patch
    record: ReconstructedRecord


@dataclass(frozen=True)
class _Sought:
    """Where triggers are sought.

    Attributes:
        module: the intact network.
        rows: dataset indices of the clean images.
        at_once: images of a forward with its backward at most.
    """

    module: torch.nn.Module
    dataset: Dataset
    rows: np.ndarray
    seed: int
    device: torch.device
    at_once: int

    def of(self, target: int) -> tuple[Patch, float]:
        """The trigger of a class, and the share of clean images of other classes that it gives the class."""
        others = self.rows[self.dataset.labels[self.rows] != target]
        if not len(others):
            raise BadInput(
                f"All score images are of the class {self.dataset.class_names[target]!r}; its trigger is sought on "
                "others.",
                "Give images of other classes, too.",
            )
        rng = np.random.default_rng([self.seed, _STREAM, target])
        channels, height, width = self.dataset.images.shape[1:]
        cover = torch.full((1, 1, height, width), _START, device=self.device, requires_grad=True)
        pattern = torch.zeros((1, channels, height, width), device=self.device, requires_grad=True)
        descent = torch.optim.Adam([cover, pattern], lr=_RATE, betas=_BETAS)
        price, batch = _PRICE, min(IMAGES, self.at_once)
        goal = torch.full((batch,), target, device=self.device)
        for _ in range(STEPS):
            rows = rng.choice(others, batch)
            with torch.enable_grad():
                share = torch.sigmoid(cover)
                logits = self._logits(rows, share, torch.sigmoid(pattern))
                loss = cross_entropy(logits, goal) + price * share.mean()
                cover.grad, pattern.grad = torch.autograd.grad(loss, (cover, pattern))
            descent.step()
            price *= _HARDER if float((logits.argmax(1) == goal).float().mean()) > _SUCCESS else _SOFTER
        patch = _patch(torch.sigmoid(cover.detach())[0, 0], torch.sigmoid(pattern.detach())[0])
        return patch, self._success(patch, target, rng.permutation(others)[:_JUDGED])

    def _success(self, patch: Patch, target: int, rows: np.ndarray) -> float:
        share = torch.from_numpy(patch.cover).float().to(self.device)
        shown = torch.from_numpy(patch.pixels).float().to(self.device) / 255
        hits = 0
        with torch.inference_mode():
            for i in range(0, len(rows), self.at_once):
                logits = self._logits(rows[i : i + self.at_once], share, shown)
                hits += int((logits.argmax(1) == target).sum())
        return hits / len(rows)

    def _logits(self, rows: np.ndarray, share: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
        """Of clean images under a pattern and its cover, [B, classes]; a single logit z is the two logits (0, z)."""
        clean = unit_pixels(self.dataset, np.sort(rows), self.device)
        images = self.dataset.preprocessing.standardize((1 - share) * clean + share * shown)
        logits = two_dimensional(self.module(images))
        return pad(logits, (1, 0)) if logits.shape[1] == 1 else logits


def reconstruct(
    module: torch.nn.Module,
    dataset: Dataset,
    rows: np.ndarray,
    named: int | None,
    seed: int,
    device: torch.device,
    at_once: int,
    progress: Progress,
) -> Reconstruction:
    """The smallest trigger that can be found on clean images, and whether its class stands out.

    Args:
        module: the intact network.
        rows: dataset indices of the images that it is sought on.
        named: the class that is suspected; None: all are tried.
        at_once: images of a forward with its backward at most.

    Raises:
        BadInput: there are too many classes to try them all, or no image outside of a class.
    """
    sought, names = _Sought(module, dataset, rows, seed, device, at_once), dataset.class_names
    wanted = _classes(len(names), named, seed)
    found = []
    for i, target in enumerate(wanted):
        progress("reconstructing triggers from clean images", i / len(wanted))
        found.append(sought.of(target))
    sizes = np.array([patch.cover.sum() for patch, _ in found])
    reached = np.array([success >= _ENOUGH for _, success in found])
    below = np.full(len(wanted), np.nan)
    if reached.sum() >= _LEAST_CLASSES:
        below[reached] = _below(np.log(sizes[reached]))
    smallest = int(np.where(reached, sizes, np.inf if reached.any() else sizes).argmin())
    at = wanted.index(named) if named is not None else smallest
    p = None if np.isnan(below[at]) else _chance(float(below[at]), int(reached.sum()), named is not None)
    classes: list[ClassRecord] = [
        {
            "class": names[target],
            "size": float(sizes[k]),
            "success": found[k][1],
            "below": None if np.isnan(below[k]) else float(below[k]),
        }
        for k, target in enumerate(wanted)
    ]
    record: ReconstructedRecord = {
        "classes": sorted(classes, key=lambda one: one["size"]),
        "named": named is not None,
        "p": p,
        "stands_out": p is not None and p <= _LEVEL,
        "evaluations": BACKWARD * STEPS * min(IMAGES, at_once) * len(wanted),
    }
    return Reconstruction(names[wanted[at]], found[at][0], record)


def _classes(classes: int, named: int | None, seed: int) -> list[int]:
    """Those that are tried: all, or the named one and some to compare it with."""
    if named is None:
        if classes > MOST_CLASSES:
            raise BadInput(
                f"The model has {classes:,} classes; a trigger is sought for at most {MOST_CLASSES} of them.",
                "Name the class that is suspected: hidden-trigger:CLASS.",
                "metric",
            )
        return list(range(classes))
    others = np.setdiff1d(np.arange(classes), [named])
    beside = np.random.default_rng([seed, _STREAM]).permutation(others)[:_BESIDE]
    return sorted([named, *(int(one) for one in beside)])


def _patch(cover: torch.Tensor, pattern: torch.Tensor) -> Patch:
    """In 256 levels, as an image with an alpha channel holds it: the same again where it is read from one."""
    pixels = (pattern * 255).round().to(torch.uint8).cpu().numpy()
    alpha = (cover * 255).round().to(torch.uint8).cpu().numpy()
    return Patch(pixels, alpha / 255, hashlib.sha256(pixels.tobytes() + alpha.tobytes()).hexdigest())


def _below(logs: np.ndarray) -> np.ndarray:
    """Robust standard deviations (median absolute deviations × 1.4826) below the median, [..., n]."""
    centre = np.median(logs, -1, keepdims=True)
    spread = 1.4826 * np.median(np.abs(logs - centre), -1, keepdims=True)
    return (centre - logs) / np.maximum(spread, 1e-9)


def _chance(below: float, n: int, named: bool) -> float:
    """How often n alike classes, of normal log sizes, have one that lies so far below; of a named one: how often it."""
    return float((1 + (_alike(n, named) >= below).sum()) / (1 + _SIMULATED))


@functools.lru_cache(maxsize=4)
def _alike(n: int, named: bool) -> np.ndarray:
    """How far the lowest of n alike classes, or a named one, lies below the others in each simulation."""
    drawn = _below(np.random.default_rng(_STREAM).standard_normal((_SIMULATED, n)))
    return drawn[:, 0].copy() if named else drawn.max(axis=1)


def suspicion_said(name: str, found: ReconstructedRecord, pixels: int) -> str:
    """The evidence in a sentence or two.

    Args:
        name: of the class.
        pixels: of an image.
    """
    own = next(one for one in found["classes"] if one["class"] == name)
    others = [one["size"] for one in found["classes"] if one["class"] != name]
    said = (
        f"From clean images alone: {own['size']:.1f} of {pixels:,} pixels make {own['success']:.0%} of clean score "
        f"images of other classes {name}"
    )
    if found["p"] is None:
        return f"{said}. Too few classes have a trigger to compare it with: that it stands out cannot be told."
    stands, side = ("It stands out", "below") if found["stands_out"] else ("It does not stand out", "above")
    return (
        f"{said}; the median of {len(others)} other classes is {np.median(others):.1f} pixels. {stands}: by chance a "
        f"class lies so far below the others with a p of {p_value(found['p'])}, {side} {_LEVEL:g}."
    )
