"""What an attack may do: norm, ε, steps, aim. Presets are those of the design; everything may be given."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from repair_engine.errors import BadInput

NORMS = ("linf", "l2")
PIXEL_STEP = 1 / 255  # one grey level of one pixel


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
        """A preset with its own figures, or the caller's.

        `paper` (Ghorbani & Zou 2020, §4): ℓ∞, ε = 16/255, targeted, 30 steps of 0.8/255, no random start.
        `standard`: ℓ∞, ε = 8/255, untargeted, 20 steps of 2.5·ε/steps, random start.
        Where ε or the steps are given and the step size is not, all steps together keep their ratio to ε.

        Args:
            zero: ε = 0 is allowed (an attack that must change nothing).

        Raises:
            BadInput: unknown preset or norm; ε outside (0, 1], or as an ℓ2 length below one grey level of one
                pixel; ℓ2 without an ε; steps, step size or restarts that attack nothing; restarts without
                random starts.
        """
        base = {
            "paper": cls("paper", 16 / 255, 0.8 / 255, 30, targeted=True, random_start=False),
            "standard": cls("standard", 8 / 255, 2.5 * 8 / 255 / 20, 20, targeted=False, random_start=True),
        }
        if preset not in base:
            raise BadInput(f"{preset!r} is not an attack preset.", "Presets are: paper, standard.")
        options = {
            "epsilon": epsilon, "steps": steps, "norm": norm, "step": step, "restarts": restarts,
            "targeted": targeted, "random_start": random_start,
        }  # fmt: skip
        given = tuple(name for name, value in options.items() if value is not None)
        chosen = replace(base[preset], given=given)
        _check_ball(norm or "linf", epsilon, zero)
        if steps is not None and steps < 1:
            raise BadInput(f"--steps {steps}: an attack needs at least one step.")
        if step is not None and not (math.isfinite(step) and step > 0):
            raise BadInput(f"--step-size {step:g}: it is a positive length, in pixels of [0, 1].", "2/255 is 0.00784.")
        if restarts is not None and restarts < 1:
            raise BadInput(f"--restarts {restarts}: an attack starts at least once.")
        scale = 1.0
        if epsilon is not None:
            scale, chosen = epsilon / chosen.epsilon, replace(chosen, epsilon=epsilon)
        if steps is not None:
            scale, chosen = scale * chosen.steps / steps, replace(chosen, steps=steps)
        # The product of step size and step count keeps its ratio to ε.
        chosen = replace(chosen, step=chosen.step * scale if step is None else step)
        own = {"norm": norm, "restarts": restarts, "targeted": targeted, "random_start": random_start}
        chosen = replace(chosen, **{name: value for name, value in own.items() if value is not None})  # type: ignore[arg-type]
        if chosen.restarts > 1 and not chosen.random_start:
            raise BadInput(
                f"--restarts {chosen.restarts}: without a random start every restart is the same.",
                "Give --random-start, or --attack standard.",
            )
        return chosen

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

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "given": list(self.given)}


def random_targets(labels: np.ndarray, classes: int, rng: np.random.Generator) -> np.ndarray:
    """One class ≠ label per image, uniform, int64 [N]."""
    return (labels + rng.integers(1, classes, size=len(labels))) % classes


def _check_ball(norm: str, epsilon: float | None, zero: bool) -> None:
    if norm not in NORMS:
        raise BadInput(f"--norm {norm}: attacks are held in linf or l2.")
    if epsilon is None:
        if norm == "l2":
            raise BadInput(
                "--norm l2 needs --epsilon: the presets' ε are of ℓ∞.",
                "0.5 is usual for 32×32 images, 3 for 224×224 (Euclidean length, pixels in [0, 1]).",
            )
        return
    if zero and epsilon == 0:
        return
    if norm == "l2":
        if not (math.isfinite(epsilon) and epsilon > 0):
            raise BadInput(f"--epsilon {epsilon:g}: it is a positive length; with ε = 0 no attack can succeed.")
        if epsilon < PIXEL_STEP:
            raise BadInput(
                f"--epsilon {epsilon:g} with --norm l2 is less than one grey level of one pixel ({PIXEL_STEP:.4f}).",
                "ℓ2 counts the Euclidean length over all pixels, in units of [0, 1]: 0.5 is usual for 32×32 images, 3 "
                "for 224×224.",
            )
        return
    if not 0 < epsilon <= 1:
        raise BadInput(
            f"--epsilon {epsilon:g} lies outside (0, 1], the range of pixels; with ε = 0 no attack can succeed.",
            "8/255 is written 0.03137.",
        )
