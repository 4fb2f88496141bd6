"""Which order of removal is used: by value, or stepwise; *select* decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypedDict

import numpy as np

from repair_engine.case.case import Case
from repair_engine.choosing.outcomes import BY_HAND, MARGIN, STEPWISE, VALUE
from repair_engine.choosing.plan import Plan, better, make_plan
from repair_engine.choosing.stepwise import AGAIN_SHARE, Greedy, StepwiseRecord
from repair_engine.choosing.stepwise import MARGIN as ERRORS_APART
from repair_engine.search.phases import Ranking


class OrderRow(TypedDict):
    """What one order gives on *select*."""

    order: str
    k: int
    select: float
    clean: float


class OrdersRecord(StepwiseRecord):
    """Both orders, which was used and why ("" by value)."""

    used: str
    why: str
    rows: list[OrderRow]


def plan_of(
    case: Case,
    ranking: Ranking,
    budget: int,
    progress: Callable[[str, float], None],
    candidates: np.ndarray | None = None,
) -> tuple[Plan, Ranking, OrdersRecord | None]:
    """The plan by value or a stepwise one, the ranking in its order, and what was compared (None: only one).

    Args:
        budget: of the search, in evaluations.
        candidates: of the stepwise order, int64, sorted; None: its own.
    """
    plan = make_plan(case, ranking.players, progress, BY_HAND if case.settings.by_hand else VALUE)
    if case.settings.by_hand:
        return replace(plan, k=len(plan.players), stability=None), ranking, None
    greedy = Greedy.of(case, ranking, budget, progress, candidates) if case.settings.limits.order == "auto" else None
    found = None if greedy is None else greedy.order()
    if greedy is None or found is None or not found.picked:
        return plan, ranking, None
    tried = [_row(VALUE, plan)]
    other = make_plan(case, found.players, progress, STEPWISE)
    why = better(plan, other)
    walks = [*plan.walks, *other.walks]
    tried.append(_row(STEPWISE, other))
    if not why and found.tightest < ERRORS_APART:
        found = greedy.order(ERRORS_APART, int(AGAIN_SHARE * budget))
        if found.picked:
            other = make_plan(case, found.players, progress, MARGIN)
            why = better(plan, other)
            walks += other.walks
            tried.append(_row(MARGIN, other))
    compared: OrdersRecord = {"used": "stepwise" if why else "value", "why": why, "rows": tried, **found.describe()}
    used = other if why else plan
    walks = [*used.walks, *(one for one in walks if one is not used.walks[0])]
    return replace(used, walks=tuple(walks)), replace(ranking, players=used.players), compared


def _row(order: str, plan: Plan) -> OrderRow:
    return {"order": order, "k": plan.k, "select": plan.steps[plan.k].objective, "clean": plan.steps[plan.k].clean}
