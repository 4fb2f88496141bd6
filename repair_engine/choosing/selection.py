"""The choice of k among prefixes of a ranking, and how much it owes to the select images that happen to be there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from repair_engine.settings import Limits
from repair_engine.support.statistics import REFUSE_BELOW, image_counts

if TYPE_CHECKING:  # it needs torch, which the web process does not load
    from repair_engine.question.goals import Goal
    from repair_engine.question.objectives import Objective

RESAMPLES = 1_000
_SLACK = 1e-12  # a drop of exactly the limit is within it, whatever its rounding
_CELLS_AT_ONCE = 10_000_000  # of a chunk of resamples × images


@dataclass(frozen=True)
class Sweep:
    """Figures of the prefixes 0 … m of a ranking, [m + 1]; of each of R resamples of the images, [R, m + 1].

    Attributes:
        values: the metric as shown; to be lowered if `lower`.
        clean, guard: accuracy on clean images (that are to be retained) and on the guard set (None without one).
        drops: largest loss of recall of any subgroup that gates, None without subgroups.
        goal: what is chosen by in the place of the metric, the larger the better; None: the metric.
        floor: of a metric to be lowered: what lies below counts as this.
    """

    values: np.ndarray
    clean: np.ndarray
    guard: np.ndarray | None
    drops: np.ndarray | None
    lower: bool
    goal: np.ndarray | None = None
    floor: float = 0.0

    @property
    def score(self) -> np.ndarray:
        """What is chosen by, the larger the better, like `values`."""
        if self.goal is not None:
            return self.goal
        return -np.maximum(self.values, self.floor) if self.lower else self.values

    def feasible(self, limits: Limits) -> np.ndarray:
        """Which prefixes keep all limits, bool like `values`."""
        fine = self.clean[..., :1] - self.clean <= limits.max_clean_drop + _SLACK
        if self.guard is not None:
            fine &= self.guard[..., :1] - self.guard <= limits.max_clean_drop + _SLACK
        if self.drops is not None:
            fine &= self.drops <= limits.max_subgroup_drop + _SLACK
        return fine

    def best(self, limits: Limits, margin: float = 0.0) -> np.ndarray:
        """The smallest k whose score is within `margin` of the best one that keeps all limits, int64 [...]."""
        score = np.where(self.feasible(limits), self.score, -np.inf)
        enough = score >= score.max(axis=-1, keepdims=True) - margin - _SLACK
        return enough.argmax(axis=-1)

    def front(self) -> np.ndarray:
        """Prefixes that no other beats in the metric or in clean accuracy without losing in the other, bool [m + 1].

        Of several with the same two figures the smallest is on the front.
        """
        gain = -self.values if self.lower else self.values
        order = np.lexsort((np.arange(len(gain)), -self.clean, -gain))
        on = np.zeros(len(gain), bool)
        most = -np.inf
        for k in order:
            if self.clean[k] > most + _SLACK:
                on[k], most = True, self.clean[k]
        return on


@dataclass(frozen=True)
class Stability:
    """The choice of k repeated on resamples of the select images; the ranking stays.

    Attributes:
        rule: "best" or "one-se".
        best: the k of the best figure within the limits, whatever the rule.
        margin: one standard error of that prefix's gain in what is chosen by over the intact model, paired.
        lower, upper: band of the metric: the intact model's figure and the quantiles of the paired change, [m + 1].
        front: see `Sweep.front`.
        counts: how many of the resamples chose each k, int64 [m + 1].
        images: select images that the metric is taken over.
    """

    rule: str
    best: int
    margin: float
    lower: np.ndarray
    upper: np.ndarray
    front: np.ndarray
    counts: np.ndarray
    images: int
    level: float = 0.95


def judge(sweep: Sweep, draws: Sweep, limits: Limits, images: int, level: float = 0.95) -> Stability:
    """What the resamples `draws` say of the choice on `sweep`."""
    change = draws.values - draws.values[:, :1]
    tail = (1 - level) / 2
    lower, upper = sweep.values[0] + np.quantile(change, [tail, 1 - tail], axis=0)
    best = int(sweep.best(limits))
    margin = float((draws.score[:, best] - draws.score[:, 0]).std(ddof=1))
    chosen = draws.best(limits, margin if limits.choose == "one-se" else 0.0)
    return Stability(
        rule=limits.choose,
        best=best,
        margin=margin,
        lower=lower,
        upper=upper,
        front=sweep.front(),
        counts=np.bincount(chosen, minlength=len(sweep.values)),
        images=images,
        level=level,
    )


class SelectionRecord(TypedDict):
    """See `describe`."""

    choose: str
    best: int
    standard_error: float
    images: int
    resamples: int
    level: float
    none: float
    same: float
    middle: list[int]
    distribution: list[dict[str, float]]


def describe(found: Stability, k: int) -> SelectionRecord:
    """For the report: the rule, the standard error, and how often the resamples chose which k."""
    total = int(found.counts.sum())
    within = np.cumsum(found.counts) / total
    return {
        "choose": found.rule,
        "best": found.best,
        "standard_error": found.margin,
        "images": found.images,
        "resamples": total,
        "level": found.level,
        "none": float(found.counts[0] / total),
        "same": float(found.counts[k] / total),
        "middle": [int(np.searchsorted(within, share)) for share in (0.05, 0.5, 0.95)],
        "distribution": [{"k": int(i), "share": float(found.counts[i] / total)} for i in np.flatnonzero(found.counts)],
    }


@dataclass(frozen=True)
class Seen:
    """What was predicted of one set of images with nothing ablated and after each of m removals.

    Attributes:
        predicted: classes, int64 [m + 1, N].
        labels: int64 [N].
        cells: class × subgroup, within which images are resampled, int64 [N].
        retained: where the images stand that accuracy counts, int64; None: all do.
    """

    predicted: np.ndarray
    labels: np.ndarray
    cells: np.ndarray
    retained: np.ndarray | None = None

    @property
    def right(self) -> np.ndarray:
        """Whether each image is right, bool [m + 1, N]."""
        return self.predicted == self.labels


def resample(
    clean: Seen,
    objective: Objective,
    predicted: np.ndarray,
    rows: np.ndarray | None,
    guard: Seen | None,
    subgroups: Sequence[str] | None,
    seed: int,
    resamples: int = RESAMPLES,
    goal: Goal | None = None,
    floor: float = 0.0,
) -> Sweep:
    """The sweep on bootstrap resamples of the select images, stratified by cell.

    In a cell of n images n − 1 are drawn with replacement and weighted by n / (n − 1) (Rao & Wu 1988); cells of
    fewer than four images are pooled. All prefixes of a resample see the same images.

    Args:
        clean: of the select images.
        objective, predicted: of the objective's images on *select*; predictions int64 [m + 1, n].
        rows: which clean images they are, int64 [n]; None: images of their own (attacked), resampled on their own.
        guard: of the guard set's select images.
        subgroups: of the clean images, [N].
        goal: what is chosen by, of the clean images; None: the metric.
        floor: see `Sweep`.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0x5E1EC7]))
    hits = (predicted == objective.targets).T * objective.weights[:, None]  # [n, m + 1]
    gates, right = _gates(subgroups), clean.right
    kept = slice(None) if clean.retained is None else clean.retained
    n = len(clean.cells) + (0 if rows is not None else len(objective)) + (0 if guard is None else len(guard.cells))
    step = max(1, _CELLS_AT_ONCE // n)
    parts: list[tuple[np.ndarray, ...]] = []
    for first in range(0, resamples, step):
        size = min(step, resamples - first)
        counts = image_counts(clean.cells, size, rng)
        of = counts[:, rows] if rows is not None else image_counts(objective.cells, size, rng)
        values = of @ hits
        accuracy = counts[:, kept] @ right[:, kept].T / counts[:, kept].sum(axis=1, keepdims=True)
        drops = np.zeros_like(accuracy)
        for inside in gates:
            here = counts[:, inside]
            rates = here @ right[:, inside].T / np.maximum(here.sum(axis=1, keepdims=True), 1.0)
            drops = np.maximum(drops, rates[:, :1] - rates)
        held = np.zeros_like(accuracy)
        if guard is not None:
            drawn = image_counts(guard.cells, size, rng)
            held = drawn @ guard.right.T / drawn.sum(axis=1, keepdims=True)
        aims = values if goal is None else goal.score(goal.value(clean.predicted, counts))
        parts.append((values, accuracy, held, drops, aims))
    values, accuracy, held, drops, aims = (np.concatenate(part) for part in zip(*parts, strict=True))
    values = 1.0 - values if objective.complement else values
    return Sweep(
        values,
        accuracy,
        None if guard is None else held,
        None if subgroups is None else drops,
        objective.goal == "lower",
        None if goal is None else aims,
        floor,
    )


def _gates(subgroups: Sequence[str] | None) -> list[np.ndarray]:
    """The images of each subgroup that is large enough to gate."""
    if subgroups is None:
        return []
    names = np.asarray(subgroups)
    found = [np.flatnonzero(names == name) for name in np.unique(names)]
    return [inside for inside in found if len(inside) >= REFUSE_BELOW]
