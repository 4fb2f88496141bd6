"""A second order of removal: after each removal the candidates are scored again (greedy forward selection).

Shapley values average over removed sets of all sizes; a repair removes a few particular filters from an otherwise
intact network, and what the next one is worth depends on those that went before. Candidates are the worst by the
unbiased values, by the posterior, and by what gradients say of the intact network's filters. Which order is used is
decided on the *select* images (`plan.better`), so that what was gained by fitting the score images counts for nothing.
A filter whose removal breaks a limit on the score images is passed over: as the first it would spoil every prefix.
Measured in benchmarks/stepwise.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from repair_engine.case import Case
from repair_engine.estimation import Ranking, culprit_sign
from repair_engine.game import ImageBatch, NeuronGame
from repair_engine.harm import LimitCheck

_LOOKS_SHARE, _CHECKS_SHARE = 0.4, 0.05
SHARE = _LOOKS_SHARE + _CHECKS_SHARE  # of the budget, spent in addition
_CANDIDATES = 80  # worst of each kind
_GUESSED = 40  # worst by each kind of guess at what a filter does to the intact network
_OF_GUESSES = 8  # an eighth of what is spent here, at most, goes into these
_STEPS = 12
_LOOK = 12  # candidates looked at again after the first step
_LEAST_IMAGES, _MOST_IMAGES = 32, 1024


@dataclass(frozen=True)
class Stepwise:
    """Players in the order of the greedy removals, then the rest of the ranking; and what it cost.

    Attributes:
        players: int64 [m], m at most `max_filters`.
        picked: how many of them were picked stepwise; all of these gained on the score images.
        passed_over: candidates that gained, and broke a limit on the score images.
        candidates, images, evaluations: what was looked at.
    """

    players: np.ndarray
    picked: int
    candidates: int
    images: int
    evaluations: int
    passed_over: int = 0

    def describe(self) -> dict[str, Any]:
        return {
            "picked": self.picked,
            "candidates": self.candidates,
            "images": self.images,
            "evaluations": self.evaluations,
            "passed_over": self.passed_over,
        }


def candidates_of(ranking: Ranking, sign: int, guesses: np.ndarray) -> np.ndarray:
    """The worst by unbiased value, by posterior and by each guess, and all that are ranked, int64, sorted.

    Args:
        sign: +1 where culprits have positive values.
        guesses: at the differences that filters make to the intact network, [S, n] (`repair_engine.guesses`).
    """
    found = ranking.found
    badness = np.where(found.samples > 0, sign * np.nan_to_num(found.values[0]), -np.inf)
    orders = [badness] if found.best is None else [badness, sign * found.best]
    worst = [np.argsort(-order, kind="stable")[:_CANDIDATES] for order in orders]
    sampled = np.concatenate([w[order[w] > 0] for w, order in zip(worst, orders, strict=True)])
    guessed = [w[g[w] > 0] for g in sign * guesses for w in [np.argsort(-g, kind="stable")[:_GUESSED]]]
    return np.unique(np.concatenate([sampled, ranking.players, *guessed]))


def stepwise(case: Case, ranking: Ranking, budget: int, progress: Callable[[str, float], None]) -> Stepwise | None:
    """The greedy order; None where there is no candidate or the budget allows too few images.

    Lazy: after the first step only the candidates that gained most when last looked at are looked at again.

    Args:
        budget: of the search, in evaluations; at most `SHARE` of it is spent here, in addition.
    """
    sign, limit = culprit_sign(case.request), case.request.limits.max_filters
    game: NeuronGame = case.game(_LEAST_IMAGES)
    rng = np.random.default_rng(np.random.SeedSequence([case.request.seed, 0x57E9]))
    spent = 0

    def count(evaluations: int) -> None:
        nonlocal spent
        spent += evaluations

    everyone = np.ones((1, game.n_players), dtype=bool)
    affordable = int(_LOOKS_SHARE * budget)
    size = min(_MOST_IMAGES, game.n_images, affordable // (_OF_GUESSES * game.guess_cost))
    if size < min(_LEAST_IMAGES, game.n_images):
        return None
    shown = ImageBatch(*game.resized(size).plan.draw(rng))
    candidates = candidates_of(ranking, sign, game.guesses([(everyone, shown)], count)[0])
    steps = min(_STEPS, limit, len(candidates))
    if not steps:
        return None
    looks = len(candidates) + 1 + (steps - 1) * (min(_LOOK, len(candidates)) + 1)
    images = min(_MOST_IMAGES, game.n_images, (affordable - spent) // looks)
    if images < min(_LEAST_IMAGES, game.n_images):
        return None
    plan = game.resized(images).plan
    batch = ImageBatch(*plan.draw(rng))
    left = int(_CHECKS_SHARE * budget)  # evaluations for checks of the limits
    check = LimitCheck(case, left // steps, np.random.default_rng([case.request.seed, 0x4C1]))
    coalition = everyone.copy()
    gains = np.full(len(candidates), np.inf)
    picked: list[int] = []
    passed_over: list[int] = []
    for step in range(steps):
        open_ = np.flatnonzero(gains > -np.inf)
        look = open_[np.argsort(-gains[open_], kind="stable")][: _LOOK if step else None]
        if not len(look):
            break
        gains[look] = sign * game.differences(coalition, candidates[look], batch, count)[0]
        if gains[look].max() <= 0 or left < check.images:
            break
        while (gains[look] > 0).any() and left >= check.images:
            best = int(look[gains[look] >= gains[look].max() - 1e-12].min())  # of equals the first, in any order
            gains[best] = -np.inf
            coalition[0, candidates[best]] = False
            left -= check.images
            count(check.images)
            if check.holds(coalition[0]):
                picked.append(int(candidates[best]))
                break
            coalition[0, candidates[best]] = True
            passed_over.append(int(candidates[best]))
        progress("ordering the candidates stepwise", (step + 1) / steps)
    rest = ranking.players[~np.isin(ranking.players, picked)]
    rest = rest[np.argsort(np.isin(rest, passed_over), kind="stable")]  # what was passed over comes last
    players = np.concatenate([np.array(picked, dtype=np.int64), rest])[:limit]
    return Stepwise(players, len(picked), len(candidates), len(batch.indices), spent, len(passed_over))
