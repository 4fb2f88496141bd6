"""Projected gradient descent on pixels in [0, 1], before normalization (Madry et al., arXiv 1706.06083)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from repair_engine.errors import BadInput

Tick = Callable[[int], None]


@dataclass(frozen=True)
class AttackSettings:
    """An ℓ∞ PGD attack.

    Attributes:
        preset: "paper" or "standard", for the record.
        epsilon, step: in pixel units of [0, 1].
        steps: gradient steps.
        targeted: at a random class ≠ label; else away from the label.
        random_start: uniform in the ε-ball.
        restarts: independent random starts (a success in any counts).
    """

    preset: str
    epsilon: float
    step: float
    steps: int
    targeted: bool
    random_start: bool
    restarts: int = 1

    @classmethod
    def of(cls, preset: str, epsilon: float | None = None, steps: int | None = None) -> AttackSettings:
        """A preset with its own ε and steps, or the caller's.

        `paper` (Ghorbani & Zou 2020, §4): ε = 16/255, targeted, 30 steps of 0.8/255, no random start.
        `standard`: ε = 8/255, untargeted, 20 steps of 2.5·ε/steps, random start.

        Raises:
            BadInput: unknown preset, ε outside (0, 1] or steps below 1.
        """
        base = {
            "paper": cls("paper", 16 / 255, 0.8 / 255, 30, targeted=True, random_start=False),
            "standard": cls("standard", 8 / 255, 2.5 * 8 / 255 / 20, 20, targeted=False, random_start=True),
        }
        if preset not in base:
            raise BadInput(f"{preset!r} is not an attack preset.", "Presets are: paper, standard.")
        chosen = base[preset]
        if epsilon is not None and not 0 < epsilon <= 1:
            raise BadInput(
                f"--epsilon {epsilon:g} lies outside (0, 1], the range of pixels; with ε = 0 no attack can succeed.",
                "8/255 is written 0.03137.",
            )
        if steps is not None and steps < 1:
            raise BadInput(f"--steps {steps}: an attack needs at least one step.")
        scale = 1.0
        if epsilon is not None:
            scale, chosen = epsilon / chosen.epsilon, replace(chosen, epsilon=epsilon)
        if steps is not None:
            scale, chosen = scale * chosen.steps / steps, replace(chosen, steps=steps)
        # The product of step size and step count keeps its ratio to ε.
        return replace(chosen, step=chosen.step * scale)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def random_targets(labels: np.ndarray, classes: int, rng: np.random.Generator) -> np.ndarray:
    """One class ≠ label per image, uniform, int64 [N]."""
    return (labels + rng.integers(1, classes, size=len(labels))) % classes


def pgd(
    logits: Callable[[torch.Tensor], torch.Tensor],
    pixels: torch.Tensor,
    targets: torch.Tensor,
    settings: AttackSettings,
    generator: torch.Generator,
) -> torch.Tensor:
    """Attacked pixels, float32 [B, C, H, W] within ε of `pixels` and in [0, 1].

    Args:
        logits: pixels in [0, 1] -> logits [B, classes] (or [B, 1]), differentiable, in eval mode.
        pixels: float32 in [0, 1].
        targets: int64 [B]; the adversary's targets, or the labels of an untargeted attack.
        generator: on the CPU, so that every device starts from the same point.
    """
    best = pixels.clone()
    done = torch.zeros(len(pixels), dtype=torch.bool, device=pixels.device)
    for _ in range(settings.restarts):
        attacked = _one_start(logits, pixels, targets, settings, generator)
        with torch.no_grad():
            hit = _predicted(logits(attacked)) == targets
        success = hit if settings.targeted else ~hit
        take = ~done
        best[take] = attacked[take]
        done |= success
    return best


def _one_start(
    logits: Callable[[torch.Tensor], torch.Tensor],
    pixels: torch.Tensor,
    targets: torch.Tensor,
    settings: AttackSettings,
    generator: torch.Generator,
) -> torch.Tensor:
    low, high = (pixels - settings.epsilon).clamp(0, 1), (pixels + settings.epsilon).clamp(0, 1)
    x = pixels.clone()
    if settings.random_start:
        noise = torch.rand(pixels.shape, generator=generator).to(pixels.device)
        x = torch.min(torch.max(x + (2 * noise - 1) * settings.epsilon, low), high)
    sign = -1.0 if settings.targeted else 1.0
    for _ in range(settings.steps):
        x = x.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(_loss(logits(x), targets), x)
        x = torch.min(torch.max(x.detach() + sign * settings.step * gradient.sign(), low), high)
    return x.detach()


def _loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    if logits.dim() == 1 or logits.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(logits.flatten(), targets.float(), reduction="sum")
    return F.cross_entropy(logits, targets, reduction="sum")


def _predicted(logits: torch.Tensor) -> torch.Tensor:
    if logits.dim() == 1 or logits.shape[1] == 1:
        return (logits.flatten() > 0).long()
    return logits.argmax(1)
