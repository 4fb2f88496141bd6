"""explain.html: the document of an explanation as sections, and as one self-contained page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from markupsafe import Markup

from repair_engine.documents.known import row_known
from repair_engine.pages import charts, rendering, row_charts
from repair_engine.pages import explain_wording as words
from repair_engine.pages.by_kind import BY_KIND
from repair_engine.pages.measured import MEASURED
from repair_engine.pages.rendering import Section
from repair_engine.pages.svg import responsive
from repair_engine.studies.names import ENDS, LEAST, MOST

if TYPE_CHECKING:
    from repair_engine.documents.explain import ExplainRecord, ExplainRow
    from repair_engine.documents.spread import LayerRow
    from repair_engine.studies.explain_curves import CurveRow


Share = Literal["metric", "accuracy"]
_DRAWN = 15  # filters of each end in the chart of values


class Pictures(Protocol):
    """The pictures that a document names."""

    def source(self, name: str) -> str:
        """A data URL."""


def render(document: ExplainRecord, pictures: Pictures) -> str:
    """The page for an explanation."""
    more = [("files", "Files and versions", "files.html")]
    if document["pictures"]:
        more.insert(0, ("pictures", "Pictures of units", "explain/pictures.html"))
    *made, files = rendering.sections(more, d=document, pictures=pictures, **_SHOWN)
    shown = sections(document)
    parts = [*shown[:3], *made, *shown[3:], files]
    return rendering.page("explain/page.html", parts, d=document, headline=words.headline(document))


def sections(document: ExplainRecord) -> list[Section]:
    """The page's parts without pictures and files, as the web pages show them."""
    listed = [
        ("notices", "Warnings", "notices.html"),
        ("filters", "Most and least critical filters", "explain/filters.html"),
        ("curves", "Removal curves", "explain/curves.html"),
        ("layers", "Where they are", "explain/layers.html"),
        ("histogram", "All values", "explain/histogram.html"),
        ("method", "How it was measured", "measured.html"),
        ("not-players", "Not players", "not_players.html"),
    ]
    return rendering.sections(listed, d=document, **_SHOWN)


def prefix_of(row: ExplainRow) -> str:
    """Of the keys of a filter's value that is shown: that of the fresh samples where there are any."""
    return "fresh_" if row["fresh_value"] is not None else ""


def shown(row: ExplainRow) -> tuple[float | None, float | None, float | None]:
    """Value and interval of a filter."""
    if row["fresh_value"] is not None:
        return row["fresh_value"], row["fresh_lower"], row["fresh_upper"]
    return row["value"], row["lower"], row["upper"]


def samples_of(row: ExplainRow) -> int:
    """How many samples `shown` rests on."""
    return row["samples"] if row["fresh_value"] is None else row["fresh_samples"] or 0


def at_ends(document: ExplainRecord) -> tuple[list[ExplainRow], list[ExplainRow]]:
    """The k most critical filters, and the k least critical, least first."""
    ranked = sorted(document["filters"], key=lambda r: r["rank"])
    k = document["k"]
    return ranked[:k], ranked[::-1][:k]


def both_ends(document: ExplainRecord) -> list[tuple[str, list[ExplainRow]]]:
    return list(zip(ENDS, at_ends(document), strict=True))


def known_rows(rows: Sequence[ExplainRow]) -> list[ExplainRow]:
    """The first filters whose values are known."""
    return [r for r in rows if row_known(r, prefix_of(r))][:_DRAWN]


def known_values(rows: Sequence[ExplainRow]) -> list[float]:
    return [shown(r)[0] or 0.0 for r in rows if row_known(r, prefix_of(r))]


def values_chart(rows: Sequence[ExplainRow], heading: str, end: str) -> Markup:
    data = [row_charts.ValueRow(r["id"], *shown(r), end == MOST) for r in rows]  # type: ignore[arg-type]
    ident, meaning = f"values-{end.split()[0]}", ("most critical", "least critical")
    return responsive(lambda w: row_charts.interval_plot(data, heading, meaning=meaning, width=w, ident=ident))


def raising(document: ExplainRecord) -> str:
    """The end whose removal moves the metric as a repair would."""
    return LEAST if document["metric"]["goal"] == "raise" else MOST


def removal_chart(document: ExplainRecord, rows: Sequence[CurveRow], key: Share, heading: str, shifted: bool) -> Markup:
    """The curves of one end, with the level that a shift of the logits reaches where it is `shifted`."""
    shift = document["curves"]["logit_shift"]
    level = shift[key] if shifted and shift["moved"] else None
    ident = f"removal-{rows[0]['end'].split()[0]}-{key}"
    return responsive(lambda w: charts.removal(rows, key, heading, shift=level, width=w, ident=ident))


def layers_chart(rows: Sequence[LayerRow], heading: str) -> Markup:
    return responsive(lambda w: row_charts.layers(rows, heading, width=w))


def ranks(document: ExplainRecord) -> dict[str, int]:
    return {r["id"]: r["rank"] for r in document["filters"]}


def signed(value: float) -> str:
    """Three digits with a real minus sign."""
    return f"{value:.3g}".replace("-", "−")


_SHOWN: dict[str, Any] = {
    **MEASURED,
    **rendering.named(both_ends, known_rows, known_values, prefix_of, values_chart, raising, removal_chart),
    **BY_KIND,
    **rendering.named(layers_chart, row_charts.shown_layers),
    **rendering.named(ranks, signed),
    "words": words,
    "ENDS": ENDS,
}
