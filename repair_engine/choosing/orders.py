"""Which order of removal is used: by value, or stepwise; *select* decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypedDict

from repair_engine.case.case import Case
from repair_engine.choosing.plan import Plan, better, make_plan
from repair_engine.choosing.stepwise import AGAIN_SHARE, MARGIN, Greedy, StepwiseRecord
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
    case: Case, ranking: Ranking, budget: int, progress: Callable[[str, float], None]
) -> tuple[Plan, Ranking, OrdersRecord | None]:
    """The plan by value or a stepwise one, the ranking in its order, and what was compared (None: only one).

    Args:
        budget: of the search, in evaluations.
    """
    plan = make_plan(case, ranking.players, progress)
    if case.settings.by_hand:
        return replace(plan, k=len(plan.players), stability=None), ranking, None
    greedy = Greedy.of(case, ranking, budget, progress) if case.settings.limits.order == "auto" else None
    found = None if greedy is None else greedy.order()
    if greedy is None or found is None or not found.picked:
        return plan, ranking, None
    lower = case.question.lowers
    tried = [_row("value", plan)]
    other = make_plan(case, found.players, progress)
    why = better(plan, other, lower)
    tried.append(_row("stepwise", other))
    if not why and found.tightest < MARGIN:
        found = greedy.order(MARGIN, int(AGAIN_SHARE * budget))
        if found.picked:
            other = make_plan(case, found.players, progress)
            why = better(plan, other, lower)
            tried.append(_row("stepwise with a margin", other))
    compared: OrdersRecord = {"used": "stepwise" if why else "value", "why": why, "rows": tried, **found.describe()}
    if not why:
        return plan, ranking, compared
    return other, replace(ranking, players=found.players), compared


def _row(order: str, plan: Plan) -> OrderRow:
    return {"order": order, "k": plan.k, "select": plan.steps[plan.k].objective, "clean": plan.steps[plan.k].clean}
