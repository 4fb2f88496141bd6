"""Self-tests of an attack, and the signs of masked gradients (Athalye, Carlini & Wagner, arXiv 1802.00420, §3.1).

A model whose gradients mislead the adversary looks robust and is not. None of the signs proves it, and their absence
does not prove that there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch

from repair_engine.models.preprocessing import unit
from repair_engine.question.attacks import AttackSettings, random_point
from repair_engine.question.victims import AttackImages, BlackBox, Victim, white_box
from repair_engine.studies.attack_curves import Curves, Point
from repair_engine.support.progress import BATCH
from repair_engine.support.statistics import mcnemar
from repair_engine.support.words import length

_LEVEL = 0.05
_RANDOM_DRAWS = 50
_LEAST_STEPS = 100  # of the unbounded attack


class CheckRecord(TypedDict):
    """`Check` in documents, with the model that it is of: "intact" or "repaired"."""

    key: str
    model: str
    warns: bool
    text: str
    figures: Mapping[str, float | list[float]]


@dataclass(frozen=True)
class Check:
    """One self-test or sign.

    Attributes:
        key: short name, part of the interface.
        warns: the test failed, or the sign was seen.
        text: what was seen, in one or two plain sentences.
        figures: the numbers in the text.
    """

    key: str
    warns: bool
    text: str
    figures: Mapping[str, float | list[float]]

    def to_json(self, model: str) -> CheckRecord:
        return {"key": self.key, "model": model, "warns": bool(self.warns), "text": self.text, "figures": self.figures}


def zero_equals_clean(curves: Curves, clean: np.ndarray) -> Check:
    """ε = 0 changes nothing, image by image. `clean`: predictions of the clean images, int64 [N]."""
    differing = int((curves.epsilons[0].predicted != clean).sum())
    n = len(clean)
    text = f"With ε = 0 the attack leaves all {n} predictions as they are on the clean images."
    if differing:
        text = (
            f"With ε = 0 {differing} of {n} predictions differ from those on the clean images: do not trust this run."
        )
    return Check("epsilon-zero-equals-clean", bool(differing), text, {"n": n, "differing": differing})


def grows_with_epsilon(curves: Curves) -> Check:
    """A larger ε allows all that a smaller one does, so success must not fall, and should rise."""
    success = [curves.images.success(p.predicted) for p in curves.epsilons]
    shown = ", ".join(f"{s.mean():.1%} at ε = {_epsilon(p)}" for p, s in zip(curves.epsilons, success))
    fell = _significant_fall(success)
    still = len(success) > 2 and success[-1].mean() <= success[1].mean() and success[-1].mean() < 1
    if fell is not None:
        a, b = (_epsilon(curves.epsilons[i]) for i in fell)
        text = f"Success falls from ε = {a} to ε = {b} although all that was allowed still is: {shown}."
    elif still:
        text = f"A larger ε does not raise success: {shown}. The attack is too weak, or gradients mislead it."
    else:
        text = f"Success grows with ε, as it must: {shown}."
    return Check("grows-with-epsilon", fell is not None or still, text, _figures(curves.epsilons, success, "epsilon"))


def _epsilon(point: Point) -> str:
    return length(point.settings.epsilon, point.settings.norm)


def grows_with_steps(curves: Curves) -> Check:
    """Iterations beat one step on an honest loss surface."""
    success = [curves.images.success(p.predicted) for p in curves.steps]
    shown = ", ".join(f"{s.mean():.1%} in {p.settings.steps}" for p, s in zip(curves.steps, success))
    fell = _significant_fall([success[0], success[-1]])
    text = f"More steps do not make the attack worse: {shown}."
    if fell is not None:
        text = f"One step succeeds more often than many: {shown}. On an honest loss surface more steps do better."
    return Check("grows-with-steps", fell is not None, text, _figures(curves.steps, success, "steps"))


def black_box_is_not_better(images: AttackImages, white: np.ndarray, black: BlackBox, most: int) -> Check:
    """Whoever sees gradients can do all that one who only asks can."""
    by_white, by_black = images.success(white), images.success(black.predicted)
    only = int((by_black & ~by_white).sum())
    n, both = len(images), (by_white.mean(), by_black.mean())
    text = f"Of {n} images the white-box attack wins {both[0]:.1%}, {most} queries without gradients {both[1]:.1%}; "
    text += f"{only} fall to the queries alone."
    warns = _significant_fall([by_black, by_white]) is not None
    if warns:
        text += " Queries beat gradients: they mislead the attack, or it is too weak; its success is an underestimate."
    figures = {"n": n, "white_box": float(both[0]), "black_box": float(both[1]), "black_box_only": only}
    return Check("black-box-is-not-better", warns, text, figures)


def random_points_are_not_better(
    victim: Victim, images: AttackImages, white: np.ndarray, settings: AttackSettings, seed: int
) -> Check:
    """Random points of the ball must not win where gradients found nothing."""
    rows = np.flatnonzero(~images.success(white))
    left = images.subset(rows)
    generator = torch.Generator().manual_seed(seed)
    won = np.zeros(len(rows), dtype=bool)
    for _ in range(_RANDOM_DRAWS if len(rows) else 0):
        points = [
            random_point(unit(left.pixels[i : i + BATCH]), settings, generator) for i in range(0, len(left), BATCH)
        ]
        won |= left.success(victim.predict(torch.cat(points)))
    found = int(won.sum())
    text = (
        f"{_RANDOM_DRAWS} random points of the ε-ball win {found} of the {len(rows)} images that the white-box attack "
    )
    text += "does not win."
    if found:
        text += " Chance finds what gradients miss: the white-box attack is weaker than it should be."
    figures = {"n": len(rows), "won": found, "draws": _RANDOM_DRAWS}
    return Check("random-points-are-not-better", found > 0, text, figures)


def unbounded_wins_all(victim: Victim, images: AttackImages, settings: AttackSettings, seed: int) -> Check:
    """With the whole range of pixels allowed, every image can be changed into any other: success must be 100%."""
    whole = 1.0 if settings.norm == "linf" else float(np.sqrt(images.pixels[0].numel()))
    wide = settings.at(epsilon=whole, steps=max(2 * settings.steps, _LEAST_STEPS))
    made = white_box(victim.logits, images, wide, torch.Generator().manual_seed(seed), victim.device)
    won = images.success(victim.predict(made))
    text = f"With any change of the pixels allowed ({wide.steps} steps) the attack wins {won.mean():.1%} of {len(won)} "
    text += "images."
    if not won.all():
        text += " It should win all of them: gradients vanish or mislead."
    figures = {"n": len(won), "success": float(won.mean()), "epsilon": whole, "steps": wide.steps}
    return Check("unbounded-wins-all", not bool(won.all()), text, figures)


def _significant_fall(success: list[np.ndarray]) -> tuple[int, int] | None:
    """The first two points of which the later has less success than chance explains (paired, p < 0.05)."""
    for later in range(1, len(success)):
        for earlier in range(later):
            test = mcnemar(success[earlier], success[later])
            if test.lost > test.won and test.p_value < _LEVEL:
                return earlier, later
    return None


def _figures(points: tuple[Point, ...], success: list[np.ndarray], name: str) -> Mapping[str, float | list[float]]:
    values = [getattr(p.settings, name) for p in points]
    return {"n": len(success[0]), name: values, "success": [float(s.mean()) for s in success]}
