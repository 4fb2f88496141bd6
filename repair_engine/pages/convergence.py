"""The live chart of a run: how wide the leaders' intervals still are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from repair_engine.pages.markup import Markup
from repair_engine.pages.svg import (
    WIDE,
    Scale,
    decimal,
    figure,
    label,
    legend,
    line,
    marker,
    nice_scale,
    path,
    tick_digits,
)

_LOOKS = {"search": ("disc", "after", None), "confirm": ("diamond", "clean", "7 3")}
_PLAIN = ("ring", "before", "2 3")


@dataclass(frozen=True)
class RoundPoint:
    """After one round: evaluations since the start of the run, and the leaders' median half-width."""

    phase: str
    evaluations: int
    half_width: float


def convergence(points: Sequence[RoundPoint], total: int, *, width: int = WIDE, ident: str = "convergence") -> Markup:
    """Half-width of the leaders' intervals against evaluations, one line per phase.

    Args:
        points: in order, at least one.
        total: evaluations at the right edge: what the run may spend.
    """
    ident = f"{ident}-{width}"
    phases = list(dict.fromkeys(p.phase for p in points))
    entries = [(_LOOKS.get(phase, _PLAIN)[0], _LOOKS.get(phase, _PLAIN)[1], phase) for phase in phases]
    key, used = legend(entries, 4, 12, width - 8)
    top, bottom, left, right = used + 10, used + 150, 64, width - 14
    y = nice_scale([0.0, *(p.half_width for p in points)], bottom, top, 4, (0.0, 2.0))
    x = Scale(0, max(total, points[-1].evaluations, 1), left, right)
    digits, parts = tick_digits(y), [key]
    for tick in y.ticks:
        parts.append(line(left, y(tick), right, y(tick), "axis" if tick == 0 else "grid"))
        parts.append(label(left - 6, y(tick) + 4, decimal(tick, digits), "muted", "end", 12))
    for share in (0.0, 0.5, 1.0):
        anchor = "start" if share == 0 else "end" if share == 1 else "middle"
        parts.append(label(x(x.high * share), bottom + 16, f"{round(x.high * share):,}", "muted", anchor, 12))
    parts.append(label((left + right) / 2, bottom + 34, "evaluations", "muted", "middle", 12))
    for phase in phases:
        shape, role, dash = _LOOKS.get(phase, _PLAIN)
        mine = [(x(p.evaluations), y(p.half_width)) for p in points if p.phase == phase]
        parts.append(path(mine, role, 1.5, dash))
        parts += [marker(shape, px, py, role, 3) for px, py in mine]
    first, last = points[0], points[-1]
    said = f"The median half-width went from {decimal(first.half_width)} after {first.evaluations:,} evaluations "
    said += f"to {decimal(last.half_width)} after {last.evaluations:,}."
    return figure(ident, width, bottom + 42, "Half-width of the leading culprits' intervals", said, *parts)
