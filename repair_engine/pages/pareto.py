"""The Pareto front of the metric against clean accuracy over the number of ablated filters."""

from __future__ import annotations

from typing import Any

from repair_engine.pages.axes import percents, x_axis, y_axis
from repair_engine.pages.markup import Markup, element, join
from repair_engine.pages.svg import NARROW, WIDE, figure, label, legend, marker, nice_scale, path, percent, responsive

_UNIT = (0.0, 1.0)


def front(document: dict[str, Any]) -> Markup:
    """A chart of all prefixes by their two figures on *select*, and the front in words."""
    steps, k = document["curve"], document["k"]
    metric, lower = document["metric"]["text"], document["metric"]["goal"] == "lower"
    on = [s for s in steps if s["front"]]
    named = ", ".join(str(s["k"]) for s in on)
    said = (
        f"Pareto front of {metric} ({'lower' if lower else 'higher'} is better) against clean accuracy on the select "
    )
    said += f"images: k = {named}. Every other number of filters is matched or beaten in both by one of these. "
    said += "The front is of these images; near ties may fall either way on others."
    picture = responsive(lambda width: _chart(steps, k, metric, lower, width))
    return join((element("figure", element("figcaption", said), picture),))


def _chart(steps: list[dict[str, Any]], k: int, metric: str, lower: bool, width: int) -> Markup:
    entries = [
        ("disc", "after", "on the front"),
        ("cross", "before", "not on it"),
        ("ring", "text", f"chosen, k = {k}"),
    ]
    key, used = legend(entries, 4, 12, width - 8)
    top, left, right = used + 12, 46, width - 16
    bottom = top + (220 if width == WIDE else 180)
    y = nice_scale([s["objective"] for s in steps], bottom, top, 5, _UNIT)
    x = nice_scale([s["clean"] for s in steps], left + 8, right - 8, 6 if width > NARROW else 4, _UNIT)
    parts: list[object] = [key]
    parts += [*y_axis(y, left, right, percents(y)), *x_axis(x, bottom, percents(x), "clean accuracy")]
    on = sorted((s for s in steps if s["front"]), key=lambda s: s["clean"])
    parts.append(path([(x(s["clean"]), y(s["objective"])) for s in on], "after", 1.5, "5 3"))
    for s in sorted(steps, key=lambda s: s["front"]):
        shape, role = ("disc", "after") if s["front"] else ("cross", "before")
        tip = f"k = {s['k']}: {metric} {percent(s['objective'])}, clean accuracy {percent(s['clean'])}"
        parts.append(marker(shape, x(s["clean"]), y(s["objective"]), role, 4 if s["front"] else 3, tip))
    chosen = steps[k]
    parts.append(marker("ring", x(chosen["clean"]), y(chosen["objective"]), "text", 8))
    parts.append(marker("disc", x(chosen["clean"]), y(chosen["objective"]), "after", 4))
    if width == WIDE:
        for s in on:
            parts.append(label(x(s["clean"]) + 7, y(s["objective"]) - 7, s["k"], "muted", "start", 11))
    described = f"{len(on)} of {len(steps)} numbers of filters are on the front; the chosen one, {k}, "
    described += "is on it." if chosen["front"] else "is not."
    title = f"{metric} against clean accuracy on the select images"
    return figure(f"pareto-{width}", width, bottom + 46, title, described, *parts)
