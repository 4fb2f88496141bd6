"""Success of an attack against ε and against steps, as SVG strings from the document's curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from repair_engine.pages.axes import percents, y_axis
from repair_engine.pages.markup import Markup
from repair_engine.pages.svg import WIDE, Scale, figure, label, legend, line, marker, nice_scale, path, percent

Row = dict[str, Any]
_LOOKS = (("disc", "before", None, -3), ("square", "after", "7 3", 3))


def success(
    lines: Mapping[str, Sequence[Row]],
    labels: Sequence[str],
    asked: int,
    title: str,
    axis: str,
    *,
    width: int = WIDE,
    ident: str,
) -> Markup:
    """Success at each point with its interval, one line per model; the points stand evenly, whatever their distance.

    Args:
        lines: name of a model -> its points.
        labels: of the points.
        asked: which of them is the attack as it was asked for.
        axis: what the points are.
    """
    ident = f"{ident}-{width}"
    looks = dict(zip(lines, _LOOKS, strict=False))
    key, used = legend([(look[0], look[1], name) for name, look in looks.items()], 4, 12, width - 8)
    top, bottom, left, right = used + 30, used + 30 + (210 if width == WIDE else 180), 46, width - 14
    seen = [end for points in lines.values() for p in points for end in p["success_interval"]]
    y = nice_scale([0.0, *seen], bottom, top, 5, (0.0, 1.0))
    x = Scale(0, max(len(labels) - 1, 1), left + 34, right - 34)
    parts: list[object] = [key, *y_axis(y, left, right, percents(y))]
    for place, text in enumerate(labels):
        parts.append(label(x(place), bottom + 18, text, "muted", "middle", 12))
    parts.append(label((left + right) / 2, bottom + 38, axis, "muted", "middle", 12))
    parts.append(line(x(asked), top - 4, x(asked), bottom, "text", 1, "5 4"))
    parts.append(label(x(asked), top - 8, "as asked", "text", "middle", 12))
    for name, points in lines.items():
        shape, role, dash, aside = looks[name]
        aside = aside if len(lines) > 1 else 0  # so that two intervals do not hide each other
        at = [(x(place) + aside, y(p["success"])) for place, p in enumerate(points)]
        parts.append(path(at, role, 2, dash))
        for (px, py), p, text in zip(at, points, labels, strict=True):
            low, high = (y(end) for end in p["success_interval"])
            parts.append(line(px, low, px, high, role, 1.5))
            tip = f"{name}, {text}: {percent(p['success'])}"
            parts.append(marker(shape, px, py, role, 4, tip))
    said = "; ".join(
        f"{name}: " + ", ".join(f"{percent(p['success'])} at {text}" for p, text in zip(points, labels, strict=True))
        for name, points in lines.items()
    )
    return figure(ident, width, bottom + 46, title, f"{said}.", *parts)
