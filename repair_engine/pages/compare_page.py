"""compare.html: two results side by side as sections, and as one self-contained page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from repair_engine.pages import charts, rendering, row_charts
from repair_engine.pages import compare_wording as words
from repair_engine.pages.rendering import Section
from repair_engine.pages.svg import responsive
from repair_engine.studies.names import ENDS, RANDOM, SHAPLEY

if TYPE_CHECKING:
    from repair_engine.documents.compare import CompareRecord, SideRecord
    from repair_engine.studies.explain_curves import CurveRow


def render(document: CompareRecord) -> str:
    """The page for a comparison."""
    shown = {"d": document, "headline": words.headline(document)}
    return rendering.page("compare/page.html", sections(document), **shown)


def sections(document: CompareRecord) -> list[Section]:
    """The page's parts; the web pages show the same."""
    listed = [
        ("results", "The two results", "compare/results.html"),
        ("notices", "Warnings", "notices.html"),
        ("agreement", "Agreement of values", "compare/agreement.html"),
        ("overlap", "Overlap of the ends", "compare/overlap.html"),
        ("histograms", "All values", "compare/histograms.html"),
        ("curves", "Removal curves", "compare/curves.html"),
    ]
    return rendering.sections(listed, d=document, **_SHOWN)


def sides(document: CompareRecord) -> list[tuple[str, SideRecord]]:
    return list(zip("AB", document["results"], strict=True))


def curve_of(side: SideRecord, end: str, ranking: str) -> CurveRow | None:
    """A side's curve of one ranking from one end."""
    return next((row for row in side["curves"] if (row["end"], row["ranking"]) == (end, ranking)), None)


def curves_chart(document: CompareRecord, end: str, heading: str) -> Markup:
    found = [(called, side, curve_of(side, end, SHAPLEY)) for called, side in sides(document)]
    rows = [row for *_, row in found if row is not None]
    names = [f"{called}: {side['metric']['text']}" for called, side, row in found if row is not None]
    ident = f"curves-{end.split()[0]}"
    return responsive(lambda w: charts.removal(rows, "metric", heading, names=names, width=w, ident=ident))


_SHOWN: dict[str, Any] = {
    **rendering.named(sides, curve_of, curves_chart, row_charts.histogram_chart, row_charts.filled),
    "words": words,
    "ENDS": ENDS,
    "SHAPLEY": SHAPLEY,
    "RANDOM": RANDOM,
}
