"""Two charts that the experiments need, of the report's own scales, marks and colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from repair_engine.pages.lines import LOOKS, Axis, Line, Point, line_chart
from repair_engine.pages.svg import decimals, percents
from repair_engine.support.words import percent


@dataclass(frozen=True)
class Series:
    """One line: points (x, y), and where there is one a band (x, low, high) around it."""

    name: str
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float, float]] = ()


def lines(series: Sequence[Series], title: str, x_name: str, y_name: str, ident: str, shares: bool = True) -> Markup:
    """Lines with marks and bands over a common axis.

    Args:
        shares: y is a share of [0, 1], written as a percentage.
    """
    drawn = []
    for i, of in enumerate(series):
        points = [Point(a, b, f"{of.name}, {a:g}: {_said(b, shares)}") for a, b in of.points]
        drawn.append(Line(of.name, LOOKS[i % len(LOOKS)], points, of.band, 1.8))
    described = "; ".join(
        f"{of.name} from {_said(of.points[0][1], shares)} at {of.points[0][0]:g} to {_said(of.points[-1][1], shares)} "
        f"at {of.points[-1][0]:g}"
        for of in series
    )
    x = Axis(x_name, decimals, (-np.inf, np.inf), (10, 5))
    y = Axis(y_name, percents, also=(0.0,)) if shares else Axis(y_name, decimals, (-np.inf, np.inf))
    return line_chart(drawn, title, f"{described}.", x, y, height=(250, 250), ident=ident)


def histogram(values: dict[str, np.ndarray], title: str, x_name: str, ident: str, bins: int = 40) -> Markup:
    """Share of the values in each of equal bins, one outline per entry, over a common range."""
    low, high = (float(f([f(v) for v in values.values()])) for f in (np.min, np.max))
    edges = np.linspace(low, high, bins + 1)
    series = []
    for name, of in values.items():
        shares = np.histogram(of, edges)[0] / max(len(of), 1)
        middles = (edges[:-1] + edges[1:]) / 2
        series.append(Series(name, [(float(a), float(b)) for a, b in zip(middles, shares)]))
    return lines(series, title, x_name, "share of filters", ident)


def _said(value: float, shares: bool) -> str:
    return percent(value) if shares else f"{value:.4g}"
