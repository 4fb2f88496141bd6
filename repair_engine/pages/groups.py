"""The groups of a report: by subgroup, by class within subgroup, by class; before and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from repair_engine.pages import repair_charts as charts
from repair_engine.pages.markup import Markup, details, element, join, name, table
from repair_engine.pages.repair_wording import SIZES, count, fairness_said, interval, level_of, p_value, points
from repair_engine.pages.svg import percent

_MOST_ROWS = 60  # of a group table before the unchanged groups are folded away
_MOST_DRAWN = 24
_ORDER = ("subgroups", "cells", "classes")
CELLS = "classes within subgroups"

Row = dict[str, Any]


def groups(document: Row) -> Markup:
    """Recall per subgroup, per class within subgroup and per class."""
    out: list[object] = []
    changed = bool(document["k"])
    for which in sorted(document["groups"], key=_ORDER.index):
        rows = document["groups"][which]
        if which == "cells":
            whole = _group_table(CELLS, rows, changed)
            out.append(details(f"{CELLS.capitalize()}, {len(rows)} rows", whole))
            continue
        out.append(element("h3", which.capitalize()))
        if which == "subgroups" and document.get("fairness"):
            out += _fairness(document["fairness"], changed)
        out += _group_part(which, rows, changed)
    if "subgroups" not in document["groups"]:
        out.append(element("p", "The metric names no subgroups, so there is no table of them.", class_="note"))
    return join(out)


def _fairness(found: Row, changed: bool) -> list[object]:
    """The subgroups as the metric weighs them, the worst one and the gap."""
    header = ["subgroup", "n", "classes", "before"] + (
        ["after", "change, points", f"{level_of(found['rows'][0]['change'])} interval"] if changed else []
    )
    body = []
    for r in found["rows"]:
        cells: list[object] = [name(r["name"]), f"{r['n']:,}", r["classes"], percent(r["before"])]
        if changed:
            cells += [percent(r["after"]), points(r["change"]["value"]), interval(r["change"])]
        body.append([*cells, SIZES.get(r["size"], r["size"])])
    caption = "Mean over each subgroup's classes of recall, as the metric weighs it"
    if changed:
        caption += "; paired bootstrap within class × subgroup"
    parts: list[object] = [element("p", said) for said in fairness_said(found, changed)]
    return [*parts, table(caption, [*header, "note"], body, range(1, len(header)))]


def _group_part(which: str, rows: Sequence[Row], changed: bool) -> list[object]:
    parts: list[object] = []
    if changed:
        worse = [r for r in rows if r["change"] < 0]
        better = sum(r["change"] > 0 for r in rows)
        said = f"{better} of {count(len(rows), which.removesuffix('es').removesuffix('s'), which)} improved, "
        said += f"{len(worse)} got worse, {len(rows) - better - len(worse)} did not change."
        parts.append(element("p", said))
    drawn = sorted(rows, key=lambda r: -abs(r["change"]))[:_MOST_DRAWN] if len(rows) > _MOST_DRAWN else rows
    if any(r["size"] != "too few" for r in drawn):
        kept = [r for r in rows if any(r is d for d in drawn)]
        data = [_group_row(r, changed) for r in kept]
        caption = "Recall with 95% Wilson intervals on the report images."
        if len(kept) < len(rows):
            caption += f" The {len(kept)} of {len(rows)} {which} that changed most."
        heading = f"Recall of {which} on the report images"
        picture = charts.responsive(lambda w: charts.before_after(data, heading, width=w, ident=f"groups-{which}"))
        parts.append(element("figure", element("figcaption", caption), picture))
    if len(rows) <= _MOST_ROWS:
        return [*parts, _group_table(which, rows, changed)]
    moved = sorted((r for r in rows if r["change"]), key=lambda r: r["change"])
    if moved:
        parts.append(
            _group_table(f"{which} whose recall changed ({len(moved)} of {len(rows)}), worst first", moved, True)
        )
    return [*parts, details(f"All {len(rows)} {which}", _group_table(which, rows, changed))]


def _group_row(row: Row, changed: bool) -> charts.GroupRow:
    low, high = row["before_interval"]
    if not changed:
        return charts.GroupRow(row["name"], row["n"], row["before"], (low, high))
    after = (row["after_interval"][0], row["after_interval"][1])
    return charts.GroupRow(row["name"], row["n"], row["before"], (low, high), row["after"], after)


def _share(value: float, ends: Sequence[float]) -> Markup:
    return join((percent(value), element("span", f"{percent(ends[0])} – {percent(ends[1])}", class_="ci")))


def _group_table(which: str, rows: Sequence[Row], changed: bool) -> Markup:
    header = ["name", "n", "recall before"] + (["recall after", "change, points", "p (Holm)"] if changed else [])
    body = []
    for r in rows:
        cells: list[object] = [name(r["name"]), f"{r['n']:,}", _share(r["before"], r["before_interval"])]
        if changed:
            cells += [_share(r["after"], r["after_interval"]), points(r["change"]), p_value(r["p_holm"])]
        body.append([*cells, SIZES.get(r["size"], r["size"])])
    caption = f"Recall of {which}, 95% Wilson intervals" + (
        "; McNemar, Holm-adjusted over this table" if changed else ""
    )
    return table(caption, [*header, "note"], body, range(1, len(header)))
