"""A second order of removal: after each removal the candidates are scored again (greedy forward selection).

Shapley values average over removed sets of all sizes; a repair removes a few particular filters from an otherwise
intact network, and what the next one is worth depends on those that went before. Candidates are the worst by the
unbiased values and by the posterior; which order is used is decided on the *select* images (`plan.better`), so that
what was gained by fitting the score images counts for nothing. Measured in benchmarks/stepwise.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from repair_engine.case import Case
from repair_engine.estimation import Ranking, culprit_sign
from repair_engine.game import ImageBatch, NeuronGame

SHARE = 0.4  # of the budget, spent in addition
_CANDIDATES = 80  # worst of each kind
_STEPS = 15
_LOOK = 24  # candidates looked at again after the first step
_LEAST_IMAGES, _MOST_IMAGES = 32, 512


@dataclass(frozen=True)
class Stepwise:
    """Players in the order of the greedy removals, then the rest of the ranking; and what it cost.

    Attributes:
        players: int64 [m], m at most `max_filters`.
        picked: how many of them were picked stepwise; all of these gained on the score images.
        candidates, images, evaluations: what was looked at.
    """

    players: np.ndarray
    picked: int
    candidates: int
    images: int
    evaluations: int

    def describe(self) -> dict[str, Any]:
        return {
            "picked": self.picked,
            "candidates": self.candidates,
            "images": self.images,
            "evaluations": self.evaluations,
        }


def candidates_of(ranking: Ranking, sign: int) -> np.ndarray:
    """The worst by unbiased value and by posterior, and all that are ranked, int64, sorted.

    Args:
        sign: +1 where culprits have positive values.
    """
    found = ranking.found
    badness = np.where(found.samples > 0, sign * np.nan_to_num(found.values[0]), -np.inf)
    orders = [badness] if found.best is None else [badness, sign * found.best]
    worst = [np.argsort(-order, kind="stable")[:_CANDIDATES] for order in orders]
    sampled = np.concatenate([w[order[w] > 0] for w, order in zip(worst, orders, strict=True)])
    return np.unique(np.concatenate([sampled, ranking.players]))


def stepwise(case: Case, ranking: Ranking, budget: int, progress: Callable[[str, float], None]) -> Stepwise | None:
    """The greedy order; None where there is no candidate or the budget allows too few images.

    Lazy: after the first step only the candidates that gained most when last looked at are looked at again.

    Args:
        budget: of the search, in evaluations; at most `SHARE` of it is spent here, in addition.
    """
    sign, limit = culprit_sign(case.request), case.request.limits.max_filters
    candidates = candidates_of(ranking, sign)
    steps = min(_STEPS, limit, len(candidates))
    if not steps:
        return None
    looks = len(candidates) + 1 + (steps - 1) * (min(_LOOK, len(candidates)) + 1)
    game: NeuronGame = case.game(_LEAST_IMAGES)
    images = min(_MOST_IMAGES, game.n_images, int(SHARE * budget) // looks)
    if images < min(_LEAST_IMAGES, game.n_images):
        return None
    plan = game.resized(images).plan
    rng = np.random.default_rng(np.random.SeedSequence([case.request.seed, 0x57E9]))
    batch = ImageBatch(*plan.draw(rng))
    spent = 0

    def count(evaluations: int) -> None:
        nonlocal spent
        spent += evaluations

    coalition = np.ones((1, game.n_players), dtype=bool)
    gains = np.full(len(candidates), np.inf)
    picked: list[int] = []
    for step in range(steps):
        open_ = np.flatnonzero(gains > -np.inf)
        look = open_[np.argsort(-gains[open_], kind="stable")][: _LOOK if step else None]
        if not len(look):
            break
        gains[look] = sign * game.differences(coalition, candidates[look], batch, count)[0]
        best = int(look[gains[look] >= gains[look].max() - 1e-12].min())  # of equals the first, in any order
        if gains[best] <= 0:
            break
        picked.append(int(candidates[best]))
        coalition[0, candidates[best]] = False
        gains[best] = -np.inf
        progress("ordering the candidates stepwise", (step + 1) / steps)
    rest = ranking.players[~np.isin(ranking.players, picked)]
    players = np.concatenate([np.array(picked, dtype=np.int64), rest])[:limit]
    return Stepwise(players, len(picked), len(candidates), len(batch.indices), spent)
