"""The charts of a running repair, drawn by the report's functions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from markupsafe import Markup

from repair_engine.pages.charts import RoundPoint, convergence
from repair_engine.pages.row_charts import ValueRow, interval_plot
from repair_engine.pages.svg import responsive


def leaders(rows: Sequence[dict]) -> Markup | None:
    """The present leaders with their intervals; None before there are any."""
    data = tuple(
        ValueRow(row["id"], row["value"], row.get("lower"), row.get("upper"), False)
        for row in rows
        if row["value"] is not None
    )
    return _leaders(data) if data else None


def rounds(points: Sequence[dict], total: int) -> Markup | None:
    """How the leaders' intervals narrow; None before the first round with intervals."""
    data = tuple(RoundPoint(point["phase"], point["evaluations"], point["half_width"]) for point in points)
    return _rounds(data, total) if data else None


# Drawn once for all who watch.


@lru_cache(maxsize=64)
def _leaders(data: tuple[ValueRow, ...]) -> Markup:
    heading = "Leading culprits so far"
    return responsive(lambda w: interval_plot(data, heading, meaning=("", "so far"), width=w, ident="leaders"))


@lru_cache(maxsize=64)
def _rounds(data: tuple[RoundPoint, ...], total: int) -> Markup:
    return responsive(lambda w: convergence(data, total, width=w))
