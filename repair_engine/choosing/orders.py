"""Which order of removal is used.

By value; by certainty, a value over its standard error; stepwise; as far as learned gates close; stepwise among what
they close. Stepwise orders that come near a limit on the score images are made once more, with limits kept by a margin
(`repair_engine.choosing.stepwise`). *select* decides (`plan.fewest_of_the_best`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NotRequired, TypedDict

import numpy as np

from repair_engine.case.case import Case
from repair_engine.choosing.gates import closed, learned_gates
from repair_engine.choosing.outcomes import (
    AMONG_GATES,
    BY_HAND,
    CERTAINTY,
    GATES,
    MARGIN,
    MARGIN_AMONG_GATES,
    STEPWISE,
    VALUE,
)
from repair_engine.choosing.plan import Plan, fewest_of_the_best, make_plan
from repair_engine.choosing.stepwise import AGAIN_SHARE, Greedy, Stepwise, StepwiseRecord
from repair_engine.choosing.stepwise import MARGIN as ERRORS_APART
from repair_engine.choosing.stepwise import SHARE as STEPWISE_SHARE
from repair_engine.search.phases import Ranking

GATES_SHARE = 0.1  # of the budget, in which gates are learned, in addition
_CLOSED = 80  # units, the most closed, among which a stepwise order looks
SHARE = 2 * (STEPWISE_SHARE + AGAIN_SHARE) + GATES_SHARE  # of the budget, spent in addition where orders are tried
# What an order is called in sentences.
_KINDS = {VALUE: "value", CERTAINTY: "certainty", STEPWISE: "stepwise", MARGIN: "stepwise"}

Progress = Callable[[str, float], None]


class OrderRow(TypedDict):
    """What one order gives on *select*."""

    order: str
    k: int
    select: float
    clean: float


class GatesRecord(TypedDict):
    """Units that gates close, 80 at the most, and evaluations of learning and of the stepwise order among them."""

    candidates: int
    evaluations: int


class OrdersRecord(StepwiseRecord):
    """All orders that were tried, which was used ("value", "certainty", "stepwise" or "gates") and why.

    "best": it did best on *select*; "fewest": another did, by less than one standard error, and ablates more filters.
    In results of before 2026-12 "gain", "fewer" and "", of a rule that asked for more. The figures beside `gates` are
    the stepwise order's; `picked` is 0 where nothing gained.
    """

    used: str
    why: str
    rows: list[OrderRow]
    gates: NotRequired[GatesRecord]  # not in results of before there were gates


def plan_of(
    case: Case,
    ranking: Ranking,
    budget: int,
    progress: Progress,
    candidates: np.ndarray | None = None,
    more: bool = True,
) -> tuple[Plan, Ranking, OrdersRecord | None]:
    """The plan that is used, the ranking in its order, and what was compared (None: there was only one order).

    Args:
        budget: of the search, in evaluations.
        candidates: of the stepwise order, int64, sorted; None: its own.
        more: try the orders by certainty and by gates beside those by value and stepwise.
    """
    plan = make_plan(case, ranking.players, progress, BY_HAND if case.settings.by_hand else VALUE)
    if case.settings.by_hand:
        return replace(plan, k=len(plan.players), stability=None), ranking, None
    if case.settings.limits.order != "auto":
        return plan, ranking, None
    plans = [plan]
    if more and len(certain := by_certainty(ranking, case.settings.metric.culprit_sign)):
        plans.append(make_plan(case, certain[: case.settings.limits.max_filters], progress, CERTAINTY))
    found, stepwise = _stepwise(case, ranking, budget, progress, candidates, (STEPWISE, MARGIN))
    plans += stepwise
    compared: OrdersRecord = {"used": "value", "why": "best", "rows": [], **found.describe()}
    if more:
        gated, compared["gates"] = _by_gates(case, ranking, budget, progress)
        plans += gated
    if len(plans) == 1:
        return plan, ranking, None
    place, compared["why"] = fewest_of_the_best(plans)
    used = plans[place]
    compared["used"] = _KINDS.get(used.walks[0].order, "gates")
    compared["rows"] = [
        {"order": one.walks[0].order, "k": one.k, "select": one.steps[one.k].objective, "clean": one.steps[one.k].clean}
        for one in plans
    ]
    walks = [walk for one in plans for walk in one.walks]
    walks = [*used.walks, *(one for one in walks if one is not used.walks[0])]
    return replace(used, walks=tuple(walks)), replace(ranking, players=used.players), compared


def by_certainty(ranking: Ranking, sign: int) -> np.ndarray:
    """Culprits by value over standard error, the largest first, int64 [m]; none where values are exact.

    Args:
        sign: +1 where culprits have positive values.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = sign * ranking.found.values[0] / ranking.found.std_errors[0]
    ratios = np.nan_to_num(ratios, nan=-np.inf, posinf=-np.inf)
    order = np.argsort(-ratios, kind="stable")
    return order[ratios[order] > 0]


def _stepwise(
    case: Case,
    ranking: Ranking,
    budget: int,
    progress: Progress,
    candidates: np.ndarray | None,
    names: tuple[str, str],
) -> tuple[Stepwise, list[Plan]]:
    """The stepwise order and its plan; near a limit also that of the order with a margin. No plan: nothing gained.

    Args:
        names: of both orders.
    """
    plans: list[Plan] = []
    greedy = Greedy.of(case, ranking, budget, progress, candidates)
    if greedy is None:
        return Stepwise(ranking.players[:0], 0, 0, 0, 0), plans
    found = greedy.order()
    if found.picked:
        plans.append(make_plan(case, found.players, progress, names[0]))
    if found.picked and found.tightest < ERRORS_APART:
        again = greedy.order(ERRORS_APART, int(AGAIN_SHARE * budget))
        found = replace(again, picked=found.picked)
        if again.picked:
            plans.append(make_plan(case, again.players, progress, names[1]))
    return found, plans


def _by_gates(case: Case, ranking: Ranking, budget: int, progress: Progress) -> tuple[list[Plan], GatesRecord]:
    """The plans of the order in which gates close, and of stepwise ones among the most closed; none: all stay open."""
    spent = 0

    def count(evaluations: int) -> None:
        nonlocal spent
        spent += evaluations
        progress("learning gates", spent / (GATES_SHARE * budget))

    masks = learned_gates(case, int(GATES_SHARE * budget), count)
    players = np.empty(0, dtype=np.int64) if masks is None else closed(masks, _CLOSED)
    plans = []
    if len(players):
        plans.append(make_plan(case, players[: case.settings.limits.max_filters], progress, GATES))
        names = AMONG_GATES, MARGIN_AMONG_GATES
        found, more = _stepwise(case, replace(ranking, players=players), budget, progress, np.sort(players), names)
        spent += found.evaluations
        plans += more
    return plans, {"candidates": len(players), "evaluations": spent}
