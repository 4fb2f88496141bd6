"""What an attack does: norm, ε, steps, aim, after a preset and what was given in its place."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, TypedDict, cast

import numpy as np

from repair_engine.errors import BadInput
from repair_engine.settings import Attack, Pgd


class AttackRecord(TypedDict):
    """`AttackSettings` in documents."""

    preset: str
    epsilon: float
    step: float
    steps: int
    targeted: bool
    random_start: bool
    restarts: int
    norm: str
    given: list[str]


@dataclass(frozen=True)
class AttackSettings:
    """A PGD attack, and the ball in which any other attack is held to compare with it.

    Attributes:
        preset: "paper" or "standard", for the record.
        epsilon, step: in pixel units of [0, 1]; with "l2" the Euclidean length over all pixels and channels.
        steps: gradient steps.
        targeted: at a random class ≠ label; else away from the label.
        random_start: uniform in the ε-ball.
        restarts: independent random starts (a success in any counts).
        norm: "linf" or "l2".
        given: which of these the caller gave, for the record; the others are the preset's.
    """

    preset: str
    epsilon: float
    step: float
    steps: int
    targeted: bool
    random_start: bool
    restarts: int = 1
    norm: str = "linf"
    given: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "given", tuple(self.given))  # JSON has lists

    @classmethod
    def of(
        cls,
        preset: str,
        epsilon: float | None = None,
        steps: int | None = None,
        *,
        norm: str | None = None,
        step: float | None = None,
        restarts: int | None = None,
        targeted: bool | None = None,
        random_start: bool | None = None,
        zero: bool = False,
    ) -> AttackSettings:
        """`asked` of these options; `zero`: ε = 0 is allowed (an attack that must change nothing)."""
        kind = Attack if zero else Pgd
        return cls.asked(
            kind(
                attack=preset,  # type: ignore[arg-type]
                norm=norm,  # type: ignore[arg-type]
                epsilon=epsilon,
                steps=steps,
                step_size=step,
                restarts=restarts,
                targeted=targeted,
                random_start=random_start,
            )
        )

    @classmethod
    def asked(cls, asked: Pgd) -> AttackSettings:
        """A preset with its own figures, or the caller's.

        `paper` (Ghorbani & Zou 2020, §4): ℓ∞, ε = 16/255, targeted, 30 steps of 0.8/255, no random start.
        `standard`: ℓ∞, ε = 8/255, untargeted, 20 steps of 2.5·ε/steps, random start.
        Where ε or the steps are given and the step size is not, all steps together keep their ratio to ε.
        """
        chosen = {
            "paper": cls("paper", 16 / 255, 0.8 / 255, 30, targeted=True, random_start=False),
            "standard": cls("standard", 8 / 255, 2.5 * 8 / 255 / 20, 20, targeted=False, random_start=True),
        }[asked.attack]
        own = {
            "epsilon": asked.epsilon, "steps": asked.steps, "norm": asked.norm, "step": asked.step_size,
            "restarts": asked.restarts, "targeted": asked.targeted, "random_start": asked.random_start,
        }  # fmt: skip
        given: dict[str, Any] = {name: value for name, value in own.items() if value is not None}
        scale = 1.0
        if asked.epsilon is not None:
            scale = asked.epsilon / chosen.epsilon
        if asked.steps is not None:
            scale = scale * chosen.steps / asked.steps
        # The product of step size and step count keeps its ratio to ε.
        return replace(chosen, **{"step": chosen.step * scale, **given}, given=tuple(given))

    def at(self, epsilon: float | None = None, steps: int | None = None) -> AttackSettings:
        """The same attack with another ε ≥ 0 or number of steps; all steps together keep their ratio to ε."""
        wanted = self.epsilon if epsilon is None else epsilon
        count = self.steps if steps is None else steps
        reach = self.step * self.steps / self.epsilon if self.epsilon else 2.5
        return replace(self, epsilon=wanted, steps=count, step=reach * wanted / count)

    def check_images(self, shape: tuple[int, ...]) -> None:
        """Raises BadInput where an ℓ2 ε is longer than the diagonal of images [C, H, W], so in another unit."""
        longest = math.sqrt(math.prod(shape))
        if self.norm == "l2" and self.epsilon > longest:
            size = "×".join(map(str, shape))
            raise BadInput(
                f"--epsilon {self.epsilon:g} is longer than any change of a {size} image ({longest:.1f} in pixels of "
                "[0, 1]).",
                f"An ℓ2 ε given for pixels of 0 to 255 is divided by 255: {self.epsilon / 255:g}.",
            )

    def check_logits(self, logits: int) -> None:
        """Raises BadInput where a target was asked of a single logit, which knows one other class only."""
        if logits == 1 and self.targeted and "targeted" in self.given:
            raise BadInput(
                "--targeted: the network has a single logit, so there is one other class, and an attack at it is the "
                "untargeted attack.",
                "Give --untargeted.",
            )

    def to_json(self) -> AttackRecord:
        return cast(AttackRecord, {**asdict(self), "given": list(self.given)})


def random_targets(labels: np.ndarray, classes: int, rng: np.random.Generator) -> np.ndarray:
    """One class ≠ label per image, uniform, int64 [N]."""
    return (labels + rng.integers(1, classes, size=len(labels))) % classes
