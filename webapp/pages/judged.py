"""Gates by which a run was judged, as its page lists them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from repair_engine.pages.gate_wording import counted, measured
from repair_engine.pages.rendering import printable
from webapp.jobs.models import GateCheck, Job

SHOWN = 10  # files of gates


@dataclass(frozen=True)
class Judged:
    """What one file of gates said.

    Attributes:
        counted: how many passed, in words.
        gates: text, verdict and measured of each, those that failed first.
    """

    row: GateCheck
    counted: str
    gates: Sequence[Mapping[str, str]]


def of_run(job: Job) -> dict[str, Any]:
    """What the page's part of gates needs; no checks: it was never judged."""
    rows = list(job.gate_checks.select_related("by").order_by("-created_at", "-pk"))
    return {"gate_checks": [_judged(row) for row in rows[:SHOWN]], "gates_more": max(0, len(rows) - SHOWN)}


def _judged(row: GateCheck) -> Judged:
    gates = [
        {"text": printable(one["text"]), "verdict": one["verdict"], "measured": printable(measured(one))}
        for one in sorted(row.judged["gates"], key=lambda one: one["verdict"] != "failed")
    ]
    return Judged(row, counted(row.judged), gates)
