"""The line charts of the verbs as SVG strings, from rows of their documents: for files and for the web pages.

Shape, dash or position says what colour says; every chart has a title and a description, and is meant to stand above a
table with the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from markupsafe import Markup

from repair_engine.documents.edits import clean_words
from repair_engine.pages.lines import LOOKS, Axis, Line, Look, Point, Rule, line_chart
from repair_engine.pages.svg import WIDE, decimals, whole
from repair_engine.studies.names import ALONE, LEAVE_ONE_OUT, NEAREST_ZERO, RANDOM, RESPONSES, SHAPLEY, WEIGHTS
from repair_engine.support.words import decimal, percent

Row = Mapping[str, Any]

_RANKINGS: dict[str, Look] = {
    SHAPLEY: ("disc", "after", None),
    WEIGHTS: ("square", "clean", "7 3"),
    RESPONSES: ("triangle", "guard", "2 3"),
    LEAVE_ONE_OUT: ("diamond", "bad", "9 3 2 3"),
    RANDOM: ("ring", "before", "1 3"),
    NEAREST_ZERO: ("ring", "after", "4 4"),
    ALONE["filter"]: ("disc", "after", None),
    ALONE["hidden"]: ("square", "clean", "7 3"),
    ALONE["head"]: ("diamond", "bad", "9 3 2 3"),
}
_MODELS: tuple[Look, ...] = (("disc", "before", None), ("square", "after", "7 3"))
_PHASES: dict[str, Look] = {"search": ("disc", "after", None), "confirm": ("diamond", "clean", "7 3")}


def filters_axis(name: str, last: int) -> Axis:
    """Numbers of filters from 0 to `last`."""
    return Axis(name, whole, (0, max(last, 1)), (min(10, max(last, 1)), min(5, max(last, 1))), (0, max(last, 1)))


def removal_curve(
    steps: Sequence[Row],
    chosen: int,
    metric: str,
    *,
    floor: float | None = None,
    one_line: bool = False,
    handle: int | None = None,
    best: str = "chosen",
    clean: str = "clean accuracy",
    width: int = WIDE,
    ident: str = "curve",
) -> Markup:
    """Metric and clean accuracy against the number of ablated filters.

    Args:
        steps: rows of a document's curve, k = 0, 1, … in order.
        chosen: the k that was chosen.
        metric: what the metric is called.
        floor: clean accuracy that the limit asks for, drawn as a line.
        one_line: the metric is the clean accuracy, so it is drawn once.
        handle: a k at which a movable line stands.
        best: what `chosen` is called.
        clean: what clean accuracy is called.
    """
    big = 4.0 if width == WIDE and len(steps) < 40 else 2.5
    first, at, outside = steps[0], steps[chosen], [s for s in steps if not s["feasible"]]
    marked = []
    for s in steps:
        tip = f"k = {s['k']}: {metric} {percent(s['objective'])}, {clean} {percent(s['clean'])}"
        mark = None if s["feasible"] else ("cross", "bad")
        marked.append(Point(s["k"], s["objective"], tip + ("" if s["feasible"] else ", outside a limit"), mark))
    banded = [(s["k"], *(min(max(s[end], 0.0), 1.0) for end in ("lower", "upper"))) for s in steps
              if s.get("lower") is not None]  # fmt: skip
    lines = [Line(metric, LOOKS[0], marked, banded, 2, big)]
    for key, name, look in (
        ("clean", clean, LOOKS[1]),
        ("guard", "guard set", LOOKS[2]),
        ("true_label", "true label under attack", LOOKS[3]),
        ("success", "attack success", LOOKS[4]),
    ):
        if first.get(key) is not None and not (one_line and key == "clean"):
            points = [Point(s["k"], s[key]) for s in steps if s[key] is not None]
            lines.append(Line(name, look, points, size=big - 0.5))
    rules = [Rule(chosen, f"k = {chosen} {best}" if chosen else "k = 0: nothing ablated", upright=True)]
    if floor is not None:
        rules.append(Rule(floor, f"least {clean} allowed", below=True, role="clean", dash="2 4"))
    said = f"{metric} goes from {percent(first['objective'])} at k = 0 to {percent(at['objective'])} at the "
    said += f"chosen k = {chosen}; {clean} from {percent(first['clean'])} to {percent(at['clean'])}. "
    if first.get("true_label") is not None:
        said += f"True labels under attack go from {percent(first['true_label'])} to {percent(at['true_label'])}. "
    if first.get("success") is not None:
        said += f"Attack success goes from {percent(first['success'])} to {percent(at['success'])}. "
    runs = [[s["k"] for s in run] for feasible, run in groupby(steps, lambda s: s["feasible"]) if not feasible]
    return line_chart(
        lines,
        "Removal curve on the select images",
        f"{said}{len(outside)} of {len(steps)} prefixes are outside a limit.",
        filters_axis("filters ablated (k)", steps[-1]["k"]),
        Axis(),
        rules=rules,
        hatched=[(ks[0] - 0.5, ks[-1] + 0.5) for ks in runs],
        ringed=(chosen, at["objective"]),
        handle=handle,
        legend_more=[("cross", "bad", "outside a limit")] if outside else [],
        width=width,
        ident=ident,
    )


def front(document: Row, *, width: int = WIDE) -> Markup:
    """All prefixes by their two figures on *select*; those on the Pareto front are joined."""
    steps, k, metric, clean = document["curve"], document["k"], document["metric"]["text"], clean_words(document)

    def points(on: bool) -> list[Point]:
        some = sorted((s for s in steps if s["front"] == on), key=lambda s: s["clean"])
        tips = [f"k = {s['k']}: {metric} {percent(s['objective'])}, {clean} {percent(s['clean'])}" for s in some]
        return [Point(s["clean"], s["objective"], t, note=str(s["k"]) if on else "") for s, t in zip(some, tips)]

    on, off, chosen = points(True), points(False), steps[k]
    said = f"{len(on)} of {len(steps)} numbers of filters are on the front; the chosen one, {k}, "
    return line_chart(
        [
            Line("on the front", ("disc", "after", "5 3"), on, size=4),
            Line("not on it", ("cross", "before", None), off, joined=False),
        ],
        f"{metric} against {clean} on the select images",
        said + ("is on it." if chosen["front"] else "is not."),
        Axis(clean, most=(6, 4)),
        Axis(most=(5, 5)),
        ringed=(chosen["clean"], chosen["objective"]),
        legend_more=[("ring", "text", f"chosen, k = {k}")],
        width=width,
        ident="pareto",
    )


def removal(
    rows: Sequence[Row],
    key: str,
    title: str,
    *,
    shift: float | None = None,
    names: Sequence[str] = (),
    width: int = WIDE,
    ident: str = "removal",
) -> Markup:
    """A share against the number of removed filters, one line per ranking, with a band for the random orders.

    Args:
        rows: of one end; see `documents.explain.curve_rows`.
        key: "metric" or "accuracy".
        shift: level that a shift of the logits reaches.
        names: what the lines are called, where not by their ranking.
    """
    lines = []
    for i, r in enumerate(rows):
        name, look = (names[i], LOOKS[i]) if names else (r["ranking"], _RANKINGS[r["ranking"]])
        strong = look[1] == "after"
        points = [Point(k, v, f"{name}, {k}: {percent(v)}") for k, v in zip(r["ks"], r[key])]
        band = list(zip(r["ks"], *r[f"{key}_range"])) if f"{key}_range" in r else []
        lines.append(Line(name, look, points, band, 2 if strong else 1.5, 3.2 if strong else 2.6))
    said = "; ".join(
        f"{of.name} from {percent(r[key][0])} to {percent(r[key][-1])} at {r['ks'][-1]:,}" for of, r in zip(lines, rows)
    )
    x = filters_axis("units removed", max(r["ks"][-1] for r in rows))
    rules = [] if shift is None else [Rule(shift, "logit shift")]
    return line_chart(lines, title, f"{said}.", x, Axis(), rules=rules, width=width, ident=ident)


def success(
    models: Mapping[str, Sequence[Row]],
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
        models: name of a model -> its points.
        labels: of the points.
        asked: which of them is the attack as it was asked for.
        axis: what the points are.
    """
    apart = (-3, 3) if len(models) > 1 else (0,)
    lines, said = [], []
    for (name, rows), look, aside in zip(models.items(), _MODELS, apart):
        shares = [f"{percent(p['success'])} at {label}" for p, label in zip(rows, labels, strict=True)]
        said.append(f"{name}: {', '.join(shares)}")
        points = [
            Point(i, p["success"], f"{name}, {labels[i]}: {percent(p['success'])}", ends=tuple(p["success_interval"]))
            for i, p in enumerate(rows)
        ]
        lines.append(Line(name, look, points, width=2, size=4, aside=aside))
    return line_chart(
        lines,
        title,
        f"{'; '.join(said)}.",
        Axis(axis, named=list(enumerate(labels))),
        Axis(most=(5, 5), also=(0,)),
        rules=[Rule(asked, "as asked", upright=True)],
        height=(210, 180),
        width=width,
        ident=ident,
    )


@dataclass(frozen=True)
class RoundPoint:
    """After one round: evaluations since the start of the run, and the leaders' median half-width."""

    phase: str
    evaluations: int
    half_width: float


def convergence(rounds: Sequence[RoundPoint], total: int, *, width: int = WIDE) -> Markup:
    """Half-width of the leaders' intervals against evaluations, one line per phase.

    Args:
        rounds: in order, at least one.
        total: evaluations at the right edge: what the run may spend.
    """
    lines = [
        Line(phase, _PHASES.get(phase, ("ring", "before", "2 3")),
             [Point(r.evaluations, r.half_width) for r in rounds if r.phase == phase])
        for phase in dict.fromkeys(r.phase for r in rounds)
    ]  # fmt: skip
    first, last = rounds[0], rounds[-1]
    end = max(total, last.evaluations, 1)
    return line_chart(
        lines,
        "Half-width of the leading culprits' intervals",
        f"The median half-width went from {decimal(first.half_width)} after {first.evaluations:,} evaluations "
        f"to {decimal(last.half_width)} after {last.evaluations:,}.",
        Axis("evaluations", whole, (0, end), (5, 3), (0, end)),
        Axis("", decimals, (0.0, 2.0), (4, 4), (0,)),
        height=(140, 140),
        width=width,
        ident="convergence",
    )
