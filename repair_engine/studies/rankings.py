"""Orders of all filters from most to least critical: by Shapley value, and the four usual ways to rank them.

The usual ones are those of Ghorbani & Zou 2020, §4: ℓ2 norm of the weights, ℓ2 norm of the response, leave-one-out,
and random.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from repair_engine.case.case import Case
from repair_engine.choosing import controls
from repair_engine.search.phases import combined
from repair_engine.studies.arrays import descending
from repair_engine.studies.names import LEAVE_ONE_OUT, RESPONSES, SHAPLEY, WEIGHTS
from repair_engine.support.memory import give_back
from repair_engine.support.progress import Progress
from shapley import Estimate

_LOO_STREAM, _RANDOM_STREAM = 0xE0, 0xE1


@dataclass(frozen=True)
class Rankings:
    """Scores by which filters are ranked, and random orders.

    Attributes:
        scores: name -> float64 [n]; the larger, the more the metric is held to owe to the filter.
        random: orders of removal, int64 [draws, n].
        loo_images: score images on which leave-one-out was measured.
    """

    scores: dict[str, np.ndarray]
    random: np.ndarray
    loo_images: int

    def order(self, name: str) -> np.ndarray:
        """Filters from most to least critical, int64 [n]; ties in the network's order."""
        return descending(self.scores[name])

    @property
    def nearest_zero(self) -> np.ndarray:
        """Filters from the smallest to the largest Shapley value in size, int64 [n]; of the unknown nothing is held."""
        return np.argsort(np.abs(np.nan_to_num(self.scores[SHAPLEY])), kind="stable")


def values_of(found: Estimate, fresh: Estimate | None) -> np.ndarray:
    """What is known of every filter's value, for ranking, float64 [n]; NaN where nothing is.

    Of both phases, weighted by precision, where both sampled a filter; else the search's belief (`Estimate.best`) or
    its mean.
    """
    values = np.array(found.ranked, dtype=float)
    if fresh is not None and fresh is not found:
        confirmed = np.flatnonzero(fresh.samples > 0)
        values[confirmed] = combined(found, fresh, confirmed)
    return values


def make_rankings(case: Case, values: np.ndarray, loo_images: int, draws: int, progress: Progress) -> Rankings:
    """All rankings of a case's filters.

    Args:
        values: Shapley values for ranking, [n].
        loo_images: size of the batch of score images for leave-one-out.
        draws: random orders.
    """
    seed, n = case.settings.seed, case.subject.network.n_filters
    progress("ranking the filters in the usual ways", 0.0)
    rng = np.random.default_rng([seed, _LOO_STREAM])
    # `leave_one_out` says how much better the objective gets; here: how much of V is lost.
    loo = controls.leave_one_out(case, loo_images, rng, progress) * case.settings.metric.culprit_sign
    give_back()
    scores = {
        SHAPLEY: np.asarray(values, float),
        WEIGHTS: controls.weight_norms(case.subject),
        RESPONSES: controls.response_norms(case.subject, case.images),
        LEAVE_ONE_OUT: loo,
    }
    shuffles = np.random.default_rng([seed, _RANDOM_STREAM])
    return Rankings(scores, np.stack([shuffles.permutation(n) for _ in range(draws)]), loo_images)
