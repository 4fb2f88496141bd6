"""The charts of a report as SVG strings, from plain data: used by report.html and by the web pages.

Shape, dash or position says what colour says; every chart has a title and a description, and is meant to stand
above a table with the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from repair_engine.pages.axes import area, decimals, percents, whole, x_axis, x_grid, y_axis
from repair_engine.pages.markup import Markup, element
from repair_engine.pages.svg import (
    NARROW,
    WIDE,
    Scale,
    colour,
    decimal,
    digits_for,
    figure,
    label,
    legend,
    line,
    marker,
    nice_scale,
    path,
    percent,
    responsive,
    shorten,
    text_width,
    whisker,
)

__all__ = [
    "NARROW",
    "WIDE",
    "Bar",
    "CurvePoint",
    "GroupRow",
    "ValueRow",
    "bars",
    "before_after",
    "interval_plot",
    "removal_curve",
    "responsive",
]

_UNIT = (0.0, 1.0)
_TOP = 26  # of the plot area, below one row of legend
_REACH = 8  # largest values that an interval is drawn to


@dataclass(frozen=True)
class CurvePoint:
    """One prefix of the ranking: shares in [0, 1] with `k` filters ablated, and whether all limits hold."""

    k: int
    metric: float
    clean: float
    feasible: bool
    guard: float | None = None
    true_label: float | None = None
    band: tuple[float, float] | None = None


@dataclass(frozen=True)
class GroupRow:
    """Recall of a group with intervals; `after` None where nothing was ablated."""

    name: str
    n: int
    before: float
    before_interval: tuple[float, float]
    after: float | None = None
    after_interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class ValueRow:
    """A filter's value with its interval; bounds None where there is none."""

    name: str
    value: float
    lower: float | None
    upper: float | None
    marked: bool


@dataclass(frozen=True)
class Bar:
    """A share in [0, 1]; `low` and `high` span repeated picks; the repair's own bar is `marked`."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    marked: bool = False


def removal_curve(
    points: Sequence[CurvePoint],
    chosen: int,
    metric: str,
    *,
    floor: float | None = None,
    one_line: bool = False,
    width: int = WIDE,
    ident: str = "curve",
) -> Markup:
    """Metric and clean accuracy against the number of ablated filters.

    Args:
        points: for k = 0, 1, … in order.
        chosen: the k that was chosen.
        metric: what the metric is called.
        floor: clean accuracy that the limit asks for, drawn as a line.
        one_line: the metric is the clean accuracy, so it is drawn once.
    """
    ident = f"{ident}-{width}"
    guarded, attacked = points[0].guard is not None, points[0].true_label is not None
    entries = [("disc", "after", metric)]
    entries += [] if one_line else [("square", "clean", "clean accuracy")]
    entries += [("triangle", "guard", "guard set")] if guarded else []
    entries += [("diamond", "before", "true label under attack")] if attacked else []
    entries += [("cross", "bad", "outside a limit")] if not all(p.feasible for p in points) else []
    key, used = legend(entries, 4, 12, width - 8)
    top, bottom, left, right = used + 34, used + 34 + (240 if width == WIDE else 200), 46, width - 12
    seen = [p.metric for p in points] + [p.clean for p in points] + [p.guard for p in points if p.guard is not None]
    seen += [p.true_label for p in points if p.true_label is not None]
    seen += [floor] if floor is not None else []
    seen += [_share(end) for p in points if p.band for end in p.band]
    y = nice_scale([v for v in seen if v is not None], bottom, top, 6, _UNIT)
    ks = _whole_ticks(points[-1].k, 10 if width == WIDE else 6)
    x = Scale(0, max(points[-1].k, 1), left + 8, right - 8, tuple(ks))
    parts: list[object] = [key, *_infeasible(points, x, top, bottom, ident)]
    parts += [*y_axis(y, left, right, percents(y)), *x_axis(x, bottom, whole, "filters ablated (k)")]
    if floor is not None:
        parts.append(line(left, y(floor), right, y(floor), "clean", 1, "2 4"))
        parts.append(label(right, y(floor) + 14, "least clean accuracy allowed", "clean", "end", 11))
    parts += [
        line(x(chosen), top - 6, x(chosen), bottom, "text", 1, "5 4"),
        _chosen_label(x(chosen), top, chosen, width),
    ]
    small = 4.0 if width == WIDE and len(points) < 40 else 2.5
    if not one_line:
        parts += _series([(x(p.k), y(p.clean)) for p in points], "clean", "7 3", "square", small - 0.5)
    if guarded:
        series = [(x(p.k), y(p.guard)) for p in points if p.guard is not None]
        parts += _series(series, "guard", "2 3", "triangle", small - 0.5)
    if attacked:
        series = [(x(p.k), y(p.true_label)) for p in points if p.true_label is not None]
        parts += _series(series, "before", "1 3", "diamond", small - 0.5)
    parts += _band([(x(p.k), y(_share(p.band[0])), y(_share(p.band[1]))) for p in points if p.band])
    parts.append(path([(x(p.k), y(p.metric)) for p in points], "after"))
    for p in points:
        tip = f"k = {p.k}: {metric} {percent(p.metric)}, clean accuracy {percent(p.clean)}"
        tip += "" if p.feasible else ", outside a limit"
        shape, role = ("disc", "after") if p.feasible else ("cross", "bad")
        parts.append(marker(shape, x(p.k), y(p.metric), role, small, tip))
    parts.append(marker("ring", x(chosen), y(points[chosen].metric), "text", small + 4))
    parts.append(marker("disc", x(chosen), y(points[chosen].metric), "after", small))
    first, at = points[0], points[chosen]
    described = f"{metric} goes from {percent(first.metric)} at k = 0 to {percent(at.metric)} at the "
    described += f"chosen k = {chosen}; clean accuracy from {percent(first.clean)} to {percent(at.clean)}. "
    if first.true_label is not None and at.true_label is not None:
        described += f"True labels under attack go from {percent(first.true_label)} to {percent(at.true_label)}. "
    described += f"{sum(not p.feasible for p in points)} of {len(points)} prefixes are outside a limit."
    return figure(ident, width, bottom + 46, "Removal curve on the select images", described, *parts)


def before_after(
    rows: Sequence[GroupRow], title: str = "Recall before and after", *, width: int = WIDE, ident: str = "groups"
) -> Markup:
    """Dots with intervals per group: a ring before, a diamond after."""
    ident, changed = f"{ident}-{width}", any(r.after is not None for r in rows)
    entries = [("ring", "before", "before")] + ([("diamond", "after", "after")] if changed else [])
    key, used = legend([*entries], 4, 12, width - 8)
    gutter = 118 if width == WIDE and changed else 58 if width == WIDE else 22
    left, right = _label_column([r.name for r in rows], width), width - gutter
    x = Scale(0, 1, left, right, (0, 0.25, 0.5, 0.75, 1))
    height = 42
    bottom = used + _TOP - 4 + height * len(rows)
    parts: list[object] = [key, *x_grid(x, used + 10, bottom, percents(x), "axis")]
    for i, row in enumerate(rows):
        middle = used + _TOP + height * i + height / 2 - 8
        if i:
            parts.append(line(4, middle - 19, width - 4, middle - 19, "grid"))
        parts += [
            label(4, middle, shorten(row.name, left - 14)),
            label(4, middle + 15, f"n = {row.n}", "muted", size=11),
        ]
        up = middle - 5 if changed else middle
        parts.append(whisker(x(row.before_interval[0]), x(row.before_interval[1]), up, "before"))
        parts.append(marker("ring", x(row.before), up, "before", 4, f"{row.name} before: {percent(row.before)}"))
        written = percent(row.before)
        if row.after is not None and row.after_interval is not None:
            low, high = row.after_interval
            parts.append(whisker(x(low), x(high), middle + 7, "after"))
            tip = f"{row.name} after: {percent(row.after)}"
            parts.append(marker("diamond", x(row.after), middle + 7, "after", 4, tip))
            written += f" → {percent(row.after)}"
        if width == WIDE:
            parts.append(label(width - 4, middle + 5, written, "text", "end", 12))
    return figure(ident, width, bottom + 24, title, _in_words_groups(rows), *parts)


def interval_plot(
    rows: Sequence[ValueRow],
    title: str = "Values of the culprits",
    *,
    meaning: tuple[str, str] = ("ablated", "not ablated"),
    width: int = WIDE,
    ident: str = "values",
) -> Markup:
    """Values with intervals around a zero line: a diamond where `marked`, else a ring.

    Intervals that are much wider than the values are cut, which is said: else all values would seem to be zero.

    Args:
        meaning: what marked and unmarked rows are.
    """
    ident = f"{ident}-{width}"
    entries = [("diamond", "after", meaning[0])] if any(r.marked for r in rows) else []
    entries += [("ring", "before", meaning[1])] if not all(r.marked for r in rows) else []
    key, used = legend(entries, 4, 12, width - 8)
    left, right = _label_column([r.name for r in rows], width), width - (70 if width == WIDE else 12)
    reach = min(1.0, _REACH * max((abs(r.value) for r in rows), default=0.0) or 1.0)
    ends = [0.0] + [min(max(e, -reach), reach) for r in rows for e in (r.value, r.lower, r.upper) if e is not None]
    x = nice_scale(ends, left, right, 6 if width == WIDE else 3, (-1.0, 1.0))
    cut = False
    height, shown = 24, digits_for([r.value for r in rows])
    bottom = used + _TOP + height * len(rows)
    parts: list[object] = [key, *x_grid(x, used + 10, bottom, decimals(x), "text")]
    for i, row in enumerate(rows):
        middle, role = used + _TOP + height * i + height / 2 - 4, "after" if row.marked else "before"
        parts.append(label(4, middle + 4, shorten(row.name, left - 14)))
        if row.lower is not None and row.upper is not None:
            whole = row.lower >= x.low - 1e-9, row.upper <= x.high + 1e-9
            low, high = max(row.lower, x.low), min(row.upper, x.high)
            parts.append(whisker(x(low), x(high), middle, role, caps=whole))
            cut = cut or not all(whole)
        parts.append(marker("diamond" if row.marked else "ring", x(row.value), middle, role, 4, row.name))
        if width == WIDE:
            parts.append(label(width - 4, middle + 4, decimal(row.value, shown), "text", "end", 12))
    said = [f"{r.name} {decimal(r.value, shown)}" for r in rows[:10]]
    described = f"{len(rows)} filters, worst first: {'; '.join(said)}{' and more' if len(rows) > 10 else ''}."
    if cut:
        parts.append(label(width - 4, 14, "intervals without caps reach further", "muted", "end", 11))
        described += " Some intervals reach further than is drawn."
    return figure(ident, width, bottom + 24, title, described, *parts)


def bars(
    rows: Sequence[Bar],
    title: str,
    reference: tuple[str, float] | None = None,
    *,
    width: int = WIDE,
    ident: str = "bars",
) -> Markup:
    """Horizontal bars from zero; the marked one is solid, the others are faint with an outline.

    Args:
        reference: name and level of a line to compare with, such as the intact model.
    """
    ident = f"{ident}-{width}"
    left, right = _label_column([r.name for r in rows], width), width - (58 if width == WIDE else 46)
    x = Scale(0, 1, left, right, (0, 0.25, 0.5, 0.75, 1))
    height, top = 30, 28 if reference else 8
    bottom = top + height * len(rows)
    parts: list[object] = [*x_grid(x, top, bottom, percents(x), "axis")]
    for i, row in enumerate(rows):
        y, role = top + height * i + 5, "after" if row.marked else "before"
        parts.append(label(4, y + 14, shorten(row.name, left - 14), weight="700" if row.marked else None))
        parts.append(
            element(
                "rect", element("title", f"{row.name}: {percent(row.value)}"), x=left, y=y,
                width=round(x(row.value) - left, 2), height=20, class_=f"s-{role} f-{role}",
                fill=colour(role), fill_opacity=1 if row.marked else 0.25, stroke=colour(role),
            )
        )  # fmt: skip
        end = x(row.value)
        if row.low is not None and row.high is not None:
            parts.append(whisker(x(row.low), x(row.high), y + 10, "text"))
            end = max(end, x(row.high))
        parts.append(label(end + 6, y + 14, percent(row.value), size=12))
    if reference:
        at = x(reference[1])
        parts.append(line(at, top - 6, at, bottom, "text", 1.5, "5 4"))
        parts.append(_edge_label(at, 14, f"{reference[0]} {percent(reference[1])}", width))
    described = "; ".join(f"{r.name} {percent(r.value)}" for r in rows)
    described += f"; {reference[0]} {percent(reference[1])}." if reference else "."
    return figure(ident, width, bottom + 24, title, described, *parts)


def _series(points: Sequence[tuple[float, float]], role: str, dash: str, shape: str, r: float) -> list[Markup]:
    return [path(points, role, 1.5, dash), *(marker(shape, px, py, role, r) for px, py in points)]


def _share(value: float) -> float:
    """A band's end, which as a sum of an estimate and a change may pass 0 or 1."""
    return min(max(value, 0.0), 1.0)


def _band(ends: Sequence[tuple[float, float, float]]) -> list[Markup]:
    """A shaded band (x, low, high) with thin edges, so that it is there in print too."""
    if len(ends) < 2:
        return []
    low, high = [(x, a) for x, a, _ in ends], [(x, b) for x, _, b in ends]
    return [area(ends, "after", 0.12), path(low, "after", 0.7, "1 2"), path(high, "after", 0.7, "1 2")]


def _infeasible(points: Sequence[CurvePoint], x: Scale, top: float, bottom: float, ident: str) -> list[Markup]:
    """Hatching behind the prefixes that break a limit."""
    if all(p.feasible for p in points):
        return []
    stripe = element("path", d="M0,6L6,0", class_="s-grid", stroke=colour("grid"), stroke_width=1)
    pattern = element("pattern", stripe, id=f"{ident}-hatch", width=6, height=6, patternUnits="userSpaceOnUse")
    half = (x(1) - x(0)) / 2
    out = [element("defs", pattern)]
    for feasible, run in groupby(points, lambda p: p.feasible):
        if not feasible:
            ks = [p.k for p in run]
            start, end = max(x(ks[0]) - half, x.start - 8), min(x(ks[-1]) + half, x.end + 8)
            width, height = round(end - start, 2), round(bottom - top, 2)
            out.append(element("rect", x=start, y=top, width=width, height=height, fill=f"url(#{ident}-hatch)"))
    return out


def _label_column(names: Sequence[str], width: int) -> float:
    longest = max((text_width(name) for name in names), default=0.0)
    return min(max(longest, 44) + 16, width * (0.34 if width == WIDE else 0.38))


def _whole_ticks(last: int, most: int) -> list[int]:
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, max(last, 1)) if last / s <= most)
    return list(range(0, last + 1, step))


def _chosen_label(x: float, top: float, k: int, width: int) -> Markup:
    return _edge_label(x, top - 12, f"k = {k} chosen" if k else "k = 0: nothing ablated", width)


def _edge_label(x: float, y: float, content: str, width: int) -> Markup:
    """A label centred on x where it fits, else moved inside the chart."""
    half = text_width(content, 12) / 2
    return label(min(max(x, half + 4), width - half - 4), y, content, "text", "middle", 12)


def _in_words_groups(rows: Sequence[GroupRow]) -> str:
    said = []
    for row in rows[:12]:
        after = "" if row.after is None else f" before, {percent(row.after)} after"
        said.append(f"{row.name} {percent(row.before)}{after}")
    return "; ".join(said) + (" and more." if len(rows) > 12 else ".")
