"""Choosing a budget: how many evaluations fit into the time that is left after everything else."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from repair_engine.game import NeuronGame

TARGET_SECONDS = 300.0
_SHARE = 0.85  # of the target; machines are shared and noisy
_PROBE_SECONDS = 2.0
LEAST = 12_000  # evaluations: a screen and a few draws over what it leaves, however slow the machine
LEAVE_ONE_OUT_SHARE = 0.2  # of the budget, spent in addition: the control must not cost more than the search


@dataclass(frozen=True)
class Rates:
    """Measured speeds of one game on this machine, in evaluations per second."""

    forward: float  # full forwards
    walk: float  # consecutive coalitions of a walk
    toggle: float  # single flips of one coalition


def measure(game: NeuronGame, seed: int = 0) -> Rates:
    """Times short pieces of each kind of work (about six seconds in all)."""
    rng = np.random.default_rng(seed)
    batch = game.draw_batch(rng)
    n = game.n_players
    shallow = rng.permutation(n)[: max(1, n // 20)]
    base = np.ones((1, n), dtype=bool)
    base[0, shallow] = False

    def forward() -> int:
        game.images(batch.indices)
        game.network.logits(game.images(batch.indices))
        return game.batch_size

    def walk() -> int:
        rows = np.repeat(base, 8, axis=0)
        for k, player in enumerate(rng.permutation(n)[:8]):
            rows[k:, player] = False
        game.evaluate(rows, batch)
        return 8 * game.batch_size

    def toggle() -> int:
        players = np.sort(rng.choice(n, min(n, 64), replace=False))
        game.differences(np.repeat(base, game.n_parts, axis=0), players, batch, lambda _: None)
        return (1 + len(players)) * game.batch_size

    return Rates(_rate(forward), _rate(walk), _rate(toggle))


def choose_budget(rates: Rates, estimator: str, other_seconds: float, target: float = TARGET_SECONDS) -> int:
    """Evaluations that fit into `target` seconds beside `other_seconds` of other work, two digits."""
    speed = rates.toggle if estimator in ("cmcs", "fast") else rates.walk
    left = max(target * _SHARE - other_seconds, 0.1 * target) / (1 + LEAVE_ONE_OUT_SHARE)
    evaluations = int(left * speed)
    digits = 10 ** max(len(str(evaluations)) - 2, 0)
    return max(evaluations // digits * digits, LEAST)


def _rate(work: Callable[[], int]) -> float:
    work()  # first calls pay for set-up
    begin, done = time.perf_counter(), 0
    while (spent := time.perf_counter() - begin) < _PROBE_SECONDS or not done:
        done += work()
    return done / max(time.perf_counter() - begin, 1e-9) if done else 1.0 / max(spent, 1e-9)
