"""Two charts that the experiments need, of the report's own scales, marks and colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from repair_engine.pages.axes import area, decimals, percents, x_axis, y_axis
from repair_engine.pages.markup import Markup
from repair_engine.pages.svg import WIDE, figure, label, legend, marker, nice_scale, path, percent

_STYLES = (
    ("disc", "after", None),
    ("square", "clean", "7 3"),
    ("triangle", "guard", "2 3"),
    ("cross", "bad", "5 2"),
    ("ring", "before", "1 3"),
    ("diamond", "text", "9 4"),
    ("ring", "after", "4 4"),
    ("square", "bad", "1 2"),
)
_HEIGHT = 250
_LEFT, _RIGHT = 56, WIDE - 14


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
    styles = [_STYLES[i % len(_STYLES)] for i in range(len(series))]
    key, used = legend([(s[0], s[1], of.name) for s, of in zip(styles, series)], 4, 12, WIDE - 8)
    top, bottom = used + 24, used + 24 + _HEIGHT
    ys = [y for of in series for _, y in of.points] + [e for of in series for _, *ends in of.band for e in ends]
    y = nice_scale([*ys, 0.0] if shares else ys, bottom, top, 6, (0.0, 1.0) if shares else (-np.inf, np.inf))
    x = nice_scale([p[0] for of in series for p in of.points], _LEFT + 8, _RIGHT - 8, 10, (-np.inf, np.inf))
    parts: list[object] = [key, label(_LEFT - 46, top - 8, y_name, "muted", size=12)]
    parts += y_axis(y, _LEFT, _RIGHT, percents(y) if shares else decimals(y), "axis")
    parts += x_axis(x, bottom, decimals(x), x_name, marks=True)
    for (shape, role, dash), of in zip(styles, series):
        if of.band:
            parts.append(area([(x(a), y(low), y(high)) for a, low, high in of.band], role, 0.15))
        parts.append(path([(x(a), y(b)) for a, b in of.points], role, 1.8, dash))
        for a, b in of.points:
            parts.append(marker(shape, x(a), y(b), role, 3, f"{of.name}, {a:g}: {_said(b, shares)}"))
    described = "; ".join(
        f"{of.name} from {_said(of.points[0][1], shares)} at {of.points[0][0]:g} to {_said(of.points[-1][1], shares)} "
        f"at {of.points[-1][0]:g}"
        for of in series
    )
    return figure(ident, WIDE, bottom + 46, title, f"{described}.", *parts)


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
