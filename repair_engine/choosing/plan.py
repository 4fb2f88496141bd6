"""The plan: every prefix of the ranking is tried on *select*, and the best one within the limits is chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TypedDict, cast

import numpy as np
import torch

from repair_engine.case.case import Case
from repair_engine.choosing.exam import Exam
from repair_engine.choosing.outcomes import VALUE, Judges, Walk
from repair_engine.choosing.selection import Stability, Sweep, judge
from repair_engine.data.pixels import Pixels
from repair_engine.network import Network, Trail, predictions
from repair_engine.question.request import Limits
from repair_engine.support.memory import DEFAULT, Room
from repair_engine.support.progress import BATCH


class StepRecord(TypedDict):
    """`Step` in documents."""

    k: int
    objective: float
    clean: float
    guard: float | None
    subgroup_drop: float | None
    feasible: bool
    true_label: float | None
    lower: float | None
    upper: float | None
    front: bool
    success: float | None
    goal: float | None


@dataclass(frozen=True)
class Step:
    """One prefix of the ranking on *select*.

    Attributes:
        k: filters ablated.
        objective: the metric, as shown.
        clean, guard: accuracy on clean images (guard None without a guard set).
        subgroup_drop: largest loss of recall of any subgroup that gates, None without subgroups.
        feasible: within all limits.
        true_label: share of the attacked images that are predicted as what they are, None without an attack.
        lower, upper: pointwise band of the metric, of its paired change against the intact model.
        front: on the Pareto front of metric against clean accuracy.
        success: share of the images with a trigger that it gives its class, None without one.
        goal: the figure of the goal that is chosen by in the place of the metric; else None.
    """

    k: int
    objective: float
    clean: float
    guard: float | None
    subgroup_drop: float | None
    feasible: bool
    true_label: float | None = None
    lower: float | None = None
    upper: float | None = None
    front: bool = False
    success: float | None = None
    goal: float | None = None

    def to_json(self) -> StepRecord:
        return cast(StepRecord, asdict(self))


@dataclass(frozen=True)
class Plan:
    """Ordered culprits, the curve over all prefixes, the chosen k and how stable the choice is."""

    players: np.ndarray
    steps: tuple[Step, ...]
    k: int
    stability: Stability | None = None
    resampled: np.ndarray | None = None  # what is chosen by at the chosen k on each resample of the images, [R]
    judges: Judges | None = None
    walks: tuple[Walk, ...] = ()  # of all orders that were tried, that of `players` first
    scores: np.ndarray | None = None  # what is chosen by, the larger the better, [m + 1]

    @property
    def chosen(self) -> np.ndarray:
        return self.players[: self.k]

    @property
    def score(self) -> float:
        """What is chosen by, at the chosen k."""
        assert self.scores is not None
        return float(self.scores[self.k])


def prefix_predictions(
    network: Network,
    pixels: Pixels,
    normalize: Callable[[torch.Tensor], torch.Tensor],
    removals: Sequence[int | np.ndarray],
    tick: Callable[[int], None] | None = None,
    room: Room | None = None,
) -> np.ndarray:
    """Predictions int64 [m + 1, N] with nothing ablated, then after each of m removals in turn.

    Args:
        removals: the player or players that each step removes in addition.
        tick, room: see `coalition_predictions`.
    """
    coalitions = np.ones((len(removals) + 1, network.n_filters), dtype=bool)
    for k, removed in enumerate(removals, 1):
        coalitions[k:, removed] = False
    return coalition_predictions(network, pixels, normalize, coalitions, tick, room)


def coalition_predictions(
    network: Network,
    pixels: Pixels,
    normalize: Callable[[torch.Tensor], torch.Tensor],
    coalitions: np.ndarray,
    tick: Callable[[int], None] | None = None,
    room: Room | None = None,
) -> np.ndarray:
    """Predictions int64 [m, N] under each of some coalitions, bool [m, n]; what two in turn share is computed once.

    Args:
        tick: told of evaluations.
        room: how many images at once, and bytes for their states; by default that of a small network.
    """
    out = np.empty((len(coalitions), len(pixels)), dtype=np.int64)
    step, stored = (BATCH, DEFAULT) if room is None else (room.along, room.stored)
    for i in range(0, len(pixels), step):
        trail = Trail(network, normalize(pixels[i : i + step].to(network.device)), stored)
        for k, coalition in enumerate(coalitions):
            out[k, i : i + step] = predictions(trail.logits(coalition)).cpu().numpy()
            if tick:
                tick(min(step, len(pixels) - i))
    return out


def masked_predictions(case: Case, pixels: Pixels, players: np.ndarray) -> np.ndarray:
    """Predictions int64 [N] of the network with `players` ablated."""
    subject = case.subject
    return prefix_predictions(subject.network, pixels, case.images.normalize, [players], room=subject.room)[1]


def judges_of(case: Case) -> Judges:
    """The images that a choice of filters is judged by."""
    exam, codes = Exam.of(case, "select"), np.empty(0, np.int64)
    names: tuple[str, ...] = ()
    if exam.subgroups is not None:
        found, codes = np.unique(exam.subgroups, return_inverse=True)
        names = tuple(str(name) for name in found)
    objective = exam.objective
    return Judges(
        tuple(case.images.class_names), exam.labels, names, codes, exam.rows, objective.targets, objective.weights,
        exam.true, exam.guard_labels, objective.complement, case.question.lowers,
        None if exam.triggered is None else exam.triggered.targets, exam.retained,
    )  # fmt: skip


def walk(case: Case, removals: Sequence[int | np.ndarray], order: str, progress: Callable[[str, float], None]) -> Walk:
    """Predictions of the select images (and the guard set's) after each removal.

    Args:
        removals: the player or players that each step removes in addition.
    """
    exam, subject = Exam.of(case, "select"), case.subject
    total = exam.images * (len(removals) + 1)
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        progress("trying every number of filters on the select images", done / total)

    predicted = {
        name: prefix_predictions(subject.network, pixels, case.images.normalize, removals, tick, subject.room)
        for name, pixels in exam.sets.items()
    }
    players = np.array([player for step in removals for player in np.atleast_1d(step)], dtype=np.int64)
    return Walk(order, players, **predicted)


def make_plan(case: Case, players: np.ndarray, progress: Callable[[str, float], None], order: str = VALUE) -> Plan:
    """Tries every prefix of `players` on *select* (and the guard set's) and chooses k."""
    exam, walked = Exam.of(case, "select"), walk(case, list(players), order, progress)
    predicted, settings = walked.predicted, case.settings
    sweep, draws, true = exam.sweep(predicted), exam.draws(predicted), exam.true_label(predicted)
    plan = choose(players, sweep, settings.limits, draws, len(exam.objective), true, settings.level)
    if exam.goal is not None:
        shown = exam.goal.value(predicted["clean"])
        goals = tuple(replace(step, goal=float(value)) for step, value in zip(plan.steps, shown, strict=True))
        plan = replace(plan, steps=goals)
    if (success := exam.success(predicted)) is not None:
        steps = (replace(step, success=float(share)) for step, share in zip(plan.steps, success, strict=True))
        plan = replace(plan, steps=tuple(steps))
    return replace(plan, judges=judges_of(case), walks=(walked,))


def choose(
    players: np.ndarray,
    sweep: Sweep,
    limits: Limits,
    draws: Sweep,
    images: int,
    true_label: np.ndarray | None = None,
    level: float = 0.95,
) -> Plan:
    """The best feasible prefix, or the smallest within one standard error of it; ties go to the fewest filters.

    Args:
        sweep: of the prefixes 0..m, [m + 1].
        draws: of resamples of the images, [R, m + 1].
        images: of the objective on *select*.
        true_label: share of the attacked images predicted as what they are, [m + 1], for the record.
        level: of the band of the metric.
    """
    found = judge(sweep, draws, limits, images, level)
    k = int(sweep.best(limits, found.margin if limits.choose == "one-se" else 0.0))
    feasible = sweep.feasible(limits)
    steps = tuple(
        Step(
            i,
            float(sweep.values[i]),
            float(sweep.clean[i]),
            None if sweep.guard is None else float(sweep.guard[i]),
            None if sweep.drops is None else float(sweep.drops[i]),
            bool(feasible[i]),
            None if true_label is None else float(true_label[i]),
            float(found.lower[i]),
            float(found.upper[i]),
            bool(found.front[i]),
        )
        for i in range(len(sweep.values))
    )
    return Plan(players, steps, k, found, draws.score[:, k], scores=sweep.score)


def fewest_of_the_best(plans: Sequence[Plan]) -> tuple[int, str]:
    """Which of several orders' plans is used, by the select images, and why.

    The best by what is chosen by, or another that is within one standard error of it and ablates fewer filters: the
    error is that of the paired difference on resamples. All plans were resampled with the same seed, so a resample has
    the same images in each. To leave the model as it is stands among them where an order found nothing.

    Returns:
        The place in `plans`; and "best", or "fewest" where it is another than the best.
    """
    scores = [plan.score for plan in plans]
    best = min(range(len(plans)), key=lambda i: (-scores[i], plans[i].k, i))

    def told_apart(i: int) -> bool:
        mine, others = plans[best].resampled, plans[i].resampled
        assert mine is not None
        assert others is not None
        return scores[best] - scores[i] > float((mine - others).std())

    close = (i for i in range(len(plans)) if not told_apart(i))
    used = min(close, key=lambda i: (plans[i].k, -scores[i], i))
    return used, "best" if used == best else "fewest"
