"""A second order of removal: after each removal the candidates are scored again (greedy forward selection).

Shapley values average over removed sets of all sizes; a repair removes a few particular filters from an otherwise
intact network, and what the next one is worth depends on those that went before. Candidates are the worst by the
unbiased values, by the posterior, and by what gradients say of the intact network's filters. Which order is used is
decided on the *select* images, so that what was gained by fitting the score images counts for nothing.
A filter whose removal breaks a limit on the score images is passed over: as the first it would spoil every prefix. What
keeps a limit by a hair on score images breaks it on *select* half of the time. So where some limit was kept by less
than `MARGIN` standard errors, it is made once more with that margin: with twice as many score as select images, √3 of
score's errors are one standard error of the difference between the splits.
Adversarial images reach their targets by a wide margin: hardly one is turned back by removing one filter, so that by
outcomes nothing gains. There the targets' probability says what gains.
Measured in benchmarks/stepwise.md and experiments/results/adversarial-curve.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from repair_engine.case.case import Case
from repair_engine.choosing.harm import LimitCheck
from repair_engine.search.game import ImageBatch, NeuronGame
from repair_engine.search.phases import Ranking

_LOOKS_SHARE, _CHECKS_SHARE = 0.4, 0.05
SHARE = _LOOKS_SHARE + _CHECKS_SHARE  # of the budget, spent in addition
MARGIN = 3**0.5  # standard errors
AGAIN_SHARE = 0.15  # of the budget, at most, for the order with a margin
_CANDIDATES = 80  # worst of each kind
_GUESSED = 40  # worst by each kind of guess at what a filter does to the intact network
_OF_GUESSES = 8  # an eighth of what is spent here, at most, goes into these
_STEPS = 12
_LOOK = 12  # candidates looked at again after the first step
_LEAST_IMAGES, _MOST_IMAGES = 32, 1024


class StepwiseRecord(TypedDict):
    """See `Stepwise`."""

    picked: int
    candidates: int
    images: int
    evaluations: int
    passed_over: int
    margin: float


@dataclass(frozen=True)
class Stepwise:
    """Players in the order of the greedy removals, then the rest of the ranking; and what it cost.

    Attributes:
        players: int64 [m], m at most `max_filters`.
        picked: how many of them were picked stepwise; all of these gained on the score images (of attack success: took
            from the targets' probability).
        passed_over: candidates that gained, and did not keep the limits on the score images by the margin.
        candidates, images, evaluations: what was looked at; evaluations with those of orders made before.
        margin: standard errors by which limits had to be kept.
        tightest: by which the nearest one was kept by the picks (infinite: nothing was checked).
    """

    players: np.ndarray
    picked: int
    candidates: int
    images: int
    evaluations: int
    passed_over: int = 0
    margin: float = 0.0
    tightest: float = np.inf

    def describe(self) -> StepwiseRecord:
        return {
            "picked": self.picked,
            "candidates": self.candidates,
            "images": self.images,
            "evaluations": self.evaluations,
            "passed_over": self.passed_over,
            "margin": self.margin,
        }


def candidates_of(ranking: Ranking, sign: int, guesses: np.ndarray) -> np.ndarray:
    """The worst by unbiased value, by posterior and by each guess, and all that are ranked, int64, sorted.

    Args:
        sign: +1 where culprits have positive values.
        guesses: at the differences that filters make to the intact network, [S, n] (`repair_engine.search.guesses`).
    """
    found = ranking.found
    badness = np.where(found.samples > 0, sign * np.nan_to_num(found.values[0]), -np.inf)
    orders = [badness] if found.best is None else [badness, sign * found.best]
    worst = [np.argsort(-order, kind="stable")[:_CANDIDATES] for order in orders]
    sampled = np.concatenate([w[order[w] > 0] for w, order in zip(worst, orders, strict=True)])
    guessed = [w[g[w] > 0] for g in sign * guesses for w in [np.argsort(-g, kind="stable")[:_GUESSED]]]
    return np.unique(np.concatenate([sampled, ranking.players, *guessed]))


class Greedy:
    """Greedy orders of one ranking's candidates, all by the same score images; what one looked at serves the next.

    Lazy: after the first step only the candidates that gained most when last looked at are looked at again.
    """

    @classmethod
    def of(
        cls,
        case: Case,
        ranking: Ranking,
        budget: int,
        progress: Callable[[str, float], None],
        candidates: np.ndarray | None = None,
    ) -> Greedy | None:
        """None where there is no candidate or the budget allows too few images.

        Args:
            budget: of the search, in evaluations; at most `SHARE` of it is spent by a first order, in addition.
            candidates: int64, sorted; None: `candidates_of`.
        """
        made = cls(case, ranking, budget, progress, candidates)
        return made if made.steps and made.images >= min(_LEAST_IMAGES, made.game.n_images) else None

    def __init__(
        self,
        case: Case,
        ranking: Ranking,
        budget: int,
        progress: Callable[[str, float], None],
        candidates: np.ndarray | None,
    ) -> None:
        self.case, self.ranking, self.budget, self.progress = case, ranking, budget, progress
        self.sign, self.limit = case.settings.metric.culprit_sign, case.settings.limits.max_filters
        self.smooth = case.question.smooth
        self.game: NeuronGame = case.game(_LEAST_IMAGES)
        rng = np.random.default_rng(np.random.SeedSequence([case.settings.seed, 0x57E9]))
        self.spent = self.steps = self.images = 0
        self.gains: dict[bytes, dict[int, float]] = {}  # of candidates, by the coalition that they would be taken from
        self.margins: dict[bytes, float] = {}
        affordable = int(_LOOKS_SHARE * budget)
        size = min(_MOST_IMAGES, self.game.n_images, affordable // (_OF_GUESSES * self.game.guess_cost))
        if size < min(_LEAST_IMAGES, self.game.n_images):
            return
        if candidates is None:
            everyone = np.ones((1, self.game.n_players), dtype=bool)
            shown = ImageBatch(*self.game.resized(size).plan.draw(rng))
            candidates = candidates_of(ranking, self.sign, self.game.guesses([(everyone, shown)], self._count)[0])
        self.candidates = candidates
        self.steps = steps = min(_STEPS, self.limit, len(self.candidates))
        if not steps:
            return
        looks = len(self.candidates) + 1 + (steps - 1) * (min(_LOOK, len(self.candidates)) + 1)
        self.images = min(_MOST_IMAGES, self.game.n_images, (affordable - self.spent) // looks)
        if self.images < min(_LEAST_IMAGES, self.game.n_images):
            return
        self.batch = ImageBatch(*self.game.resized(self.images).plan.draw(rng))
        self.checks = int(_CHECKS_SHARE * budget)
        most = self.checks // steps
        if self.smooth:  # most of what steers fewer images breaks a limit: what few attacked images leave goes there
            self.checks = int(SHARE * budget) - self.spent - looks * self.images
        self.check = LimitCheck(case, most, np.random.default_rng([case.settings.seed, 0x4C1]))

    def order(self, margin: float = 0.0, most: int | None = None) -> Stepwise:
        """One order.

        Args:
            margin: standard errors by which each limit must be kept on score images.
            most: evaluations, at most, in addition to what earlier orders spent; None: what `SHARE` leaves.
        """
        checks = self.checks  # evaluations
        end = None if most is None else self.spent + most
        coalition = np.ones((1, self.game.n_players), dtype=bool)
        gains = np.full(len(self.candidates), np.inf)
        picked: list[int] = []
        passed_over: list[int] = []
        tightest = np.inf
        for step in range(self.steps):
            open_ = np.flatnonzero(gains > -np.inf)
            look = open_[np.argsort(-gains[open_], kind="stable")][: _LOOK if step else None]
            needed = (1 + len(look)) * self.images + self.check.images
            if not len(look) or (end is not None and self.spent + needed > end and step):
                break
            gains[look] = self._gains(coalition, look)
            if gains[look].max() <= 0 or checks < self.check.images:
                break
            while (gains[look] > 0).any() and checks >= self.check.images:
                best = int(look[gains[look] >= gains[look].max() - 1e-12].min())  # of equals the first, in any order
                gains[best] = -np.inf
                coalition[0, self.candidates[best]] = False
                checks -= self.check.images
                kept = self._margin(coalition)
                if kept >= margin:
                    picked.append(int(self.candidates[best]))
                    tightest = min(tightest, kept)
                    break
                coalition[0, self.candidates[best]] = True
                passed_over.append(int(self.candidates[best]))
            self.progress("ordering the candidates stepwise", (step + 1) / self.steps)
        rest = self.ranking.players[~np.isin(self.ranking.players, picked)]
        rest = rest[np.argsort(np.isin(rest, passed_over), kind="stable")]  # what was passed over comes last
        players = np.concatenate([np.array(picked, dtype=np.int64), rest])[: self.limit]
        counts = len(picked), len(self.candidates), len(self.batch.indices), self.spent, len(passed_over)
        return Stepwise(players, *counts, margin, tightest)

    def _gains(self, coalition: np.ndarray, look: np.ndarray) -> np.ndarray:
        """What removing each of these candidates gains on the score images, [m]; none is looked at twice."""
        known = self.gains.setdefault(coalition.tobytes(), {})
        new = np.array([i for i in look if int(i) not in known], dtype=np.int64)
        if len(new):
            asked = coalition, self.candidates[new], self.batch, self._count
            found = self.game.smooth_differences(*asked)[1] if self.smooth else self.game.differences(*asked)[0]
            known.update(zip(new.tolist(), (self.sign * found).tolist(), strict=True))
        return np.array([known[int(i)] for i in look])

    def _margin(self, coalition: np.ndarray) -> float:
        key = coalition.tobytes()
        if key not in self.margins:
            self._count(self.check.images)
            self.margins[key] = self.check.margin(coalition[0])
        return self.margins[key]

    def _count(self, evaluations: int) -> None:
        self.spent += evaluations
