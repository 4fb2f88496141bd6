"""The charts of a baseline: recall by class, and how far confidence can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from repair_engine.pages.lines import LOOKS, Axis, Line, Point, line_chart
from repair_engine.pages.row_charts import before_after
from repair_engine.pages.svg import responsive
from repair_engine.support.words import count, percent

MOST_CLASSES = 24


def reliability(found: Mapping[str, Any]) -> Markup:
    """Accuracy against confidence, in bins: on the dashed line a model is as sure as it is right."""
    points = [
        Point(
            row["confidence"],
            row["accuracy"],
            f"{count(row['n'], 'image')}: {percent(row['confidence'])} sure, {percent(row['accuracy'])} right",
            ends=(row["lower"], row["upper"]),
        )
        for row in found["bins"]
    ]
    said = "; ".join(f"{percent(p.x, 0)} sure, {percent(p.y, 0)} right" for p in points) + "."
    lines = [
        Line("this model", LOOKS[0], points, size=4),
        Line("perfectly calibrated", ("cross", "text", "5 4"), [Point(0, 0), Point(1, 1)], width=1, size=0.01),
    ]
    confidence, accuracy = Axis("confidence, with the share right above it", also=(0, 1)), Axis(also=(0, 1))
    title = "Confidence and accuracy"
    return responsive(lambda w: line_chart(lines, title, said, confidence, accuracy, width=w, ident="reliability"))


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
