"""The charts of a running repair, drawn by the report's functions."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from repair_engine.pages.charts import RoundPoint, convergence
from repair_engine.pages.row_charts import ValueRow, interval_plot
from repair_engine.pages.svg import responsive


def leaders(rows: Sequence[dict]) -> Markup | None:
    """The present leaders with their intervals; None before there are any."""
    data = [
        ValueRow(row["id"], row["value"], row.get("lower"), row.get("upper"), False)
        for row in rows
        if row["value"] is not None
    ]
    if not data:
        return None
    heading = "Leading culprits so far"
    return responsive(lambda w: interval_plot(data, heading, meaning=("", "so far"), width=w, ident="leaders"))


def rounds(points: Sequence[dict], total: int) -> Markup | None:
    """How the leaders' intervals narrow; None before the first round with intervals."""
    data = [RoundPoint(point["phase"], point["evaluations"], point["half_width"]) for point in points]
    return responsive(lambda w: convergence(data, total, width=w)) if data else None
