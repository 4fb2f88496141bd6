"""Which order of removal is used: by value, stepwise, as far as learned gates close, or stepwise among what they close.

*select* decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NotRequired, TypedDict

import numpy as np

from repair_engine.case.case import Case
from repair_engine.choosing.gates import closed, learned_gates
from repair_engine.choosing.outcomes import AMONG_GATES, BY_HAND, GATES, MARGIN, STEPWISE, VALUE
from repair_engine.choosing.plan import Plan, better, make_plan
from repair_engine.choosing.stepwise import AGAIN_SHARE, Greedy, StepwiseRecord
from repair_engine.choosing.stepwise import MARGIN as ERRORS_APART
from repair_engine.choosing.stepwise import SHARE as STEPWISE_SHARE
from repair_engine.search.phases import Ranking

GATES_SHARE = 0.1  # of the budget, in which gates are learned, in addition
_CLOSED = 80  # units, the most closed, among which a stepwise order looks
SHARE = 2 * STEPWISE_SHARE + GATES_SHARE  # of the budget, spent in addition where orders are tried


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
    """All orders, which was used ("value", "stepwise" or "gates") and why ("" by value).

    The figures beside `gates` are the stepwise order's.
    """

    used: str
    why: str
    rows: list[OrderRow]
    gates: NotRequired[GatesRecord]  # not in results of before there were gates


def plan_of(
    case: Case,
    ranking: Ranking,
    budget: int,
    progress: Callable[[str, float], None],
    candidates: np.ndarray | None = None,
    gates: bool = True,
) -> tuple[Plan, Ranking, OrdersRecord | None]:
    """The plan by value or another one, the ranking in its order, and what was compared (None: only one).

    Each takes the place of the one before where it does better on *select* (`plan.better`).

    Args:
        budget: of the search, in evaluations.
        candidates: of the stepwise order, int64, sorted; None: its own.
        gates: learn gates and try their orders.
    """
    plan = make_plan(case, ranking.players, progress, BY_HAND if case.settings.by_hand else VALUE)
    if case.settings.by_hand:
        return replace(plan, k=len(plan.players), stability=None), ranking, None
    greedy = Greedy.of(case, ranking, budget, progress, candidates) if case.settings.limits.order == "auto" else None
    found = None if greedy is None else greedy.order()
    if greedy is None or found is None or not found.picked:
        return plan, ranking, None
    plans = [plan, make_plan(case, found.players, progress, STEPWISE)]
    used, why, order = plan, better(*plans), "value"
    if not why and found.tightest < ERRORS_APART:
        found = greedy.order(ERRORS_APART, int(AGAIN_SHARE * budget))
        if found.picked:
            plans.append(make_plan(case, found.players, progress, MARGIN))
            why = better(plan, plans[-1])
    if why:
        used, order = plans[-1], "stepwise"
    compared: OrdersRecord = {"used": order, "why": why, "rows": [], **found.describe()}
    if gates:
        more, compared["gates"] = _by_gates(case, ranking, budget, progress)
        for one in more:
            if again := better(used, one):
                used = one
                compared |= {"used": "gates", "why": again}
        plans += more
    compared["rows"] = [
        {"order": one.walks[0].order, "k": one.k, "select": one.steps[one.k].objective, "clean": one.steps[one.k].clean}
        for one in plans
    ]
    walks = [walk for one in plans for walk in one.walks]
    walks = [*used.walks, *(one for one in walks if one is not used.walks[0])]
    return replace(used, walks=tuple(walks)), replace(ranking, players=used.players), compared


def _by_gates(
    case: Case, ranking: Ranking, budget: int, progress: Callable[[str, float], None]
) -> tuple[list[Plan], GatesRecord]:
    """The plans of the order in which gates close, and of a stepwise one among the most closed; none: all stay open."""
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
        greedy = Greedy.of(case, replace(ranking, players=players), budget, progress, np.sort(players))
        if greedy is not None and (found := greedy.order()).picked:
            spent += found.evaluations
            plans.append(make_plan(case, found.players, progress, AMONG_GATES))
    return plans, {"candidates": len(players), "evaluations": spent}
