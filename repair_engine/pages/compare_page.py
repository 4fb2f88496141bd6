"""compare.html: two results side by side as one self-contained page."""

from __future__ import annotations

from typing import Any

from repair_engine.pages import explain_charts as charts
from repair_engine.pages import repair_page as html
from repair_engine.pages.compare_wording import agreement_text, differs_text, headline
from repair_engine.pages.markup import Markup, bullets, details, element, join, name, table
from repair_engine.pages.repair_wording import p_value
from repair_engine.pages.results import notices
from repair_engine.pages.svg import decimal, digits_for, percent, responsive
from repair_engine.studies.names import ENDS, RANDOM, SHAPLEY

Row = dict[str, Any]

_SIDES = ("A", "B")
_MEASURED = "an explanation measures them, from both ends on report images"


def render(document: Row) -> str:
    """The page for a comparison."""
    parts = sections(document)
    contents = element("ul", *(element("li", element("a", h, href=f"#{i}")) for i, h, _ in parts))
    body = join(
        (
            element("p", "Comparison of two results", class_="kicker"),
            element("h1", "Do both hold the same filters responsible?"),
            element("div", *(element("p", said) for said in headline(document)), class_="verdict none"),
            element("nav", contents, aria_label="Contents"),
            *(element("section", element("h2", h, id=i), part, aria_labelledby=i) for i, h, part in parts),
        )
    )
    return html.page("Comparison of two results", body)


def sections(document: Row) -> list[tuple[str, str, Markup]]:
    """(id, heading, content) of the page's parts; the web pages show the same."""
    return [
        ("results", "The two results", _results(document)),
        ("notices", "Warnings", notices({**document, "verb": "explain"})),
        ("agreement", "Agreement of values", bullets(agreement_text(document))),
        ("overlap", "Overlap of the ends", _overlaps(document)),
        ("histograms", "All values", _histograms(document)),
        ("curves", "Removal curves", _curves(document)),
    ]


def _results(document: Row) -> Markup:
    sides = document["results"]
    pairs = [
        ("result", [s["path"] for s in sides]),
        ("model", [s["model"]["file"] for s in sides]),
        ("images", [s["data"]["file"] for s in sides]),
        ("metric", [f"{s['metric']['text']}, to be {'lowered' if s['metric']['goal'] == 'lower' else 'raised'}"
                    for s in sides]),
        ("estimator", [f"{s['run']['estimator']}, {s['run']['evaluations'] or 0:,} evaluations, seed "
                       f"{s['run']['seed']}" for s in sides]),
        ("filters sampled", [f"{s['sampled']:,} of {document['filters']:,}" for s in sides]),
    ]  # fmt: skip
    rows = [(key, *(name(v) for v in values)) for key, values in pairs]
    return join(
        (table("What is compared", ("", *_SIDES), rows), element("p", f"What differs: {differs_text(document)}."))
    )


def _overlaps(document: Row) -> Markup:
    body = [
        [r["end"], r["k"], r["shared"], percent(r["share"], 0), percent(r["by_chance"]), p_value(r["p"])]
        for r in document["overlaps"]
    ]
    header = ("end", "k", "shared", "share", "by chance", "p")
    note = "Of the filters that both runs sampled. "
    note += "p: probability of so many or more if one ranking were shuffled; not adjusted for the number of rows."
    if not body:
        return element("p", "Fewer than two filters were sampled by both runs: there are no ends to compare.")
    whole = table("Filters among the k first of both rankings", header, body, range(1, 6))
    return join((whole, element("p", note, class_="note")))


def _histograms(document: Row) -> Markup:
    parts: list[object] = []
    for called, side in zip(_SIDES, document["results"]):
        found = side["histogram"]
        edges, counts = found["edges"], found["counts"]
        heading = f"{called}: values of {found['filters']:,} filters for {side['metric']['text']}"
        parts.append(_histogram(edges, counts, heading, called))
        digits = digits_for(edges)
        body = [
            [f"{decimal(low, digits)} to {decimal(high, digits)}", f"{n:,}"]
            for low, high, n in zip(edges, edges[1:], counts)
            if n
        ]
        parts.append(details(f"The bins of {called} as a table", table(heading, ("value", "filters"), body, (1,))))
    return join(parts)


def _histogram(edges: list[float], counts: list[int], heading: str, called: str) -> Markup:
    picture = responsive(lambda w: charts.histogram(edges, counts, heading, width=w, ident=f"histogram-{called}"))
    return element("figure", element("figcaption", f"{heading}. Counts on a logarithmic scale."), picture)


def _curves(document: Row) -> Markup:
    """Each side's own metric on its own images: shapes can be compared, levels only where the metric is the same."""
    lacking = [called for called, side in zip(_SIDES, document["results"]) if not side["curves"]]
    if len(lacking) == 2:
        return element("p", f"Neither result has such removal curves: {_MEASURED}.")
    parts: list[object] = []
    if lacking:
        parts.append(element("p", f"{lacking[0]} has no such removal curves: {_MEASURED}."))
    for end in ENDS:
        rows, names = [], []
        for called, side in zip(_SIDES, document["results"]):
            for row in side["curves"]:
                if row["end"] == end and row["ranking"] == SHAPLEY:
                    rows.append(row)
                    names.append(f"{called}: {side['metric']['text']}")
        parts.append(_curve(rows, names, end))
        parts += [_curve_table(row, called, side, end) for row, called, side in _with_random(document, end)]
    return join(parts)


def _curve(rows: list[Row], names: list[str], end: str) -> Markup:
    heading = f"Metric by Shapley value, {end}"
    ident = f"curves-{end.split()[0]}"
    picture = responsive(lambda w: charts.removal(rows, "metric", heading, names=names, width=w, ident=ident))
    return element("figure", element("figcaption", heading + ", each on its own report images."), picture)


def _with_random(document: Row, end: str) -> list[tuple[list[Row], str, Row]]:
    return [
        ([row for row in side["curves"] if row["end"] == end], called, side)
        for called, side in zip(_SIDES, document["results"])
        if side["curves"]
    ]


def _curve_table(rows: list[Row], called: str, side: Row, end: str) -> Markup:
    by = {row["ranking"]: row for row in rows}
    mine, random = by[SHAPLEY], by.get(RANDOM)
    body = [
        [f"{k:,}", percent(mine["metric"][i]), percent(mine["accuracy"][i]),
         percent(random["metric"][i]) if random else ""]
        for i, k in enumerate(mine["ks"])
    ]  # fmt: skip
    header = ("removed", side["metric"]["text"], "overall accuracy", "metric, random order")
    return details(f"{called}, {end}, as a table", table(f"{called}: {end}", header, body, range(4)))
