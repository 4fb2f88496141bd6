"""Choosing a budget: how many evaluations fit into the time that is left after everything else."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from repair_engine.search.game import NeuronGame

_SHARE = 0.85  # of the target; machines are shared and noisy
_PROBE_SECONDS = 2.0  # of each kind of work, at most
_LEAST_SHARE, _LEAST_TIMES = 0.1, 8  # of these seconds, and times, before a rate may count as known
_KNOWN = 0.05  # standard error over mean: a budget has two digits
_FEW, _SOME = 20, 1_000  # evaluations a filter
LEAST = 12_000  # evaluations: a screen and a few draws over what it leaves, however slow the machine
LEAVE_ONE_OUT_SHARE = 0.2  # of the budget, spent in addition: the control must not cost more than the search


@dataclass(frozen=True)
class Rates:
    """Measured speeds of one game on this machine, in evaluations per second."""

    forward: float  # full forwards
    walk: float  # consecutive coalitions of a walk
    toggle: float  # single flips of one coalition
    masked: float  # forwards in which most sites are masked


def measure(game: NeuronGame, seed: int = 0, seconds: float | None = None) -> Rates:
    """Times short pieces of each kind of work, each until its speed is known or `seconds` (two) are over."""
    seconds = _PROBE_SECONDS if seconds is None else seconds
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

    def masked() -> int:
        images = game.images(batch.indices)
        game.network.masked_logits(images, base)
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

    return Rates(*(_rate(work, seconds) for work in (forward, walk, toggle, masked)))


def choose_budget(rates: Rates, estimator: str, other_seconds: float, target: float) -> int:
    """Evaluations that fit into `target` seconds beside `other_seconds` of other work, two digits."""
    speed = rates.toggle if estimator in ("cmcs", "fast") else rates.walk
    left = max(target * _SHARE - other_seconds, 0.1 * target) / (1 + LEAVE_ONE_OUT_SHARE)
    return max(_two_digits(int(left * speed)), LEAST)


def largest_budget(seconds: Callable[[int], float], target: float) -> int:
    """The most evaluations, two digits, with which the whole run ends within `target` seconds; LEAST at least.

    Args:
        seconds: that everything takes with a budget; it grows with the budget.
    """
    low, high = LEAST, LEAST
    while seconds(high) <= target * _SHARE and high < 1 << 40:
        low, high = high, 2 * high
    while high - low > low // 200:
        middle = (low + high) // 2
        low, high = (middle, high) if seconds(middle) <= target * _SHARE else (low, middle)
    return max(_two_digits(low), LEAST)


def _two_digits(evaluations: int) -> int:
    digits = 10 ** max(len(str(evaluations)) - 2, 0)
    return evaluations // digits * digits


def reach(budget: int, filters: int) -> str:
    """What a budget can find, in one sentence."""
    each = budget / filters
    many = f"{each:,.0f}" if each >= 1 else f"{each:.1f}"
    said = f"{budget:,} evaluations are {many} a filter ({filters:,} filters): "
    if each < _FEW:
        return said + "only the largest effects will be told apart."
    if each < _SOME:
        return said + "large effects will be told apart, neighbours in the ranking will not."
    return said + "the larger effects will be known with narrow intervals."


def _rate(work: Callable[[], int], seconds: float) -> float:
    work()  # first calls pay for set-up
    done, spent = 0, 0.0
    each: list[float] = []  # seconds of an evaluation
    while spent < seconds:
        begin = time.perf_counter()
        n = work()
        took = max(time.perf_counter() - begin, 1e-9)
        done, spent = done + n, spent + took
        each.append(took / n)
        enough = len(each) >= _LEAST_TIMES and spent >= _LEAST_SHARE * seconds
        if enough and np.std(each, ddof=1) <= _KNOWN * np.mean(each) * len(each) ** 0.5:
            break
    return done / spent
