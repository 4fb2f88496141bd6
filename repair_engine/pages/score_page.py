"""The document of `score` as sections of a page: every objective with the filters at both of its ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from repair_engine.documents.known import row_known
from repair_engine.pages import rendering, row_charts
from repair_engine.pages.measured import MEASURED
from repair_engine.pages.rendering import Section
from repair_engine.pages.svg import responsive
from repair_engine.support.words import count, percent

if TYPE_CHECKING:
    from repair_engine.documents.objectives import EndRow, ScoreRecord


def headline(document: ScoreRecord) -> list[str]:
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


def sections(document: ScoreRecord, links: Mapping[str, str] | None = None) -> list[Section]:
    """The page's parts; `links`: the address of a repair for an objective, by its name."""
    listed = [
        ("notices", "Warnings", "notices.html"),
        ("filters", "Filters at both ends", "score/filters.html"),
        ("objectives", "Objectives", "score/objectives.html"),
        ("method", "How it was measured", "measured.html"),
        ("not-players", "Not players", "not_players.html"),
    ]
    return rendering.sections(listed, d=document, links=links or {}, **_SHOWN)


def known_rows(rows: Sequence[EndRow]) -> list[EndRow]:
    return [r for r in rows if row_known(r)]


def values_chart(rows: Sequence[EndRow], heading: str, end: str) -> Markup:
    data = [row_charts.ValueRow(r["id"], r["value"], r["lower"], r["upper"], end == "lowest") for r in rows]
    meaning, ident = ("lowest", "highest"), f"values-{end}"
    return responsive(lambda w: row_charts.interval_plot(data, heading, meaning=meaning, width=w, ident=ident))


_SHOWN: dict[str, Any] = MEASURED | rendering.named(known_rows, values_chart)
