"""The network as a function of mask vectors, by full forwards: what the peers are given."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.cases import BenchCase
from benchmarks.engine import ImageBatch, NeuronGame, plan_batches, predictions

ROWS = {"cpu": (32, 64, 128, 256), "cuda": (512, 2048, 8192)}  # images per forward, K·B, that are tried
_LONGEST = 10.0  # seconds that a forward of a trial may take


class MaskedValue:
    """V of mask vectors on a batch of images, each by a full forward of the captured network.

    Args:
        images: per batch, about; `fresh` draws them as the engine's own methods do (fixed counts per class).
        rows: coalitions per forward, K.
    """

    def __init__(self, game: NeuronGame, images: int, rows: int = 1) -> None:
        self.game, self.rows = game, max(1, rows)
        self.plan = plan_batches(game.objective, images)
        self.evaluations = 0
        self.predicted: Callable[[int], None] | None = None  # called with the coalitions after each forward

    def fresh(self, rng: np.random.Generator) -> None:
        """A new batch of images."""
        self.use(ImageBatch(*self.plan.draw(rng)))

    def use(self, batch: ImageBatch) -> None:
        self.batch, self.images = batch, self.game.images(batch.indices)

    def __call__(self, masks: np.ndarray) -> np.ndarray:
        """V float64 [K] of masks bool [K, n], true = present."""
        game, out = self.game, np.empty(len(masks))
        targets = game.objective.targets[self.batch.indices]
        for start in range(0, len(masks), self.rows):
            part = np.ascontiguousarray(masks[start : start + self.rows])
            answer = predictions(game.network.masked_logits(self.images, part)).cpu().numpy()  # [K, B]
            out[start : start + self.rows] = game.objective.weigh(answer == targets, self.batch.weights)[0]
            self.evaluations += answer.size
            if self.predicted is not None:
                self.predicted(len(part))
        return out


def forward_rate(case: BenchCase, images: int, rows: int, seconds: float = 0.5) -> float:
    """Evaluations per second of masked full forwards with a twentieth of the filters absent."""
    value = MaskedValue(case.base, images, rows)
    rng = np.random.default_rng(0)
    value.fresh(rng)
    masks = rng.random((rows, case.n)) > 0.05
    value(masks)
    value.evaluations = 0
    began = time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds or not value.evaluations:
        value(masks)
    return value.evaluations / max(spent, time.perf_counter() - began)


def best_rows(case: BenchCase, images: int, seconds: float = 0.4) -> tuple[int, float]:
    """The fastest of a few numbers of coalitions per forward, and its evaluations per second.

    Each peer that can be given many coalitions at once is given this; the trial is not counted as its time.
    """
    tried = sorted({max(1, size // images) for size in ROWS[case.device]})
    return fastest(tried, lambda rows: forward_rate(case, images, rows, seconds), lambda rows: rows * images)


def fastest(sizes: Sequence[int], rate: Callable[[int], float], images: Callable[[int], int]) -> tuple[int, float]:
    """The size of the highest rate (images per second) among ascending ones.

    Larger ones are not tried once the rate has dropped by a tenth, or where one forward would take ten seconds.
    """
    best = sizes[0], rate(sizes[0])
    for size in sizes[1:]:
        if images(size) > _LONGEST * best[1]:
            break
        now = rate(size)
        if now > best[1]:
            best = size, now
        elif now < 0.9 * best[1]:
            break
    return best
