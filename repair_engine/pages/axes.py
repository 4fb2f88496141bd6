"""The axes and shaded areas of all charts: grid lines, ticks, what is written at them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from repair_engine.pages.markup import Markup, element
from repair_engine.pages.svg import Scale, colour, decimal, label, line, percent, tick_digits

Write = Callable[[float], str]  # a tick in words

_SMALL = 12


def percents(scale: Scale) -> Write:
    """Writes shares as percentages with as many decimals as tell the scale's ticks apart."""
    digits = tick_digits(scale, 100)
    return lambda tick: percent(tick, digits)


def decimals(scale: Scale) -> Write:
    """Writes numbers with as many decimals as tell the scale's ticks apart; zero without any."""
    digits = tick_digits(scale)
    return lambda tick: "0" if _zero(tick) else decimal(tick, digits)


def whole(tick: float) -> str:
    """Writes a whole number."""
    return f"{round(tick):,}"


def y_axis(y: Scale, left: float, right: float, write: Write, zero: str = "grid") -> list[Markup]:
    """A grid line across at each tick (`zero`: the role of that at 0), written left of it."""
    out = []
    for tick in y.ticks:
        out.append(line(left, y(tick), right, y(tick), zero if _zero(tick) else "grid"))
        out.append(label(left - 6, y(tick) + 4, write(tick), "muted", "end", _SMALL))
    return out


def x_axis(x: Scale, bottom: float, write: Write, name: str, *, marks: bool = False) -> list[Markup]:
    """Each tick written below the plot area, under a short mark if asked for, and the axis's name below them."""
    out = []
    for tick in x.ticks:
        if marks:
            out.append(line(x(tick), bottom, x(tick), bottom + 4, "axis"))
        out.append(label(x(tick), bottom + 18, write(tick), "muted", "middle", _SMALL))
    out.append(label((x.start + x.end) / 2, bottom + 38, name, "muted", "middle", _SMALL))
    return out


def x_grid(x: Scale, top: float, bottom: float, write: Write, zero: str = "grid") -> list[Markup]:
    """A grid line down at each tick (`zero`: the role of that at 0), written below it."""
    out = []
    for tick in x.ticks:
        out.append(line(x(tick), top, x(tick), bottom, zero if _zero(tick) else "grid"))
        out.append(label(x(tick), bottom + 16, write(tick), "muted", "middle", _SMALL))
    return out


def area(ends: Sequence[tuple[float, float, float]], role: str, opacity: float) -> Markup:
    """A shaded band through (x, one end, other end), in units of the chart."""
    there, back = [(x, a) for x, a, _ in ends], [(x, b) for x, _, b in reversed(ends)]
    outline = "M" + "L".join(f"{x:g},{y:g}" for x, y in (*there, *back)) + "Z"
    return element("path", d=outline, class_=f"f-{role}", fill=colour(role), fill_opacity=opacity)


def _zero(tick: float) -> bool:
    return abs(tick) < 1e-12
