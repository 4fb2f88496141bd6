"""Single flips as estimators ask for them, and rates: what throughput, its variants and the profile measure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.cases import BenchCase

CHUNK = 256  # filters flipped per call; an estimator asks for all of a draw's at once
REMOVED = 0.05  # share of the filters that is absent


class Flips:
    """Single flips and walks at one coalition on one batch, as estimators ask for them.

    Chunks of neighbouring filters come in random order, so that any number of them is a sample of all.
    """

    def __init__(self, case: BenchCase, game: Any, batch: Any) -> None:
        self.game, self.batch = game, batch
        self.rng = np.random.default_rng(1)
        self.coalition = np.ones(case.n, dtype=bool)
        self.coalition[self.rng.choice(case.n, max(1, int(case.n * REMOVED)), replace=False)] = False
        self.size = max(game.lookahead, CHUNK)
        self.done: list[np.ndarray] = []
        self._chunks = self._endless()

    def _endless(self) -> Iterator[np.ndarray]:
        starts = np.arange(0, self.game.n_players, self.size)
        while True:
            for start in self.rng.permutation(starts):
                yield np.arange(start, min(start + self.size, self.game.n_players))

    def chunk(self) -> int:
        """Flips one chunk; evaluations."""
        players = next(self._chunks)
        self.game.differences(self.coalition[None], players, self.batch, lambda _: None)
        self.done.append(players)
        return len(players) * len(self.batch.indices)

    def walk(self, steps: int) -> int:
        """Removes `steps` more filters one by one; evaluations."""
        order = self.rng.permutation(np.flatnonzero(self.coalition))[:steps]
        rows = np.repeat(self.coalition[None], len(order), axis=0)
        for k, player in enumerate(order):
            rows[k:, player] = False
        self.game.evaluate(rows, self.batch)
        return len(order) * len(self.batch.indices)


def rate_of(work: Callable[[], int], seconds: float, warm: bool = False) -> float:
    """Evaluations per second; answers are on the CPU when `work` returns, so nothing is still under way."""
    if warm:
        work()
    began, done = time.perf_counter(), 0
    while (spent := time.perf_counter() - began) < seconds or not done:
        done += work()
    return done / max(spent, time.perf_counter() - began)
