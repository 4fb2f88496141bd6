"""Single flips as estimators ask for them, and rates: what throughput, its variants and the profile measure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.cases import BenchCase
from benchmarks.operations import Operations

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

    def timed(self, seconds: float, plain: float) -> Timed:
        """Flips chunks for about `seconds`, one at least.

        Args:
            plain: images per second of the plain forward just before, by the same clock.
        """
        self.done.clear()
        rate = rate_of(self.chunk, seconds, clock=clock_for(self.game.network.device.type))
        players = np.concatenate(self.done)
        return Timed(players, len(self.batch.indices), len(players) * len(self.batch.indices) / rate, plain)


@dataclass(frozen=True)
class Timed:
    """Flips that were timed beside plain forwards.

    Attributes:
        players: that were flipped, int64 [flips].
        images: under each of them.
        seconds: that all took, by `clock_for`.
        plain: images per second of the plain forward at about the same time.
    """

    players: np.ndarray
    images: int
    seconds: float
    plain: float


def share_of_bound(rounds: Sequence[Timed], counted: Operations, of: np.ndarray) -> float:
    """The seconds that the bound allows for these flips, over those that they took; 1 = as fast as the bound.

    Each round's flips are held against their own operations and their own plain forwards: of a large network a round
    flips one chunk, and a chunk near the input costs many times what one near the classifier does.

    Args:
        of: operations after each player, such as `counted.after`.
    """
    allowed = sum(counted.seconds(of, timed.players, timed.plain) * timed.images for timed in rounds)
    return allowed / sum(timed.seconds for timed in rounds)


def time_after(case: BenchCase, images: torch.Tensor, rounds: int) -> np.ndarray:
    """What share of an intact forward's time passes after each filter's output is there, float64 [n].

    The forward is taken apart where the engine does, and timed on as many images as the plain forward: operation counts
    spread its time evenly over multiply-accumulates, of which late stages may do more in a second than early ones.
    """
    network, clock = case.network, clock_for(case.device)
    seconds = np.zeros((rounds, len(network.sites) + 1))
    with torch.inference_mode():
        for round_ in range(-1, rounds):  # the first one warms up
            state = network.start(images)
            for segment in range(len(network.sites) + 1):
                began = clock()
                state = network.run(state, segment)
                if case.device == "cuda":
                    torch.cuda.synchronize()
                seconds[max(round_, 0), segment] = clock() - began
    each = np.median(seconds, axis=0)
    after = 1 - np.cumsum(each) / each.sum()
    return after[network.site_of(np.arange(case.n))]


def clock_for(device: str) -> Callable[[], float]:
    """Processor time where one thread computes on a CPU: then others on the machine hardly count. Else wall time."""
    return time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter


def rate_of(
    work: Callable[[], int], seconds: float, warm: bool = False, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Evaluations per second; answers are on the CPU when `work` returns, so nothing is still under way."""
    if warm:
        work()
    began, done = clock(), 0
    while (spent := clock() - began) < seconds or not done:
        done += work()
    return done / max(spent, clock() - began)
