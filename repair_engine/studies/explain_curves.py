"""Removal curves: the metric on *report* images against the number of filters removed, for every ranking.

Each removed filter is ablated to its constant. From the most critical end the curve of a good ranking falls fast (the
paper's Fig. 4b). The least critical end is the lowest values (Fig. 4c): it rises where filters hurt the metric, and
falls where the intact network uses what hurts when many others are gone. So at that end the order of the values' sizes
stands beside it: what is estimated to do least either way. Where a network has units of several kinds, each kind is
removed alone, too, by Shapley value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NotRequired, TypedDict

import numpy as np

from repair_engine.case.case import Case
from repair_engine.choosing.plan import prefix_predictions
from repair_engine.data.pixels import Rows, taken
from repair_engine.network import Network
from repair_engine.question.objectives import Objective, cell_codes, plan_batches
from repair_engine.question.objectives.metric import accuracy_weights
from repair_engine.question.question import Question
from repair_engine.studies.names import ALONE, ENDS, LEAST, MOST, NEAREST_ZERO, RANDOM, SHAPLEY
from repair_engine.studies.rankings import Rankings
from repair_engine.support.progress import Progress
from repair_engine.support.statistics import Interval, IntervalRecord, paired_bootstrap

MOST_IMAGES, FEWEST_IMAGES = 1000, 50
_SHARE = 0.25  # of the budget, spent in addition
_STREAM = 0xE2
_RANKINGS = 4  # beside those at random: see `orders.rankings_of`
_RATIO = 2**0.5  # of neighbouring numbers of removed filters
_DENSE = 3  # up to here every number is looked at


@dataclass(frozen=True)
class Curve:
    """One order of removal.

    Attributes:
        end, ranking: of `ENDS` and `rankings`; draw: number of the random order, else None.
        ks: filters removed, ascending from 0, int64 [m].
        metric, accuracy: on the report images that were used, float64 [m].
        outcomes: 0/1 of each image of the metric, [m, N] (see `Objective`).
    """

    end: str
    ranking: str
    draw: int | None
    ks: np.ndarray
    metric: np.ndarray
    accuracy: np.ndarray
    outcomes: np.ndarray


@dataclass(frozen=True)
class CurveImages:
    """The report images on which curves are measured.

    Attributes:
        asked: of the metric.
        clean: of accuracy; the same object where the metric is accuracy.
    """

    asked: Objective
    clean: Objective

    def __len__(self) -> int:
        return len(self.asked) + (0 if self.clean is self.asked else len(self.clean))


def grid(most: int) -> np.ndarray:
    """Numbers of removed filters from 0 to `most`, ever farther apart, int64."""
    points = list(range(min(_DENSE, most) + 1))
    while points[-1] < most:
        points.append(min(most, max(points[-1] + 1, round(points[-1] * _RATIO))))
    return np.array(points, dtype=np.int64)


def grids(n: int, remove: int) -> dict[str, np.ndarray]:
    """The numbers of removed filters at each end, of n filters."""
    most = min(remove, n)
    return {MOST: grid(most), LEAST: grid(max(most, n // 2))}


def evaluations_per_image(network: Network, remove: int, draws: int) -> int:
    """Coalitions that all curves evaluate on an image, at most."""
    ends = grids(network.n_filters, remove)
    kinds = sum(len(grid(min(remove, len(one)))) for one in kinds_alone(network).values())
    along = _RANKINGS * sum(len(ks) for ks in ends.values())
    return along + len(ends[LEAST]) + draws * len(_union(ends)) + len(ENDS) * kinds


def kind_of_units(network: Network) -> np.ndarray:
    """The kind of every unit, str [n]."""
    return np.array([site.kind for site in network.sites])[network.site_of(np.arange(network.n_filters))]


def kinds_alone(network: Network) -> dict[str, np.ndarray]:
    """Kind -> its units, int64; empty where there is only one."""
    of = kind_of_units(network)
    found = {kind: np.flatnonzero(of == kind) for kind in ALONE if (of == kind).any()}
    return found if len(found) > 1 else {}


def images_for(case: Case, budget: int) -> int:
    """How many report images are used at most: as asked, else by the budget."""
    asked = case.settings.explain
    assert asked is not None
    if asked.curve_images is not None:
        return asked.curve_images
    sets = 1 if case.settings.metric.kind == "accuracy" else 2
    points = sets * evaluations_per_image(case.subject.network, asked.remove, asked.draws)
    return int(np.clip(_SHARE * budget // points, FEWEST_IMAGES, MOST_IMAGES))


def curve_images(question: Question, most: int, seed: int) -> CurveImages:
    """At most about `most` images each for metric and accuracy, in fixed numbers per class × subgroup."""
    rng = np.random.default_rng([seed, _STREAM])
    asked = _drawn(question.objective("report"), most, rng)
    if question.metric.kind == "accuracy":
        return CurveImages(asked, asked)
    rows = question.retained("report")
    labels = question.images.labels[rows]
    weights = accuracy_weights(len(labels))
    everyone = Objective(Rows(question.images.pixels, rows), labels, weights, cell_codes(labels, None))
    return CurveImages(asked, _drawn(everyone, most, rng))


def _drawn(objective: Objective, most: int, rng: np.random.Generator) -> Objective:
    if most >= len(objective):
        return objective
    rows, weights = plan_batches(objective, most).draw(rng)
    return replace(
        objective,
        pixels=taken(objective.pixels, rows),
        targets=objective.targets[rows],
        weights=weights[0],  # of the one objective
        cells=objective.cells[rows],
    )


def removal_curves(case: Case, rankings: Rankings, images: CurveImages, remove: int, progress: Progress) -> list[Curve]:
    """Curves of every ranking from both ends, of the random orders, cut to both ends' numbers, of each kind alone."""
    ends = grids(case.subject.network.n_filters, remove)
    total = len(images) * evaluations_per_image(case.subject.network, remove, len(rankings.random))
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        progress("measuring removal curves on report images", min(done / total, 1.0))

    curves = []
    for name in rankings.scores:
        order = rankings.order(name)
        for end, ks in ends.items():
            along = order if end == MOST else order[::-1]
            curves.append(_measure(case, images, end, name, None, along, ks, tick))
            if (end, name) == (LEAST, SHAPLEY):
                nearest = rankings.nearest_zero
                curves.append(_measure(case, images, end, NEAREST_ZERO, None, nearest, ks, tick))
    for draw, order in enumerate(rankings.random):
        whole = _measure(case, images, MOST, RANDOM, draw, order, _union(ends), tick)
        for end, ks in ends.items():
            at = np.searchsorted(whole.ks, ks)
            curves.append(
                replace(
                    whole, end=end, ks=ks, metric=whole.metric[at], accuracy=whole.accuracy[at],
                    outcomes=whole.outcomes[at],
                )
            )  # fmt: skip
    for kind, units in kinds_alone(case.subject.network).items():
        order = rankings.order(SHAPLEY)
        order = order[np.isin(order, units)]
        ks = grid(min(remove, len(units)))
        for end, along in ((MOST, order), (LEAST, order[::-1])):
            curves.append(_measure(case, images, end, ALONE[kind], None, along, ks, tick))
    return curves


def of_all(curves: Sequence[Curve]) -> list[Curve]:
    """Those whose units are of all kinds."""
    return [c for c in curves if c.ranking not in ALONE.values()]


def _union(ends: dict[str, np.ndarray]) -> np.ndarray:
    return np.unique(np.concatenate(list(ends.values())))


def _measure(
    case: Case, images: CurveImages, end: str, ranking: str, draw: int | None, order: np.ndarray, ks: np.ndarray,
    tick: Callable[[int], None],
) -> Curve:  # fmt: skip
    removals = [order[low:high] for low, high in pairwise(ks.tolist())]

    def hits(objective: Objective) -> np.ndarray:
        predicted = prefix_predictions(
            case.subject.network, objective.pixels, case.images.normalize, removals, tick, case.subject.room
        )
        return predicted == objective.targets

    asked = hits(images.asked)
    clean = asked if images.clean is images.asked else hits(images.clean)
    return Curve(
        end, ranking, draw, ks, images.asked.weigh(asked, images.asked.weights),
        images.clean.weigh(clean, images.clean.weights), asked,
    )  # fmt: skip


def mean_over_removals(ks: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean of a piecewise linear curve over its range: its area by trapezoids, over its length.

    Args:
        values: at ks [m], [m, ...].
    """
    return np.trapezoid(values, ks, axis=0) / (ks[-1] - ks[0])


class CurveRow(TypedDict):
    """One ranking from one end; of random orders their mean and range."""

    end: str
    ranking: str
    ks: list[int]
    metric: list[float]
    accuracy: list[float]
    draws: NotRequired[int]
    metric_range: NotRequired[list[list[float]]]
    accuracy_range: NotRequired[list[list[float]]]


class AdvantageRow(IntervalRecord):
    """Shapley's mean over a curve minus a rival's."""

    end: str
    rival: str


class FirstRemoved(TypedDict):
    """What removing some filters by Shapley value changed."""

    end: str
    removed: int
    images: int
    change: float
    lower: float
    upper: float
    level: float


def advantages(curves: Sequence[Curve], images: CurveImages, seed: int, level: float) -> list[AdvantageRow]:
    """Shapley's mean metric over the removals minus each rival's, per end, with a paired interval.

    The mean over the curve is linear in the images' outcomes, so images can be resampled. Random orders are averaged;
    the interval does not speak of other draws.
    """
    rows: list[AdvantageRow] = []
    for end in ENDS:
        here = [c for c in of_all(curves) if c.end == end]
        mine = next(_per_image(c) for c in here if c.ranking == SHAPLEY)
        for name in dict.fromkeys(c.ranking for c in here if c.ranking != SHAPLEY):
            rival = np.mean([_per_image(c) for c in here if c.ranking == name], axis=0)
            interval = _gain(images.asked, rival, mine, seed, level)
            rows.append(
                {"end": end, "rival": name, "value": interval.estimate, "lower": interval.lower,
                 "upper": interval.upper, "level": interval.level}
            )  # fmt: skip
    return rows


def first_removed(
    curves: Sequence[Curve], images: CurveImages, most: int, seed: int, level: float
) -> list[FirstRemoved]:
    """Per end, what removing up to `most` filters by Shapley value changed, with a paired interval."""
    rows: list[FirstRemoved] = []
    for end in ENDS:
        mine = next(c for c in curves if c.end == end and c.ranking == SHAPLEY)
        at = int(np.searchsorted(mine.ks, most, side="right")) - 1
        interval = _gain(images.asked, mine.outcomes[0].astype(float), mine.outcomes[at].astype(float), seed, level)
        rows.append(
            {"end": end, "removed": int(mine.ks[at]), "images": len(images.asked), "change": interval.estimate,
             "lower": interval.lower, "upper": interval.upper, "level": interval.level}
        )  # fmt: skip
    return rows


def _per_image(curve: Curve) -> np.ndarray:
    return mean_over_removals(curve.ks, curve.outcomes.astype(float))


def _gain(objective: Objective, before: np.ndarray, after: np.ndarray, seed: int, level: float) -> Interval:
    if objective.complement:
        before, after = 1.0 - before, 1.0 - after
    return paired_bootstrap(before, after, objective.weights, objective.cells, seed, level=level)
