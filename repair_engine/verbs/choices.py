"""Choosing again after a run: what it keeps for that, and what another set of filters would do to *select*."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from repair_engine.case.case import Case
from repair_engine.case.stored_values import write_values
from repair_engine.choosing.outcomes import BY_HAND, FILE, Choice, Figures, figures
from repair_engine.choosing.plan import Plan, judges_of, walk
from repair_engine.search.phases import Ranking
from repair_engine.support.outputs import listed
from repair_engine.support.progress import Progress, silent

VALUES = "values.npz"  # beside what `score` calls objectives.npz: a repair may have started from that in this folder


def keep(case: Case, ranking: Ranking, plan: Plan, out: Path) -> dict[str, dict[str, str]]:
    """Outcomes of every prefix of all orders that were tried, and the values that were found, into a folder.

    Filters that were chosen by hand were valued alone: no ranking can start from their values.

    Returns:
        The files by their roles, for the record.
    """
    assert plan.judges is not None
    units = tuple(tuple(case.subject.network.filter_id(int(p)) for p in one.players) for one in plan.walks)
    Choice(plan.judges, case.settings.limits, plan.walks, units).write(out / FILE)
    names = {"choice": FILE}
    if not case.settings.by_hand:
        write_values(case, ranking.found, out / VALUES)
        names["values"] = VALUES
    return listed(out, names)


def what_if(case: Case, units: Sequence[str], progress: Progress = silent) -> Figures:
    """Figures of *select* with nothing ablated and with these filters ablated (row 1), by the masked network.

    Raises:
        BadInput: there is no such filter.
    """
    players = case.subject.network.players(units)

    def told(_: str, share: float) -> None:
        progress("looking at the select images", share)

    return figures(judges_of(case), walk(case, [players], BY_HAND, told))
