"""A repair by kind of unit: how its candidates spread over the kinds, and each kind removed alone on *select*."""

from __future__ import annotations

from itertools import pairwise
from typing import TypedDict

import numpy as np

from repair_engine.case.case import Case
from repair_engine.choosing.exam import Exam
from repair_engine.choosing.plan import Plan, walk
from repair_engine.documents.spread import OfKind, values_by_kind
from repair_engine.search.phases import Ranking
from repair_engine.studies.explain_curves import CurveRow, grid, kinds_alone
from repair_engine.studies.names import ALONE, LEAST, MOST
from repair_engine.support.progress import Progress


class RepairKind(OfKind):
    """How many of the candidates, and of the ablated ones, are of a kind that has so many units."""

    filters: int
    candidates: int
    expected: float
    ablated: int


class ByKind(TypedDict):
    """Rows, and of each kind with candidates a curve on *select* in the order of removal."""

    rows: list[RepairKind]
    curves: list[CurveRow]


def by_kind(case: Case, ranking: Ranking, plan: Plan, progress: Progress) -> ByKind | None:
    """None where there is one kind alone, or no ranking since units were chosen by hand.

    Args:
        plan: whose `players` are the candidates, of which the first k are ablated.
    """
    network = case.subject.network
    alone = kinds_alone(network)
    if not alone or case.settings.by_hand:
        return None
    rows: list[RepairKind] = []
    curves: list[CurveRow] = []
    for row in values_by_kind(network, ranking.found.ranked):
        units = alone[row["kind"]]
        mine = np.isin(plan.players, units)
        candidates = plan.players[mine]
        rows.append(
            {**row, "filters": len(units), "candidates": len(candidates), "ablated": int(mine[: plan.k].sum()),
             "expected": len(plan.players) * len(units) / network.n_filters}
        )  # fmt: skip
        if len(candidates):
            curves.append(_curve(case, ALONE[row["kind"]], candidates, progress))
    return {"rows": rows, "curves": curves}


def _curve(case: Case, name: str, candidates: np.ndarray, progress: Progress) -> CurveRow:
    ks = grid(len(candidates))

    def told(_: str, share: float) -> None:
        progress(f"removing {name} on the select images", share)

    walked = walk(case, [candidates[low:high] for low, high in pairwise(ks.tolist())], name, told)
    figures = Exam.of(case, "select").sweep(walked.predicted)
    return {
        "end": MOST if case.settings.metric.culprit_sign > 0 else LEAST,
        "ranking": name,
        "ks": ks.tolist(),
        "metric": figures.values.tolist(),
        "accuracy": figures.clean.tolist(),
    }
