"""The chart of a baseline: recall by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from repair_engine.pages.row_charts import before_after
from repair_engine.pages.svg import responsive

MOST_CLASSES = 24


def recalls(rows: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Recall by class with intervals, the lowest first; None: there are none, or too many to be told apart."""
    if not 0 < len(rows) <= MOST_CLASSES:
        return None
    shown = [
        {"name": r["name"], "n": r["n"], "before": r["recall"], "before_interval": (r["lower"], r["upper"])}
        for r in sorted(rows, key=lambda r: r["recall"])
    ]
    title = "Recall by class"
    return responsive(lambda w: before_after(shown, False, title, meaning="recall", width=w, ident="recalls"))
