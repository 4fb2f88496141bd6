"""Square attack: random search by queries alone, without gradients (Andriushchenko et al., arXiv 1912.00049).

Every image has its own stream of random numbers, so the result for an image does not depend on which others are
attacked beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from repair_engine.question.attacks.pgd import Logits, predicted_classes
from repair_engine.question.attacks.settings import AttackSettings

# Share of the pixels that one square changes at first. The paper tunes it per data set (0.05 to 0.8); AutoAttack
# (arXiv 2003.01690) fixes 0.8 for all, and so do we: nothing is tuned on the report images.
P_START = 0.8
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 queries (§3.2, supplement B)
_STREAM = 0x59A4E


@dataclass(frozen=True)
class Queried:
    """What the queries found.

    Attributes:
        pixels: the best image seen, float32 [B, C, H, W], within ε and in [0, 1]; the clean one counts as seen.
        success: [B].
        queries: how many each image took, int64 [B]; at most the budget.
    """

    pixels: torch.Tensor
    success: np.ndarray
    queries: np.ndarray


def square_share(query: int, budget: int) -> float:
    """Share of the pixels in the square of a query: halved at fixed parts of the budget (§3.2)."""
    done = int(query / budget * 10_000)
    return P_START / 2 ** sum(done > halving for halving in _HALVINGS)


def square(
    logits: Logits,
    pixels: torch.Tensor,
    targets: torch.Tensor,
    settings: AttackSettings,
    queries: int,
    streams: Sequence[Sequence[int]],
) -> Queried:
    """The attack on a batch. Query 1 is the clean image, query 2 the start, the others are squares.

    The loss is the paper's: the label's margin over the next class, or for a target its cross-entropy. An image
    stops when it is fooled.

    Args:
        logits: pixels in [0, 1] -> logits [B, classes] (or [B, 1]); called without gradients.
        pixels: float32 [B, C, H, W] in [0, 1].
        targets: int64 [B]; the adversary's targets, or the labels of an untargeted attack.
        settings: norm, ε and aim; steps and starts mean nothing here.
        queries: budget per image, at least 1.
        streams: seed of each image's random numbers.
    """
    device, goals = pixels.device, targets.cpu()
    clean = pixels.cpu().numpy()
    rngs = [np.random.default_rng([_STREAM, *stream]) for stream in streams]
    propose = _Linf(settings.epsilon) if settings.norm == "linf" else _L2(settings.epsilon)

    def ask(images: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            out = logits(torch.from_numpy(images).to(device)).float().cpu()
        return judge(out, goals[torch.from_numpy(rows)], settings.targeted)

    everyone = np.arange(len(clean))
    best_loss, done = ask(clean, everyone)
    best, used = clean.copy(), np.ones(len(clean), dtype=np.int64)
    if settings.epsilon == 0:
        return Queried(torch.from_numpy(best).to(device), done, used)
    current, loss = clean.copy(), np.full(len(clean), np.inf)
    for query in range(1, queries):
        rows = np.flatnonzero(~done)
        if not len(rows):
            break
        share = square_share(query - 1, queries)
        tried = np.stack(
            [
                propose.start(clean[i], rngs[i]) if query == 1 else propose.step(clean[i], current[i], share, rngs[i])
                for i in rows
            ]
        )
        found, fooled = ask(tried, rows)
        used[rows] += 1
        better = (found < loss[rows]) | fooled
        current[rows[better]], loss[rows[better]] = tried[better], found[better]
        best_better = (found < best_loss[rows]) | fooled
        best[rows[best_better]], best_loss[rows[best_better]] = tried[best_better], found[best_better]
        done[rows] |= fooled
    return Queried(torch.from_numpy(best).to(device), done, used)


def judge(logits: torch.Tensor, goals: torch.Tensor, targeted: bool) -> tuple[np.ndarray, np.ndarray]:
    """The attack's loss (smaller is better for the adversary) and whether it has succeeded, each [B]."""
    hit = predicted_classes(logits) == goals
    if logits.dim() == 1 or logits.shape[1] == 1:
        flat = logits.reshape(-1, 1)
        logits = torch.cat([torch.zeros_like(flat), flat], dim=1)
    own = logits.gather(1, goals[:, None])[:, 0]
    if targeted:
        return (logits.logsumexp(1) - own).numpy(), hit.numpy()
    others = logits.scatter(1, goals[:, None], -torch.inf).amax(1)
    return (own - others).numpy(), (~hit).numpy()


@dataclass(frozen=True)
class _Linf:
    """Vertical stripes, then squares of ±ε in each channel (Algorithms 1 and 2)."""

    epsilon: float

    def start(self, clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        channels, _, width = clean.shape
        return self._inside(clean + self.epsilon * _signs(rng, (channels, 1, width)), clean)

    def step(self, clean: np.ndarray, current: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
        channels, height, width = clean.shape
        side = min(max(round(np.sqrt(share * height * width)), 1), max(min(height, width) - 1, 1))
        window = _window(height, width, side, rng)
        tried = current.copy()
        for _ in range(10):  # a square that changes nothing would waste a query
            tried[window] = self._inside(clean[window] + self.epsilon * _signs(rng, (channels, 1, 1)), clean[window])
            if np.abs(tried[window] - current[window]).max() > 1e-7:
                break
        return tried

    def _inside(self, x: np.ndarray, clean: np.ndarray) -> np.ndarray:
        low, high = np.clip(clean - self.epsilon, 0, 1), np.clip(clean + self.epsilon, 0, 1)
        return np.clip(x, low, high).astype(np.float32)


@dataclass(frozen=True)
class _L2:
    """A grid of bumps, then mass moved from one window to another (Algorithm 3)."""

    epsilon: float

    def start(self, clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        channels, height, width = clean.shape
        side = max(min(height, width) // 5, 1)
        change = np.zeros_like(clean)
        for top in range((height % side) // 2, height - side + 1, side):
            for left in range((width % side) // 2, width - side + 1, side):
                bump = two_bumps(side, rng) * _signs(rng, (channels, 1, 1))
                change[:, top : top + side, left : left + side] += bump
        return self._onto_the_sphere(change, clean)

    def step(self, clean: np.ndarray, current: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
        channels, height, width = clean.shape
        side = max(round(np.sqrt(share * height * width)), 3) | 1
        side = min(side, min(height, width))
        change = (current - clean).astype(np.float64)
        here, there = _window(height, width, side, rng), _window(height, width, side, rng)
        either = np.zeros(clean.shape, dtype=bool)
        either[here] = either[there] = True
        unused = max(self.epsilon**2 - float((change**2).sum()), 0.0)
        mass = (np.where(either, change, 0.0) ** 2).sum(axis=(1, 2), keepdims=True)
        old = change[here] / (1e-10 + np.sqrt((change[here] ** 2).sum(axis=(1, 2), keepdims=True)))
        new = two_bumps(side, rng) * _signs(rng, (channels, 1, 1)) + old
        new *= np.sqrt(unused / channels + mass) / (1e-10 + np.sqrt((new**2).sum(axis=(1, 2), keepdims=True)))
        change[there] = 0.0
        change[here] = new
        return self._onto_the_sphere(change, clean)

    def _onto_the_sphere(self, change: np.ndarray, clean: np.ndarray) -> np.ndarray:
        length = max(float(np.sqrt((change.astype(np.float64) ** 2).sum())), 1e-12)
        return np.clip(clean + change * (self.epsilon / length), 0, 1).astype(np.float32)


def two_bumps(side: int, rng: np.random.Generator) -> np.ndarray:
    """The ℓ2 update's shape: a bump beside its negative, of length 1, [side, side] (§3.4, Eq. 2)."""
    made = np.zeros((side, side))
    if side == 1:
        return made + 1.0
    made[: side // 2] = _bump(side // 2, side)
    made[side // 2 :] = -_bump(side - side // 2, side)
    made /= np.sqrt((made**2).sum())
    return made.T if rng.random() > 0.5 else made


def _bump(height: int, width: int) -> np.ndarray:
    """Nested rectangles around the centre, each adding 1/(their number)², of length 1."""
    made = np.zeros((height, width))
    middle_y, middle_x = height // 2, width // 2
    for ring in range(max(height // 2 + 1, width // 2 + 1)):
        top, left = middle_y - ring, middle_x - ring
        made[max(top, 0) : min(top + 2 * ring + 1, height), max(left, 0) : min(left + 2 * ring + 1, width)] += (
            1.0 / (ring + 1) ** 2
        )
    return made / np.sqrt((made**2).sum())


def _window(height: int, width: int, side: int, rng: np.random.Generator) -> tuple[slice, slice, slice]:
    top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
    return slice(None), slice(top, top + side), slice(left, left + side)


def _signs(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return 2.0 * rng.integers(0, 2, size=shape) - 1.0
