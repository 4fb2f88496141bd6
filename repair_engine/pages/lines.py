"""The line chart of all pages: one or more lines over a common axis, with what belongs to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from repair_engine.pages.svg import (
    SMALL,
    WIDE,
    Scale,
    Write,
    area,
    element,
    figure,
    hatching,
    inside,
    is_zero,
    label,
    legend,
    line,
    marker,
    nice_scale,
    path,
    percents,
    text_width,
)

Look = tuple[str, str, str | None]  # of a line: shape of its marks, role (colour), dash

LOOKS: tuple[Look, ...] = (
    ("disc", "after", None),
    ("square", "clean", "7 3"),
    ("triangle", "guard", "2 3"),
    ("diamond", "before", "1 3"),
    ("cross", "bad", "5 2"),
    ("ring", "text", "9 4"),
    ("ring", "after", "4 4"),
    ("square", "bad", "1 2"),
)
_UNIT = (0.0, 1.0)
_PAD = 8  # between the plot's sides and the first and last x


@dataclass(frozen=True)
class Point:
    """A mark, in units of the data.

    Attributes:
        tip: what a pointer shows.
        mark: shape and role where they are not the line's.
        ends: of its interval.
        note: written beside it on wide charts.
    """

    x: float
    y: float
    tip: str = ""
    mark: tuple[str, str] | None = None
    ends: tuple[float, float] | None = None
    note: str = ""


@dataclass(frozen=True)
class Line:
    """One line with its marks, in the order of x.

    Attributes:
        band: (x, low, high) of the shaded area around it.
        size: of its marks.
        aside: units to the right, so that the intervals of two lines do not hide each other.
        joined: False draws the marks alone.
    """

    name: str
    look: Look
    points: Sequence[Point]
    band: Sequence[tuple[float, float, float]] = ()
    width: float = 1.5
    size: float = 3.0
    aside: float = 0.0
    joined: bool = True


@dataclass(frozen=True)
class Rule:
    """A dashed line across the plot at a level, or upright at an x, and what it is: above it, or `below`."""

    at: float
    text: str
    upright: bool = False
    below: bool = False
    role: str = "text"
    dash: str = "5 4"


@dataclass(frozen=True)
class Axis:
    """What an axis shows.

    Attributes:
        write: how its ticks are written.
        bounds: it never goes beyond.
        most: ticks, about, on a wide and on a narrow chart.
        also: values that it reaches, beside those of the lines.
        named: the ticks with their text, where they are not round numbers.
    """

    name: str = ""
    write: Callable[[Scale], Write] = percents
    bounds: tuple[float, float] = _UNIT
    most: tuple[int, int] = (6, 6)
    also: Sequence[float] = ()
    named: Sequence[tuple[float, str]] = ()

    def scale(self, values: Sequence[float], start: float, end: float, width: int) -> Scale:
        found = nice_scale([*values, *self.also], start, end, self.most[width != WIDE], self.bounds)
        if self.named:
            return Scale(min(values), max(*values, min(values) + 1), start, end, tuple(at for at, _ in self.named))
        return found

    def written(self, scale: Scale) -> list[str]:
        write = self.write(scale)
        return [text for _, text in self.named] or [write(tick) for tick in scale.ticks]


def line_chart(
    lines: Sequence[Line],
    title: str,
    said: str,
    x: Axis,
    y: Axis,
    *,
    rules: Sequence[Rule] = (),
    hatched: Sequence[tuple[float, float]] = (),
    ringed: tuple[float, float] | None = None,
    handle: float | None = None,
    legend_more: Sequence[tuple[str, str, str]] = (),
    height: tuple[int, int] = (230, 190),
    width: int = WIDE,
    ident: str,
) -> Markup:
    """The lines over their axes, the first on top.

    Args:
        said: the chart in words, for who does not see it.
        rules: lines to compare with.
        hatched: spans of x that lie under a pattern.
        ringed: the point that was chosen.
        handle: x of an upright line that a script may move; it says where the axis begins and ends.
        legend_more: (shape, role, meaning) of marks beside those of the lines.
        height: of the plot on a wide and on a narrow chart.
    """
    ident = f"{ident}-{width}"
    key, used = legend([*((*of.look[:2], of.name) for of in lines), *legend_more], 4, 12, width - 8)
    top = used + (34 if any(rule.upright for rule in rules) else 20 if y.name else 14)
    bottom = top + height[width != WIDE]
    points = [p for of in lines for p in of.points]
    ys = [p.y for p in points] + [end for p in points if p.ends for end in p.ends]
    ys += [end for of in lines for _, *ends in of.band for end in ends] + [r.at for r in rules if not r.upright]
    up = y.scale(ys, bottom, top, width)
    left, right = max(46.0, 10 + max(text_width(text, SMALL) for text in y.written(up))), width - 14
    pad = 34 if x.named else _PAD
    across = x.scale([p.x for p in points], left + pad, right - pad, width)
    spans = [(max(across(a), across.start - pad), min(across(b), across.end + pad)) for a, b in hatched]
    parts: list[object] = [key, *hatching(ident, spans, top, bottom)]
    if y.name:
        parts.append(label(10, top - 8, y.name, "muted", size=SMALL))
    for tick, text in zip(up.ticks, y.written(up), strict=True):
        parts.append(line(left, up(tick), right, up(tick), "axis" if is_zero(tick) else "grid"))
        parts.append(label(left - 6, up(tick) + 4, text, "muted", "end", SMALL))
    for tick, text in zip(across.ticks, x.written(across), strict=True):
        at = min(across(tick), width - 4 - text_width(text, SMALL) / 2)
        parts.append(label(at, bottom + 18, text, "muted", "middle", SMALL))
    parts.append(label((left + right) / 2, bottom + 38, x.name, "muted", "middle", SMALL))
    parts += [part for rule in rules for part in _rule(rule, across, up, (left, right), (top, bottom), width)]
    parts += [part for of in lines for part in _band(of, across, up)]
    parts += [part for of in reversed(lines) for part in _line(of, across, up, width)]
    if ringed:
        parts.append(marker("ring", across(ringed[0]), up(ringed[1]), "text", 8))
        parts.append(marker("disc", across(ringed[0]), up(ringed[1]), "after", 4))
    if handle is not None:
        parts.append(_handle(across, handle, top, bottom))
    return figure(ident, width, bottom + 46, title, said, *parts)


def _handle(x: Scale, at: float, top: float, bottom: float) -> Markup:
    """Drawn at the axis's beginning and moved from there."""
    drawn = [line(x.start, top - 6, x.start, bottom, "after", 2.5), marker("disc", x.start, bottom, "after", 8)]
    ends = {"data_from": f"{x.start:g}", "data_to": f"{x.end:g}"}
    return element("g", *drawn, class_="handle", transform=f"translate({x(at) - x.start:g} 0)", **ends)


def _rule(
    rule: Rule, x: Scale, y: Scale, sides: tuple[float, float], ends: tuple[float, float], width: int
) -> list[Markup]:
    if rule.upright:
        at, (top, bottom) = x(rule.at), ends
        return [line(at, top - 6, at, bottom, rule.role, 1, rule.dash), inside(at, top - 12, rule.text, width)]
    at, (left, right) = y(rule.at), sides
    beside = at + 14 if (rule.below and at < ends[1] - 18) or at < ends[0] + 12 else at - 5
    return [
        line(left, at, right, at, rule.role, 1, rule.dash),
        label(right, beside, rule.text, rule.role, "end", SMALL - 1),
    ]


def _band(of: Line, x: Scale, y: Scale) -> list[Markup]:
    """A shaded band with thin edges, so that it is there in print too."""
    if len(of.band) < 2:
        return []
    drawn = [(x(at), y(low), y(high)) for at, low, high in of.band]
    edges = [[(at, low) for at, low, _ in drawn], [(at, high) for at, _, high in drawn]]
    return [area(drawn, of.look[1], 0.14), *(path(edge, of.look[1], 0.7, "1 2") for edge in edges)]


def _line(of: Line, x: Scale, y: Scale, width: int) -> list[Markup]:
    shape, role, dash = of.look
    at = [(x(p.x) + of.aside, y(p.y)) for p in of.points]
    out = [path(at, role, of.width, dash)] if of.joined and at else []
    for (px, py), p in zip(at, of.points, strict=True):
        if p.ends:
            out.append(line(px, y(p.ends[0]), px, y(p.ends[1]), role, 1.5))
        mark, colour = p.mark or (shape, role)
        out.append(marker(mark, px, py, colour, of.size, p.tip or None))
        if p.note and width == WIDE:
            out.append(label(px + 7, py - 7, p.note, "muted", size=SMALL - 1))
    return out
