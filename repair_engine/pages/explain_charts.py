"""The charts of an explanation as SVG strings, from the document alone: used by explain.html and by the web pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from repair_engine.pages.axes import area, decimals, percents, whole, x_axis, x_grid, y_axis
from repair_engine.pages.markup import Markup, element
from repair_engine.pages.svg import (
    WIDE,
    Scale,
    colour,
    decimal,
    figure,
    label,
    legend,
    line,
    marker,
    nice_scale,
    path,
    percent,
    shorten,
    text_width,
)
from repair_engine.studies.names import LEAVE_ONE_OUT, NEAREST_ZERO, RANDOM, RESPONSES, SHAPLEY, WEIGHTS

Row = dict[str, Any]

LOOKS: dict[str, tuple[str, str, str | None]] = {
    SHAPLEY: ("disc", "after", None),
    WEIGHTS: ("square", "clean", "7 3"),
    RESPONSES: ("triangle", "guard", "2 3"),
    LEAVE_ONE_OUT: ("diamond", "bad", "9 3 2 3"),
    RANDOM: ("ring", "before", "1 3"),
    NEAREST_ZERO: ("ring", "after", "4 4"),
}
_ROW = 26
_MOST_SITES = 40


def removal(
    rows: Sequence[Row],
    key: str,
    title: str,
    *,
    shift: float | None = None,
    names: Sequence[str] | None = None,
    width: int = WIDE,
    ident: str = "removal",
) -> Markup:
    """A share against the number of removed filters, one line per ranking, with a band for the random orders.

    Args:
        rows: of one end; see `explain.document.curve_rows`.
        key: "metric" or "accuracy".
        shift: level that a shift of the logits reaches.
        names: what the lines are called, where not by their ranking.
    """
    ident, called = f"{ident}-{width}", names or [r["ranking"] for r in rows]
    looks = [LOOKS[r["ranking"]] for r in rows]
    if names is not None:
        looks = [("disc", "after", None), ("square", "clean", "7 3")][: len(rows)]
    keyed, used = legend([(look[0], look[1], name) for look, name in zip(looks, called)], 4, 12, width - 8)
    top, bottom, left, right = used + 22, used + 22 + (230 if width == WIDE else 190), 46, width - 14
    seen = [v for r in rows for v in r[key]] + [v for r in rows for ends in r.get(f"{key}_range", []) for v in ends]
    y = nice_scale([*seen, *([] if shift is None else [shift])], bottom, top, 6, (0.0, 1.0))
    last = max(r["ks"][-1] for r in rows)
    ticks = nice_scale([0, last], 0, 1, 10 if width == WIDE else 5, (0, last)).ticks
    x = Scale(0, max(last, 1), left + 6, right - 6, tuple(k for k in ticks if k == int(k)))
    parts: list[object] = [keyed, *y_axis(y, left, right, percents(y)), *x_axis(x, bottom, whole, "filters removed")]
    if shift is not None:
        parts.append(line(left, y(shift), right, y(shift), "text", 1, "5 4"))
        parts.append(label(right - 2, y(shift) - 5, "logit shift", "text", "end", 11))
    for r in rows:
        if f"{key}_range" in r:
            ends = zip(r["ks"], *r[f"{key}_range"])
            parts.append(area([(x(k), y(low), y(high)) for k, low, high in ends], "before", 0.16))
    for r, name, (shape, role, dash) in reversed(list(zip(rows, called, looks))):
        at = [(x(k), y(v)) for k, v in zip(r["ks"], r[key])]
        parts.append(path(at, role, 2 if role == "after" else 1.5, dash))
        for (px, py), k, v in zip(at, r["ks"], r[key]):
            parts.append(marker(shape, px, py, role, 3.2 if role == "after" else 2.6, f"{name}, {k}: {percent(v)}"))
    said = "; ".join(
        f"{name} from {percent(r[key][0])} to {percent(r[key][-1])} at {r['ks'][-1]:,}" for r, name in zip(rows, called)
    )
    return figure(ident, width, bottom + 46, title, f"{said}.", *parts)


def histogram(edges: Sequence[float], counts: Sequence[int], title: str, *, width: int = WIDE, ident: str) -> Markup:
    """Filters per bin of values; the counts' axis is logarithmic, for most values lie close to zero."""
    ident = f"{ident}-{width}"
    top, bottom, left, right = 14, 14 + (170 if width == WIDE else 150), 52, width - 12
    highest = max(counts, default=1)
    foot, head = math.log10(0.6), max(math.log10(max(highest, 1)) + 0.1, 1.0)
    ticks = nice_scale([edges[0], edges[-1]], 0, 1, 7 if width == WIDE else 4, (edges[0], edges[-1])).ticks
    x = Scale(edges[0], edges[-1], left, right, ticks)
    y = Scale(foot, head, bottom, top, tuple(range(int(head) + 1)))
    parts: list[object] = [*y_axis(y, left, right, lambda power: whole(10**power))]
    for low, high, n in zip(edges[:-1], edges[1:], counts):
        if n:
            tip = f"{n:,} with values from {decimal(low, 5)} to {decimal(high, 5)}"
            wide = max(round(x(high) - x(low) - 1, 2), 0.5)
            parts.append(
                element(
                    "rect", element("title", tip), x=x(low), y=y(math.log10(n)), width=wide,
                    height=round(bottom - y(math.log10(n)), 2), class_="f-after", fill=colour("after"),
                )
            )  # fmt: skip
    parts.append(line(left, bottom, right, bottom, "axis"))
    parts += x_axis(x, bottom, decimals(x), "value", marks=True)
    said = f"{sum(counts):,} filters; the fullest bin holds {highest:,}. Values from {decimal(edges[0], 5)} to "
    return figure(ident, width, bottom + 44, title, f"{said}{decimal(edges[-1], 5)}.", *parts)


def layers(rows: Sequence[Row], title: str, *, width: int = WIDE, ident: str = "layers") -> Markup:
    """Per site, how many of the most and of the least critical filters it holds; a tick where chance would put them.

    Of many sites, only those that hold any.
    """
    ident = f"{ident}-{width}"
    shown = shown_layers(rows)
    entries = [("disc", "after", "most critical"), ("square", "clean", "least critical")]
    keyed, used = legend([*entries, ("cross", "text", "if spread evenly")], 4, 12, width - 8)
    names = [r["site"] for r in shown]
    left = min(max((text_width(n) for n in names), default=44) + 14, width * 0.36)
    most = max([1.0, *(float(v) for r in shown for v in (r["most"], r["least"], r["expected"]))])
    x = nice_scale([0, most], left, width - 40, 6 if width == WIDE else 4, (0, most * 1.2))
    x = replace(x, ticks=tuple(t for t in x.ticks if abs(t - round(t)) < 1e-9))
    top, bottom = used + 6, used + 6 + _ROW * len(shown)
    parts: list[object] = [keyed, *x_grid(x, top, bottom, whole)]
    for i, r in enumerate(shown):
        y = top + _ROW * i + 4
        parts.append(label(4, y + 13, shorten(r["site"], left - 8)))
        for key, role, at in (("most", "after", y), ("least", "clean", y + 9)):
            if r[key]:
                tip = f"{r['site']}: {r[key]} of the {key} critical, of {r['filters']:,} filters"
                parts.append(
                    element(
                        "rect", element("title", tip), x=left, y=at, width=round(x(r[key]) - left, 2), height=8,
                        class_=f"f-{role} s-{role}", fill=colour(role), fill_opacity=1 if key == "most" else 0.35,
                        stroke=colour(role), stroke_width=1,
                    )
                )  # fmt: skip
        parts.append(marker("cross", x(r["expected"]), y + 8, "text", 3))
    parts.append(line(left, top, left, bottom, "axis"))
    said = "; ".join(f"{r['site']} {r['most']} and {r['least']} of {r['filters']}" for r in shown[:20])
    return figure(ident, width, bottom + 24, title, f"Most and least critical filters per site: {said}.", *parts)


def shown_layers(rows: Sequence[Row]) -> list[Row]:
    """The sites that the chart draws."""
    return list(rows) if len(rows) <= _MOST_SITES else [r for r in rows if r["most"] or r["least"]]
