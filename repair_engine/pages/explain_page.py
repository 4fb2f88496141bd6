"""explain.html: the document of an explanation as one self-contained page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from repair_engine.documents.known import is_known, unknown_words
from repair_engine.pages import explain_charts as charts
from repair_engine.pages import method
from repair_engine.pages import repair_charts as report_charts
from repair_engine.pages import repair_page as html
from repair_engine.pages.explain_wording import (
    PICTURES,
    advantage_text,
    curve_images_text,
    end_text,
    headline,
    rival_text,
    shift_text,
)
from repair_engine.pages.markup import Markup, details, element, join, name, table
from repair_engine.pages.repair_wording import level_of, points
from repair_engine.pages.results import notices
from repair_engine.pages.svg import decimal, digits_for, percent, responsive
from repair_engine.studies.names import ENDS, LEAST, MOST, SHAPLEY

if TYPE_CHECKING:
    from repair_engine.studies.pictures import Pictures

Row = dict[str, Any]

_DRAWN = 15  # filters of each end in the chart of values


def render(document: Row, pictures: Pictures) -> str:
    """The page for an explanation."""
    model, data = document["model"], document["data"]
    parts = [*sections(document), ("files", "Files and versions", method.files(document))]
    if document["pictures"]:
        parts.insert(3, ("pictures", "Pictures of filters", filter_pictures(document, pictures)))
    contents = element("ul", *(element("li", element("a", h, href=f"#{i}")) for i, h, _ in parts))
    body = join(
        (
            element("p", "Explanation: ", name(model["file"]), " on ", name(data["file"]), class_="kicker"),
            element("h1", f"What {document['metric']['text']} is made of"),
            element("div", *(element("p", said) for said in headline(document)), class_="verdict none"),
            element("nav", contents, aria_label="Contents"),
            *(element("section", element("h2", h, id=i), part, aria_labelledby=i) for i, h, part in parts),
        )
    )
    return html.page(f"What {document['metric']['text']} is made of: {model['file']}", body, pictures=True)


def sections(document: Row) -> list[tuple[str, str, Markup]]:
    """(id, heading, content) of the page's parts; the web pages show the same."""
    return [
        ("notices", "Warnings", notices(document)),
        ("filters", "Most and least critical filters", filters(document)),
        ("curves", "Removal curves", curves(document)),
        ("layers", "Where they are", layers(document)),
        ("histogram", "All values", values(document)),
        ("method", "How it was measured", method.measured(document)),
        ("not-players", "Not players", method.not_players(document)),
    ]


def shown(row: Row) -> tuple[float | None, float | None, float | None]:
    """Value and interval of a filter: of the fresh samples where there are any."""
    prefix = "fresh_" if row["fresh_value"] is not None else ""
    return row[f"{prefix}value"], row[f"{prefix}lower"], row[f"{prefix}upper"]


def samples_of(row: Row) -> int:
    """How many samples `shown` rests on."""
    return int(row["fresh_samples"] if row["fresh_value"] is not None else row["samples"])


def at_ends(document: Row) -> tuple[list[Row], list[Row]]:
    """The k most critical filters, and the k least critical, least first."""
    ranked = sorted(document["filters"], key=lambda r: r["rank"])
    k = document["k"]
    return ranked[:k], ranked[::-1][:k]


def filters(document: Row) -> Markup:
    """The ends of the ranking with intervals."""
    out: list[object] = []
    for end, rows in zip(ENDS, at_ends(document), strict=True):
        known = [r for r in rows if is_known(*shown(r))][:_DRAWN]
        out.append(element("h3", f"{end.split()[0].capitalize()} critical"))
        out.append(element("p", end_text(document, end), class_="note"))
        if known:
            data = [report_charts.ValueRow(r["id"], *shown(r), end == MOST) for r in known]  # type: ignore[arg-type]
            out.append(_values_figure(data, f"Values of the {len(known)} {end.split()[0]} critical filters", end))
        else:
            out.append(element("p", "Of none of these filters is the value known."))
        out.append(_filter_table(rows, end))
    return join(out)


def _values_figure(data: list[report_charts.ValueRow], heading: str, end: str) -> Markup:
    ident = f"values-{end.split()[0]}"
    meaning = ("most critical", "least critical")
    picture = responsive(lambda w: report_charts.interval_plot(data, heading, meaning=meaning, width=w, ident=ident))
    return element("figure", element("figcaption", heading + ", with intervals."), picture)


def _filter_table(rows: Sequence[Row], end: str) -> Markup:
    digits = digits_for([shown(r)[0] or 0.0 for r in rows if is_known(*shown(r))])
    body = []
    for r in rows:
        value, low, high = shown(r)
        known = is_known(value, low, high)
        cell: object = decimal(value, digits) if known and value is not None else unknown_words(samples_of(r), value)
        if known and low is not None and high is not None:
            ends = f"{decimal(low, digits)} to {decimal(high, digits)}"
            cell = join((cell, element("span", ends, class_="ci")))
        ranked = "" if r["ranked_by"] is None else decimal(r["ranked_by"], digits)
        body.append([element("code", r["id"]), r["rank"], cell, f"{samples_of(r):,}", ranked,
                     decimal(r["leave_one_out"], 4), f"{r['weight_norm']:.4g}",
                     f"{r['response_norm']:.4g}"])  # fmt: skip
    header = ("filter", "rank", "value, interval", "samples", "ranked by", "leave-one-out", "weight norm",
              "response norm")  # fmt: skip
    return details(f"The {len(rows)} filters as a table", table(f"Filters, {end}", header, body, range(1, 8)))


def curves(document: Row) -> Markup:
    """Both ends' curves of the metric, and of overall accuracy where that is something else."""
    curve, metric = document["curves"], document["metric"]["text"]
    out: list[object] = [element("p", curve_images_text(document))]
    keys = [("metric", metric)]
    if document["metric"]["name"] != "accuracy":
        keys.append(("accuracy", "overall accuracy"))
    raising = LEAST if document["metric"]["goal"] == "raise" else MOST
    for end in ENDS:
        rows = [r for r in curve["rows"] if r["end"] == end]
        out.append(element("h3", f"{end[:1].upper()}{end[1:]}"))
        out += [element("p", said) for said in advantage_text(document, end)]
        shift = curve["logit_shift"] if end == raising and curve["logit_shift"]["moved"] else None
        for key, called in keys:
            out.append(_curve_figure(rows, key, called, end, shift))
        if end == raising:
            out.append(element("p", shift_text(document), class_="note"))
        for key, called in keys:
            out.append(_curve_table(rows, key, called, end))
        out.append(_advantage_table(document, end))
    return join(out)


def _curve_figure(rows: Sequence[Row], key: str, called: str, end: str, shift: Row | None) -> Markup:
    heading = f"{called[:1].upper()}{called[1:]}, {end}"
    ident = f"removal-{end.split()[0]}-{key}"
    level = None if shift is None else shift[key]
    picture = responsive(lambda w: charts.removal(rows, key, heading, shift=level, width=w, ident=ident))
    return element("figure", element("figcaption", heading + "."), picture)


def _curve_table(rows: Sequence[Row], key: str, called: str, end: str) -> Markup:
    body = []
    for i, k in enumerate(rows[0]["ks"]):
        cells: list[object] = [f"{k:,}"]
        for r in rows:
            cell: object = percent(r[key][i])
            if f"{key}_range" in r:
                low, high = (ends[i] for ends in r[f"{key}_range"])
                cell = join((cell, element("span", f"{percent(low)} – {percent(high)}", class_="ci")))
            cells.append(cell)
        body.append(cells)
    header = ("removed", *(r["ranking"] for r in rows))
    caption = f"{called[:1].upper()}{called[1:]}, {end}; random: mean and range of the orders"
    return details(f"{called[:1].upper()}{called[1:]} as a table", table(caption, header, body, range(len(header))))


def _advantage_table(document: Row, end: str) -> Markup:
    rows = [r for r in document["curves"]["advantages"] if r["end"] == end]
    body = [
        [rival_text(document, r["rival"]), points(r["value"]), f"{points(r['lower'])} to {points(r['upper'])}"]
        for r in rows
    ]
    caption = f"Mean of the metric over the curve, {SHAPLEY} minus rival, points, {end}"
    return table(caption, ("rival", "difference", f"{level_of(next(iter(rows), {}))} interval"), body, (1, 2))


def filter_pictures(document: Row, pictures: Pictures) -> Markup:
    """Extreme score images and optimized images of filters from both ends."""
    rank = {f["id"]: f["rank"] for f in document["filters"]}
    out: list[object] = [element("p", PICTURES)]
    for row in document["pictures"]:
        heading = (element("code", row["id"]), f", rank {rank[row['id']]:,} of {len(rank):,}")
        low, high = row["range"]
        said = f"Over {row['images']:,} score images the response is {_signed(row['mean'])} on average, "
        said += f"{_signed(low)} to {_signed(high)}."
        out += [element("h3", *heading), element("p", said, class_="note")]
        for sign, called in ((1, "Most positive"), (-1, "Most negative")):
            shown_images = [_extreme(e, pictures) for e in row["extremes"] if e["sign"] == sign]
            made = [_optimized(v, pictures) for v in row["visualizations"] if v["sign"] == sign]
            if shown_images or made:
                out.append(element("p", f"{called}:"))
                out.append(element("div", *made, *shown_images, class_="pictures"))
    return join(out)


def _extreme(found: Row, pictures: Pictures) -> Markup:
    source, shown_as = pictures.source(found["picture"]), f"{found['label']}, {_signed(found['response'])}"
    image = element("img", src=source, alt=f"{found['picture']} ({shown_as})", loading="lazy")
    return element("figure", image, element("figcaption", shown_as))


def _optimized(found: Row, pictures: Pictures) -> Markup:
    shown_as = f"optimized, {_signed(found['response'])} (from {_signed(found['start'])})"
    image = element("img", src=pictures.source(found["picture"]), alt=f"image {shown_as}", loading="lazy")
    return element("figure", image, element("figcaption", shown_as), class_="large")


def _signed(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def layers(document: Row) -> Markup:
    """Distribution of both ends over the sites."""
    rows, k = document["layers"], document["k"]
    heading = f"The {k} most and the {k} least critical filters by site"
    picture = responsive(lambda w: charts.layers(rows, heading, width=w))
    note = "Sites in the order of computation."
    if len(charts.shown_layers(rows)) < len(rows):
        note += " Only those that hold any are drawn."
    body = [
        [element("code", r["site"]), f"{r['filters']:,}", r["most"], r["least"], f"{r['expected']:.1f}"] for r in rows
    ]
    header = ("site", "filters", f"of the {k} most", f"of the {k} least", "if spread evenly")
    return join(
        (
            element("figure", element("figcaption", f"{heading}. {note}"), picture),
            details(f"All {len(rows)} sites as a table", table(heading, header, body, range(1, 5))),
        )
    )


def values(document: Row) -> Markup:
    """Histogram of all values, and how much of their spread is noise."""
    found, noise = document["histogram"], document["noise"]
    heading = f"Values of {found['filters']:,} filters"
    picture = responsive(
        lambda w: charts.histogram(found["edges"], found["counts"], heading, width=w, ident="histogram")
    )
    digits = digits_for(found["edges"])
    body = [
        [f"{decimal(low, digits)} to {decimal(high, digits)}", f"{n:,}"]
        for low, high, n in zip(found["edges"], found["edges"][1:], found["counts"])
        if n
    ]
    said = [heading + ", as they are ranked. Counts on a logarithmic scale."]
    parts: list[object] = [element("figure", element("figcaption", " ".join(said)), picture)]
    if noise["reliability"] is not None:
        parts.append(
            element(
                "p",
                f"{noise['n']:,} filters were sampled by the search: standard deviation of their values "
                f"{decimal(noise['spread'], 5)}, root mean square of their standard errors "
                f"{decimal(noise['error'], 5)}; about {percent(noise['reliability'], 0)} of the variance is "
                "not sampling noise.",
                class_="note",
            )
        )
    parts.append(details("The bins as a table", table(heading, ("value", "filters"), body, (1,))))
    return join(parts)
