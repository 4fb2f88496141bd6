"""Projected gradient descent on pixels in [0, 1], before normalization (Madry et al., arXiv 1706.06083)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from repair_engine.question.attacks.settings import AttackSettings

Logits = Callable[[torch.Tensor], torch.Tensor]


def pgd(
    logits: Logits,
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
            hit = predicted_classes(logits(attacked)) == targets
        success = hit if settings.targeted else ~hit
        take = ~done
        best[take] = attacked[take]
        done |= success
    return best


def random_point(pixels: torch.Tensor, settings: AttackSettings, generator: torch.Generator) -> torch.Tensor:
    """A uniform point of the ε-ball around each image, clipped to [0, 1]."""
    if settings.norm == "linf":
        noise = torch.rand(pixels.shape, generator=generator).to(pixels.device)
        return _project_linf(pixels + (2 * noise - 1) * settings.epsilon, pixels, settings.epsilon)
    direction = torch.randn(pixels.shape, generator=generator)
    radius = torch.rand(len(pixels), generator=generator) ** (1 / pixels[0].numel())
    direction *= (settings.epsilon * radius / lengths(direction)).view(-1, 1, 1, 1)
    return _project_l2(pixels + direction.to(pixels.device), pixels, settings.epsilon)


def skip_starts(shape: tuple[int, ...], settings: AttackSettings, generator: torch.Generator) -> None:
    """Moves the generator on as `pgd` on a batch of this shape [B, C, H, W] does."""
    if settings.random_start:
        for _ in range(settings.restarts):
            random_point(torch.zeros(shape), settings, generator)


def lengths(change: torch.Tensor) -> torch.Tensor:
    """Euclidean length of each image's change, [B]; at least a tiny positive number."""
    return change.flatten(1).norm(dim=1).clamp_min(1e-12)


def predicted_classes(logits: torch.Tensor) -> torch.Tensor:
    """int64 [B]; a single logit decides at 0."""
    if logits.dim() == 1 or logits.shape[1] == 1:
        return (logits.flatten() > 0).long()
    return logits.argmax(1)


def _one_start(
    logits: Logits,
    pixels: torch.Tensor,
    targets: torch.Tensor,
    settings: AttackSettings,
    generator: torch.Generator,
) -> torch.Tensor:
    x = random_point(pixels, settings, generator) if settings.random_start else pixels.clone()
    sign = -1.0 if settings.targeted else 1.0
    for _ in range(settings.steps):
        x = x.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(_loss(logits(x), targets), x)
        if settings.norm == "linf":
            x = _project_linf(x.detach() + sign * settings.step * gradient.sign(), pixels, settings.epsilon)
        else:
            unit = gradient / lengths(gradient).view(-1, 1, 1, 1)
            x = _project_l2(x.detach() + sign * settings.step * unit, pixels, settings.epsilon)
    return x.detach()


def _project_linf(x: torch.Tensor, pixels: torch.Tensor, epsilon: float) -> torch.Tensor:
    low, high = (pixels - epsilon).clamp(0, 1), (pixels + epsilon).clamp(0, 1)
    return torch.min(torch.max(x, low), high)


def _project_l2(x: torch.Tensor, pixels: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Onto the ball, then into [0, 1]: the box holds the centre, so the second step does not leave the ball."""
    change = x - pixels
    shrink = (epsilon / lengths(change)).clamp_max(1.0).view(-1, 1, 1, 1)
    return (pixels + change * shrink).clamp(0, 1)


def _loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    if logits.dim() == 1 or logits.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(logits.flatten(), targets.float(), reduction="sum")
    return F.cross_entropy(logits, targets, reduction="sum")
