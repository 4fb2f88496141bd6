"""Success against ε and against steps: the first must start at the clean images and grow, the second should grow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch

from repair_engine.question.attacks import AttackSettings
from repair_engine.question.victims import AttackImages, Victim, white_box
from repair_engine.studies.attack_rows import Rates, rates

_EPSILONS = (0.0, 0.25, 0.5, 1.0, 2.0)
_STEPS = (0.25, 0.5, 1.0, 2.0)


class PointRecord(Rates, total=False):
    """One point: its ε, or its steps, with the rates there."""

    epsilon: float
    steps: int


class CurvesRecord(TypedDict):
    """`Curves` in documents."""

    n: int
    epsilon: list[PointRecord]
    steps: list[PointRecord]


@dataclass(frozen=True)
class Point:
    """One point of a curve: the attack's settings and the predictions on its images, int64 [N]."""

    settings: AttackSettings
    predicted: np.ndarray


@dataclass(frozen=True)
class Curves:
    """Success of PGD on the same images with other ε (same steps) and with other steps (same ε)."""

    images: AttackImages
    epsilons: tuple[Point, ...]
    steps: tuple[Point, ...]

    def to_json(self) -> CurvesRecord:
        return {
            "n": len(self.images),
            "epsilon": [{"epsilon": p.settings.epsilon, **rates(self.images, p.predicted)} for p in self.epsilons],
            "steps": [{"steps": p.settings.steps, **rates(self.images, p.predicted)} for p in self.steps],
        }


def forwards(settings: AttackSettings) -> int:
    """Gradient steps per image that the curves take beyond the main attack."""
    wanted = [a.steps for a in (*epsilon_settings(settings), *step_settings(settings)) if a != settings and a.epsilon]
    return sum(wanted) * settings.restarts


def epsilon_settings(settings: AttackSettings) -> list[AttackSettings]:
    """The attack at 0, ε/4, ε/2, ε and 2ε; at 0 alone where ε is 0. ℓ∞ ends at 1."""
    most = 1.0 if settings.norm == "linf" else np.inf
    wanted = sorted({min(share * settings.epsilon, most) for share in _EPSILONS})
    return [settings if e == settings.epsilon else settings.at(epsilon=e) for e in wanted]


def step_settings(settings: AttackSettings) -> list[AttackSettings]:
    """The attack in 1, s/4, s/2, s and 2s steps that reach equally far in all."""
    wanted = sorted({1, *(max(round(share * settings.steps), 1) for share in _STEPS)})
    return [settings if s == settings.steps else settings.at(steps=s) for s in wanted] if settings.epsilon else []


def measure_curves(
    victim: Victim,
    images: AttackImages,
    settings: AttackSettings,
    known: np.ndarray,
    seed: int,
    tick: Callable[[int], None] | None = None,
) -> Curves:
    """Both curves.

    Args:
        known: predictions under the attack as it was asked for, which need not be made again.
        seed: of the random starts, anew for every point.
    """

    def point(asked: AttackSettings) -> Point:
        if asked == settings:
            return Point(asked, known)
        made = white_box(
            victim.logits, images, asked, torch.Generator().manual_seed(seed), victim.device,
            (lambda n: tick(n * asked.steps)) if tick and asked.epsilon else None,
        )  # fmt: skip
        return Point(asked, victim.predict(made))

    epsilons = tuple(point(asked) for asked in epsilon_settings(settings))
    return Curves(images, epsilons, tuple(point(asked) for asked in step_settings(settings)))
