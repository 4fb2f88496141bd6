"""The charts whose rows or bins are named things: groups, filters, controls, sites, values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup

from repair_engine.pages.svg import (
    SMALL,
    WIDE,
    Scale,
    bar,
    decimals,
    figure,
    inside,
    label,
    legend,
    line,
    marker,
    nice_scale,
    percents,
    responsive,
    shorten,
    text_width,
    whisker,
    whole,
    x_grid,
)
from repair_engine.support.words import decimal, digits_for, percent

Row = Mapping[str, Any]

_TOP = 26  # of the plot area, below one row of legend
_REACH = 8  # largest values that an interval is drawn to
_MOST_SITES = 40


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


def before_after(
    rows: Sequence[Row],
    changed: bool,
    title: str = "Recall before and after",
    *,
    meaning: str = "before",
    width: int = WIDE,
    ident: str = "groups",
) -> Markup:
    """Dots with intervals per group: a ring before, a diamond after where something `changed`.

    Args:
        rows: of a table of a document's groups.
        meaning: of the ring.
    """
    entries = [("ring", "before", meaning)] + ([("diamond", "after", "after")] if changed else [])
    key, used = legend(entries, 4, 12, width - 8)
    gutter = 118 if width == WIDE and changed else 58 if width == WIDE else 22
    left, right = _label_column([r["name"] for r in rows], width), width - gutter
    x = Scale(0, 1, left, right, (0, 0.25, 0.5, 0.75, 1))
    height = 42
    bottom = used + _TOP - 4 + height * len(rows)
    parts: list[object] = [key, *x_grid(x, used + 10, bottom, percents(x), "axis")]
    said = []
    for i, row in enumerate(rows):
        middle = used + _TOP + height * i + height / 2 - 8
        if i:
            parts.append(line(4, middle - 19, width - 4, middle - 19, "grid"))
        parts.append(label(4, middle, shorten(row["name"], left - 14)))
        parts.append(label(4, middle + 15, f"n = {row['n']}", "muted", size=11))
        both = [("before", "ring", middle - 5 if changed else middle)]
        both += [("after", "diamond", middle + 7)] if changed else []
        for when, shape, y in both:
            low, high = row[f"{when}_interval"]
            parts.append(whisker(x(low), x(high), y, when))
            parts.append(marker(shape, x(row[when]), y, when, 4, f"{row['name']} {when}: {percent(row[when])}"))
        if width == WIDE:
            shares = " → ".join(percent(row[when]) for when, *_ in both)
            parts.append(label(width - 4, middle + 5, shares, "text", "end", SMALL))
        after = f" before, {percent(row['after'])} after" if changed else ""
        said.append(f"{row['name']} {percent(row['before'])}{after}")
    described = "; ".join(said[:12]) + (" and more." if len(rows) > 12 else ".")
    return figure(f"{ident}-{width}", width, bottom + 24, title, described, *parts)


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
            drawn = row.lower >= x.low - 1e-9, row.upper <= x.high + 1e-9
            low, high = max(row.lower, x.low), min(row.upper, x.high)
            parts.append(whisker(x(low), x(high), middle, role, caps=drawn))
            cut = cut or not all(drawn)
        parts.append(marker("diamond" if row.marked else "ring", x(row.value), middle, role, 4, row.name))
        if width == WIDE:
            parts.append(label(width - 4, middle + 4, decimal(row.value, shown), "text", "end", SMALL))
    said = [f"{r.name} {decimal(r.value, shown)}" for r in rows[:10]]
    described = f"{len(rows)} filters, worst first: {'; '.join(said)}{' and more' if len(rows) > 10 else ''}."
    if cut:
        parts.append(label(width - 4, 14, "intervals without caps reach further", "muted", "end", 11))
        described += " Some intervals reach further than is drawn."
    return figure(f"{ident}-{width}", width, bottom + 24, title, described, *parts)


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
    left, right = _label_column([r.name for r in rows], width), width - (58 if width == WIDE else 46)
    x = Scale(0, 1, left, right, (0, 0.25, 0.5, 0.75, 1))
    height, top = 30, 28 if reference else 8
    bottom = top + height * len(rows)
    parts: list[object] = [*x_grid(x, top, bottom, percents(x), "axis")]
    for i, row in enumerate(rows):
        y, role = top + height * i + 5, "after" if row.marked else "before"
        parts.append(label(4, y + 14, shorten(row.name, left - 14), weight="700" if row.marked else None))
        tip = f"{row.name}: {percent(row.value)}"
        parts.append(bar(left, y, x(row.value) - left, 20, role, tip, 1 if row.marked else 0.25))
        end = x(row.value)
        if row.low is not None and row.high is not None:
            parts.append(whisker(x(row.low), x(row.high), y + 10, "text"))
            end = max(end, x(row.high))
        if reference and end < x(reference[1]) < end + 52:
            end = x(reference[1])  # the share stands beside the line, not on it
        parts.append(label(end + 6, y + 14, percent(row.value), size=SMALL))
    described = [f"{r.name} {percent(r.value)}" for r in rows]
    if reference:
        at, described = x(reference[1]), [*described, f"{reference[0]} {percent(reference[1])}"]
        parts.append(line(at, top - 6, at, bottom, "text", 1.5, "5 4"))
        parts.append(inside(at, 14, described[-1], width))
    return figure(f"{ident}-{width}", width, bottom + 24, title, "; ".join(described) + ".", *parts)


def histogram(edges: Sequence[float], counts: Sequence[int], title: str, *, width: int = WIDE, ident: str) -> Markup:
    """Filters per bin of values; the counts' axis is logarithmic, for most values lie close to zero."""
    top, bottom, left, right = 14, 14 + (170 if width == WIDE else 150), 52, width - 12
    highest = max(counts, default=1)
    foot, head = math.log10(0.6), max(math.log10(max(highest, 1)) + 0.1, 1.0)
    ticks = nice_scale([edges[0], edges[-1]], 0, 1, 7 if width == WIDE else 4, (edges[0], edges[-1])).ticks
    x = Scale(edges[0], edges[-1], left, right, ticks)
    y = Scale(foot, head, bottom, top, tuple(range(int(head) + 1)))
    parts: list[object] = []
    for power in y.ticks:
        parts.append(line(left, y(power), right, y(power), "grid"))
        parts.append(label(left - 6, y(power) + 4, f"{10 ** int(power):,}", "muted", "end", SMALL))
    for low, high, n in zip(edges[:-1], edges[1:], counts):
        if n:
            tip = f"{n:,} with values from {decimal(low, 5)} to {decimal(high, 5)}"
            at = y(math.log10(n))
            parts.append(bar(x(low), at, max(x(high) - x(low) - 1, 0.5), bottom - at, "after", tip))
    parts.append(line(left, bottom, right, bottom, "axis"))
    write = decimals(x)
    for tick in ticks:
        parts.append(line(x(tick), bottom, x(tick), bottom + 4, "axis"))
        parts.append(label(x(tick), bottom + 18, write(tick), "muted", "middle", SMALL))
    parts.append(label((left + right) / 2, bottom + 38, "value", "muted", "middle", SMALL))
    said = f"{sum(counts):,} filters; the fullest bin holds {highest:,}. Values from {decimal(edges[0], 5)} to "
    return figure(f"{ident}-{width}", width, bottom + 44, title, f"{said}{decimal(edges[-1], 5)}.", *parts)


def histogram_chart(found: Row, title: str, ident: str) -> Markup:
    """`histogram` of a document's record."""
    return responsive(lambda w: histogram(found["edges"], found["counts"], title, width=w, ident=ident))


def filled(counts: Sequence[int]) -> list[int]:
    """The bins that hold any."""
    return [i for i, n in enumerate(counts) if n]


def layers(rows: Sequence[Row], title: str, *, width: int = WIDE) -> Markup:
    """Per site, how many of the most and of the least critical filters it holds; a tick where chance would put them.

    Of many sites, only those that hold any.
    """
    shown = shown_layers(rows)
    entries = [("disc", "after", "most critical"), ("square", "clean", "least critical")]
    keyed, used = legend([*entries, ("cross", "text", "if spread evenly")], 4, 12, width - 8)
    left = min(max((text_width(r["site"]) for r in shown), default=44) + 14, width * 0.36)
    most = max([1.0, *(float(v) for r in shown for v in (r["most"], r["least"], r["expected"]))])
    x = nice_scale([0, most], left, width - 40, 6 if width == WIDE else 4, (0, most * 1.2))
    x = replace(x, ticks=tuple(t for t in x.ticks if abs(t - round(t)) < 1e-9))
    height = 26
    top, bottom = used + 6, used + 6 + height * len(shown)
    parts: list[object] = [keyed, *x_grid(x, top, bottom, whole(x))]
    for i, r in enumerate(shown):
        y = top + height * i + 4
        parts.append(label(4, y + 13, shorten(r["site"], left - 8)))
        for key, role, at in (("most", "after", y), ("least", "clean", y + 9)):
            if r[key]:
                tip = f"{r['site']}: {r[key]} of the {key} critical, of {r['filters']:,} filters"
                parts.append(bar(left, at, x(r[key]) - left, 8, role, tip, 1 if key == "most" else 0.35))
        parts.append(marker("cross", x(r["expected"]), y + 8, "text", 3))
    parts.append(line(left, top, left, bottom, "axis"))
    said = "; ".join(f"{r['site']} {r['most']} and {r['least']} of {r['filters']}" for r in shown[:20])
    described = f"Most and least critical filters per site: {said}."
    return figure(f"layers-{width}", width, bottom + 24, title, described, *parts)


def shown_layers(rows: Sequence[Row]) -> list[Row]:
    """The sites that the chart draws."""
    return list(rows) if len(rows) <= _MOST_SITES else [r for r in rows if r["most"] or r["least"]]


def _label_column(names: Sequence[str], width: int) -> float:
    longest = max((text_width(name) for name in names), default=0.0)
    return min(max(longest, 44) + 16, width * (0.34 if width == WIDE else 0.38))
