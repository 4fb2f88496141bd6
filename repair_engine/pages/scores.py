"""The document of `score` as parts of a page: every objective with the filters at both of its ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from repair_engine.documents.known import row_known, unknown_words
from repair_engine.pages import method
from repair_engine.pages import repair_charts as charts
from repair_engine.pages.markup import Markup, details, element, join, name, table
from repair_engine.pages.repair_wording import count
from repair_engine.pages.results import notices
from repair_engine.pages.svg import decimal, digits_for, percent, responsive

Row = dict[str, Any]

ENDS = {"lowest": "lowest values", "highest": "highest values"}
_NAMED = 3  # filters of each end in the table of objectives


def headline(document: Row) -> list[str]:
    """What was valued, and what that is not."""
    run, rows = document["run"], document["objectives"]
    filters = document["model"]["filters"]
    screen = run.get("screen") or {"sampled": filters}
    of = "" if screen["sampled"] >= filters else f"{screen['sampled']:,} of "
    said = [
        f"{of}{count(filters, 'filter')} valued for {document['metric']['text']}, which is "
        f"{percent(document['value_of_all'])} with all of them present, with {run['evaluations']:,} evaluations."
    ]
    if len(rows) > 1:
        said[0] = said[0][:-1] + f"; {count(len(rows) - 1, 'further objective')} on the same evaluations."
    said.append("Values are of score images. Nothing was ablated: whether a repair helps is for a repair to show.")
    return said


def sections(document: Row, actions: Mapping[str, Markup] | None = None) -> list[tuple[str, str, Markup]]:
    """(id, heading, content) of the page's parts; `actions`: what can be done with an objective, by its name."""
    return [
        ("notices", "Warnings", notices(document)),
        ("filters", "Filters at both ends", ends(document)),
        ("objectives", "Objectives", objectives(document, actions or {})),
        ("method", "How it was measured", method.measured(document)),
        ("not-players", "Not players", method.not_players(document)),
    ]


def ends(document: Row) -> Markup:
    """The metric's filters of the lowest and of the highest values, with intervals."""
    row = document["objectives"][0]
    out: list[object] = [element("p", hint(document), class_="note")]
    for end, heading in ENDS.items():
        if not row[end]:
            continue
        shown = f"The {len(row[end])} {heading} for {document['metric']['text']}"
        data = [charts.ValueRow(r["id"], r["value"], r["lower"], r["upper"], end == "lowest")
                for r in row[end] if row_known(r)]  # fmt: skip
        if data:
            out.append(element("figure", element("figcaption", shown + ", with intervals."), _chart(data, shown, end)))
        else:
            out.append(element("p", f"{shown} are not known: their intervals go from −1 to 1."))
        out.append(_table(row[end], shown))
    return join(out) if len(out) > 1 else element("p", "Fewer than two filters were sampled.")


def hint(document: Row) -> str:
    """Which end is the culprits'."""
    lower = document["metric"]["goal"] == "lower"
    return f"Where a value is {'above' if lower else 'below'} zero, the filter's presence hurts."


def objectives(document: Row, actions: Mapping[str, Markup]) -> Markup:
    """One row per objective with the filters at its ends."""
    body = []
    for row in document["objectives"]:
        called = name(row["name"])
        if row["name"] in actions:
            called = join((called, element("span", actions[row["name"]], class_="ci")))
        ends = (_named(row["lowest"]), _named(row["highest"]))
        body.append([called, f"{row['images']:,}", percent(row["value_of_all"]), *ends])
    header = ("objective", "images", "with all filters", "lowest values", "highest values")
    note = (
        "All are valued on the same evaluations, so their errors go together; intervals hold for all of them at once."
    )
    return join((table("Objectives of this run", header, body, (1, 2)), element("p", note, class_="note")))


def _named(rows: list[Row]) -> Markup:
    digits = digits_for([r["value"] for r in rows]) if rows else 0
    cells = [join((element("code", r["id"]), " ", decimal(r["value"], digits))) for r in rows[:_NAMED]]
    return join(cells, Markup("<br>"))


def _chart(data: list[charts.ValueRow], heading: str, end: str) -> Markup:
    meaning = ("lowest", "highest")
    return responsive(
        lambda w: charts.interval_plot(data, heading, meaning=meaning, width=w, ident=f"values-{end}")
    )  # fmt: skip


def _table(rows: list[Row], caption: str) -> Markup:
    digits = digits_for([r["value"] for r in rows])
    body = [
        [element("code", r["id"]), *_value(r, digits), f"{r['samples']:,}"]
        for r in rows
    ]  # fmt: skip
    return details(f"{caption} as a table", table(caption, ("filter", "value", "interval", "samples"), body, (1, 2, 3)))


def _value(row: Row, digits: int) -> tuple[str, str]:
    if not row_known(row):
        return unknown_words(row["samples"], row["value"]), ""
    return decimal(row["value"], digits), _interval(row, digits)


def _interval(row: Row, digits: int) -> str:
    if row["lower"] is None or row["upper"] is None:
        return ""
    return f"{decimal(row['lower'], digits)} to {decimal(row['upper'], digits)}"
