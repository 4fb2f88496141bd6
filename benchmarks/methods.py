"""What a method is to the benchmark: a function that leaves snapshots of its estimate as time passes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.cases import BenchCase


@dataclass(frozen=True)
class Snapshot:
    """An estimate at one time.

    Attributes:
        seconds: since the method began (its set-up that every method shares, the captured network, not counted).
        evaluations: images × coalitions spent.
        values: estimated Shapley values, float64 [n]; NaN where nothing is known.
        std_errors: of independent samples, float64 [n]; None where the method has none.
        samples: int64 [n], how many samples each value is the mean of; None where that has no meaning.
    """

    seconds: float
    evaluations: int
    values: np.ndarray
    std_errors: np.ndarray | None = None
    samples: np.ndarray | None = None


class Cannot(Exception):
    """The method does not do this case; the message says why. Recorded, never dropped."""


@dataclass(frozen=True)
class Method:
    """A way to estimate all values.

    Attributes:
        run: (case, seconds, seed) -> snapshots at about doubling times; may raise `Cannot`.
        kind: "own", "authors", "captum" or "shapiq".
        note: what is worth knowing when reading its figures.
    """

    name: str
    run: Callable[[BenchCase, float, int], list[Snapshot]]
    kind: str
    note: str = ""


class Recorder:
    """Wall time from its making, and the snapshots at about doubling times."""

    def __init__(self, seconds: float) -> None:
        self.allotment = seconds
        self.snapshots: list[Snapshot] = []
        self._next = seconds / 128
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began

    @property
    def time_left(self) -> bool:
        return self.seconds < self.allotment

    def offer(self, estimate: Callable[[], Snapshot], last: bool = False) -> None:
        """Takes a snapshot if it is time for one, or if it is the last."""
        now = self.seconds
        if now < self._next and not last:
            return
        if last and self.snapshots and now < self.snapshots[-1].seconds * 1.05:
            return
        self.snapshots.append(estimate())
        while self._next <= now:
            self._next *= 2


class Samples:
    """Running mean and spread of samples, each filter with its own count."""

    def __init__(self, n: int) -> None:
        self.count = np.zeros(n, np.int64)
        self._sum, self._squares = np.zeros(n), np.zeros(n)

    def add(self, sample: np.ndarray, where: np.ndarray | None = None) -> None:
        """One sample [n] of each filter, or of those in `where` bool [n]."""
        if where is None:
            where = np.ones(len(sample), dtype=bool)
        self.count += where
        self._sum[where] += sample[where]
        self._squares[where] += sample[where] ** 2

    @property
    def mean(self) -> np.ndarray:
        return np.where(self.count > 0, self._sum / np.maximum(self.count, 1), np.nan)

    @property
    def variance(self) -> np.ndarray:
        """Unbiased, [n]; NaN where there are fewer than two samples."""
        spread = self._squares - self._sum**2 / np.maximum(self.count, 1)
        return np.where(self.count > 1, np.maximum(spread, 0.0) / np.maximum(self.count - 1, 1), np.nan)

    def snapshot(self, seconds: float, evaluations: int) -> Snapshot:
        errors = np.sqrt(self.variance / np.maximum(self.count, 1))
        return Snapshot(seconds, evaluations, self.mean, errors, self.count.copy())


def images_per_draw(most: int, coalitions: float, rate: float, seconds: float, draws: int, least: int = 1) -> int:
    """Images per draw, a power of two in least..most, so that `draws` draws of `coalitions` fit into `seconds`.

    Args:
        rate: evaluations per second.
    """
    images = most
    while images > least and images * coalitions * draws > rate * seconds:
        images //= 2
    return images
