"""Scales, ticks and primitives for the server-made charts.

Strings are escaped unless they are Markup. Everything carries a class for the page's stylesheet (light, dark, print)
and presentation attributes that keep a chart readable without one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from repair_engine.support.words import decimal, percent

WIDE, NARROW = 760, 340  # units of the viewBox; one unit is one CSS pixel at full size
FONT, SMALL = 13, 12
_LETTER = 6.9  # average width of a letter at that size

Write = Callable[[float], str]  # a tick in words

_COLOURS = {
    "before": "#5b6570",
    "after": "#0b62c4",
    "clean": "#8a5200",
    "guard": "#7a3fb0",
    "bad": "#b42318",
    "axis": "#8a929b",
    "grid": "#d5d9de",
    "text": "#1d2329",
    "muted": "#5b6570",
}


@dataclass(frozen=True)
class Scale:
    """Linear map of [low, high] to [start, end]; `ticks` lie inside."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...] = ()

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 2)


def nice_scale(values: Sequence[float], start: float, end: float, most: int, bounds: tuple[float, float]) -> Scale:
    """A scale over the values with at most about `most` round ticks, never beyond `bounds`."""
    low, high = min(values), max(values)
    if high - low < 1e-9:
        low, high = low - 0.05, high + 0.05
    step = 10 ** math.floor(math.log10((high - low) / most))
    for factor in (1, 2, 5, 10):
        if (high - low) / (step * factor) <= most:
            step *= factor
            break
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [i * step for i in range(first, last + 1) if bounds[0] - 1e-9 <= i * step <= bounds[1] + 1e-9]
    return Scale(max(first * step, bounds[0]), min(last * step, bounds[1]), start, end, tuple(ticks))


def tick_digits(scale: Scale, factor: float = 1.0) -> int:
    """Decimals that tell neighbouring ticks apart, of values times `factor`."""
    if len(scale.ticks) < 2:
        return 1
    step = (scale.ticks[1] - scale.ticks[0]) * factor
    return max(0, -math.floor(math.log10(step) + 1e-9))


def shorten(label: str, width: float) -> str:
    """The label, cut with an ellipsis to about `width` units."""
    most = max(3, int(width / _LETTER))
    return label if len(label) <= most else label[: most - 1] + "…"


def text_width(label: str, size: int = FONT) -> float:
    return len(label) * _LETTER * size / FONT


def element(tag: str, *children: object, **attributes: object) -> Markup:
    """An element; `class_` becomes class, `aria_label` aria-label; None leaves an attribute out."""
    named = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items() if value is not None)
    written = "".join(f' {name}="{escape(value)}"' for name, value in named)
    return Markup(f"<{tag}{written}>{''.join(map(escape, children))}</{tag}>")


def label(
    x: float,
    y: float,
    content: object,
    role: str = "text",
    anchor: str = "start",
    size: int = FONT,
    weight: str | None = None,
) -> Markup:
    return element(
        "text", content, x=round(x, 2), y=round(y, 2), class_=f"c-{role}", fill=_COLOURS[role], text_anchor=anchor,
        font_size=size, font_weight=weight, font_family="system-ui, sans-serif",
    )  # fmt: skip


def inside(x: float, y: float, content: str, width: float) -> Markup:
    """A small label centred on x where it fits, else moved inside the chart."""
    half = text_width(content, SMALL) / 2
    return label(min(max(x, half + 4), width - half - 4), y, content, "text", "middle", SMALL)


def line(x1: float, y1: float, x2: float, y2: float, role: str, width: float = 1, dash: str | None = None) -> Markup:
    return element(
        "line", x1=x1, y1=y1, x2=x2, y2=y2, class_=f"s-{role}", stroke=_COLOURS[role], stroke_width=width,
        stroke_dasharray=dash,
    )  # fmt: skip


def path(points: Sequence[tuple[float, float]], role: str, width: float = 2, dash: str | None = None) -> Markup:
    steps = "M" + "L".join(f"{x:g},{y:g}" for x, y in points)
    return element(
        "path", d=steps, class_=f"s-{role}", stroke=_COLOURS[role], stroke_width=width, stroke_dasharray=dash,
        stroke_linejoin="round", fill="none",
    )  # fmt: skip


def marker(shape: str, x: float, y: float, role: str, r: float = 4.5, tip: str | None = None) -> Markup:
    """A mark: "disc", "ring", "diamond", "square", "triangle" or "cross"."""
    inside = element("title", tip) if tip else Markup("")
    stroke, fill = _COLOURS[role], _COLOURS[role]
    if shape in ("disc", "ring"):
        hollow = shape == "ring"
        return element(
            "circle", inside, cx=x, cy=y, r=r, class_=f"s-{role} " + ("hollow" if hollow else f"f-{role}"),
            stroke=stroke, stroke_width=2 if hollow else 1, fill="#ffffff" if hollow else fill,
        )  # fmt: skip
    if shape == "cross":
        d = f"M{x - r:g},{y - r:g}L{x + r:g},{y + r:g}M{x - r:g},{y + r:g}L{x + r:g},{y - r:g}"
        return element("path", inside, d=d, class_=f"s-{role}", stroke=stroke, stroke_width=2, fill="none")
    corners: dict[str, Callable[[], str]] = {
        "diamond": lambda: f"M{x:g},{y - r - 1:g}L{x + r + 1:g},{y:g}L{x:g},{y + r + 1:g}L{x - r - 1:g},{y:g}Z",
        "square": lambda: f"M{x - r:g},{y - r:g}H{x + r:g}V{y + r:g}H{x - r:g}Z",
        "triangle": lambda: f"M{x:g},{y - r:g}L{x + r:g},{y + r:g}L{x - r:g},{y + r:g}Z",
    }
    return element("path", inside, d=corners[shape](), class_=f"f-{role}", fill=fill)


def whisker(x1: float, x2: float, y: float, role: str, caps: tuple[bool, bool] = (True, True)) -> Markup:
    """A horizontal interval with end caps; without one where it reaches further than is drawn."""
    ends = [line(x, y - 4, x, y + 4, role, 1.5) for x, cap in zip((x1, x2), caps) if cap]
    return Markup("").join([line(x1, y, x2, y, role, 1.5), *ends])


def legend(entries: Sequence[tuple[str, str, str]], x: float, y: float, width: float) -> tuple[Markup, float]:
    """Marks with their meaning, in as many rows as `width` asks; also the height used.

    Args:
        entries: (shape, role, meaning) each.
    """
    out, at, row = Markup(), x, 0
    for shape, role, meaning in entries:
        needed = 18 + text_width(meaning) + 16
        if at > x and at + needed - 16 > x + width:
            at, row = x, row + 1
        out += marker(shape, at + 6, y + 20 * row, role, 4.5) + label(at + 18, y + 20 * row + 4.5, meaning)
        at += needed
    return out, 20.0 * (row + 1)


def figure(ident: str, width: float, height: float, title: str, description: str, *parts: object) -> Markup:
    """An svg element that a screen reader announces by its title and description."""
    return element(
        "svg",
        element("title", title, id=f"{ident}-title"),
        element("desc", description, id=f"{ident}-desc"),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:g} {height:g}",
        width=f"{width:g}",
        role="img",
        aria_labelledby=f"{ident}-title {ident}-desc",
        class_="chart",
    )


def responsive(draw: Callable[[int], Markup]) -> Markup:
    """The same chart for wide screens and paper, and for phones; the stylesheet shows one of them.

    Args:
        draw: the chart for a width; it must put the width into its ids.
    """
    return element("div", draw(WIDE), class_="chart-wide") + element("div", draw(NARROW), class_="chart-narrow")


def percents(scale: Scale) -> Write:
    """Writes shares as percentages with as many decimals as tell the scale's ticks apart."""
    digits = tick_digits(scale, 100)
    return lambda tick: percent(tick, digits)


def decimals(scale: Scale) -> Write:
    """Writes numbers with as many decimals as tell the scale's ticks apart; zero without any."""
    digits = tick_digits(scale)
    return lambda tick: "0" if is_zero(tick) else decimal(tick, digits)


def whole(_: Scale) -> Write:
    """Writes whole numbers."""
    return lambda tick: f"{round(tick):,}"


def x_grid(x: Scale, top: float, bottom: float, write: Write, zero: str = "grid") -> list[Markup]:
    """A grid line down at each tick (`zero`: the role of that at 0), written below it."""
    out = []
    for tick in x.ticks:
        out.append(line(x(tick), top, x(tick), bottom, zero if is_zero(tick) else "grid"))
        out.append(label(x(tick), bottom + 16, write(tick), "muted", "middle", SMALL))
    return out


def bar(x: float, y: float, width: float, height: float, role: str, tip: str, opacity: float = 1) -> Markup:
    """A rectangle; a faint one has an outline."""
    outline = {"stroke": _COLOURS[role]} if opacity < 1 else {}
    return element(
        "rect", element("title", tip), x=x, y=y, width=round(width, 2), height=round(height, 2),
        class_=f"f-{role}" + (f" s-{role}" if outline else ""), fill=_COLOURS[role], fill_opacity=opacity, **outline,
    )  # fmt: skip


def hatching(ident: str, spans: Sequence[tuple[float, float]], top: float, bottom: float) -> list[Markup]:
    """Hatched areas from left to right ends."""
    stripe = element("path", d="M0,6L6,0", class_="s-grid", stroke=_COLOURS["grid"], stroke_width=1)
    pattern = element("pattern", stripe, id=f"{ident}-hatch", width=6, height=6, patternUnits="userSpaceOnUse")
    boxes = [
        element("rect", x=a, y=top, width=round(b - a, 2), height=round(bottom - top, 2), fill=f"url(#{ident}-hatch)")
        for a, b in spans
    ]
    return [element("defs", pattern), *boxes] if boxes else []


def area(ends: Sequence[tuple[float, float, float]], role: str, opacity: float) -> Markup:
    """A shaded band through (x, one end, other end), in units of the chart."""
    there, back = [(x, a) for x, a, _ in ends], [(x, b) for x, _, b in reversed(ends)]
    outline = "M" + "L".join(f"{x:g},{y:g}" for x, y in (*there, *back)) + "Z"
    return element("path", d=outline, class_=f"f-{role}", fill=_COLOURS[role], fill_opacity=opacity)


def is_zero(tick: float) -> bool:
    return abs(tick) < 1e-12
