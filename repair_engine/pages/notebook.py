"""Results in a notebook's cell: the head of their page and the curve, styled inside one element."""

from __future__ import annotations

from typing import Any

from repair_engine.pages import explain_page, results
from repair_engine.pages.compare_wording import agreement_text
from repair_engine.pages.compare_wording import headline as compared
from repair_engine.pages.explain_wording import headline
from repair_engine.pages.markup import Markup, bullets, element, join, table
from repair_engine.pages.repair_page import stylesheet
from repair_engine.pages.svg import decimal, digits_for, percent

Row = dict[str, Any]
_ROWS = 10  # of either end of a table


def repair(document: Row) -> str:
    """Outcome, figures, warnings, and the curve by which k was chosen."""
    return _cell(results.outcome(document), results.figures(document), results.curve(document), _warned(document))


def explanation(document: Row) -> str:
    """The sentences at the head, and the removal curves."""
    said = element("div", *(element("p", sentence) for sentence in headline(document)), class_="verdict none")
    head = element("h1", f"What {document['metric']['text']} is made of")
    return _cell(head, said, explain_page.curves(document), _warned(document))


def scores(document: Row) -> str:
    """The filters of lowest and of highest value."""
    rows = sorted((r for r in document["filters"] if r["value"] is not None), key=lambda r: r["value"])
    ends = rows if len(rows) <= 2 * _ROWS else [*rows[:_ROWS], *rows[-_ROWS:]]
    digits = digits_for([r["value"] for r in ends])
    body = [
        [
            element("code", r["id"]),
            *("" if r[key] is None else decimal(r[key], digits) for key in ("value", "lower", "upper")),
            f"{r['samples']:,}",
        ]
        for r in ends
    ]
    run = document["run"]
    said = f"{len(rows):,} of {len(document['filters']):,} filters valued for {document['metric']['text']} on "
    said += f"{len(document['score_images']):,} score images: {run['evaluations']:,} evaluations, seed {run['seed']}."
    caption = "All filters by value" if len(ends) == len(rows) else f"The {_ROWS} lowest and the {_ROWS} highest values"
    head = element("h1", f"Values for {document['metric']['text']}")
    header = ("filter", "value", "lower", "upper", "samples")
    return _cell(head, element("p", said), table(caption, header, body, (1, 2, 3, 4)), _warned(document))


def attack(document: Row) -> str:
    """The figures of the attack; rows before and after where there is a repaired model."""
    names = {"clean_accuracy": "clean accuracy", "accuracy_under_attack": "accuracy under attack",
             "success": "attack success", "true_label": "true label recovered"}  # fmt: skip
    figures = [
        [names[key], percent(f["value"]), f"{percent(f['lower'])} – {percent(f['upper'])}", f"{f['n']:,}"]
        for key, f in document["figures"].items()
    ]
    parts: list[object] = [element("h1", "Under attack")]
    parts.append(table("The intact model", ("figure", "share", "95% interval", "images"), figures, (1, 2, 3)))
    if document["rows"]:
        rows = [
            [r["name"], percent(r["before"]["success"]), percent(r["success"]), f"{r['n']:,}"]
            for r in document["rows"]
            if r["success"] is not None
        ]
        header = ("adversary", "before", "after", "images")
        parts.append(table("Attack success before and after the repair", header, rows, (1, 2, 3)))
    return _cell(*parts, _warned(document))


def evaluation(document: Row) -> str:
    """Metric and clean accuracy by split."""
    models = [("intact", document["figures"])]
    if "figures_ablated" in document:
        models.append((f"{len(document['ablated'])} ablated", document["figures_ablated"]))
    both = document["metric"]["name"] != "accuracy"
    rows = [
        [part, name, *([percent(row["metric"]) if "metric" in row else ""] * both), percent(row["accuracy"])]
        for name, figures in models
        for part, row in figures.items()
    ]
    header = ("images", "model", *[document["metric"]["text"]] * both, "clean accuracy")
    return _cell(
        table(f"{document['metric']['text']} by split", header, rows, range(2, len(header))), _warned(document)
    )


def inspection(document: Row) -> str:
    """Sites and what are no players."""
    said = f"{document['filters']:,} filters at {len(document['sites'])} sites, "
    said += f"{percent(document['parameter_share'])} of the parameters."
    rows = [[element("code", s["name"]), f"{s['filters']:,}", s["norm"], s["activation"]] for s in document["sites"]]
    parts: list[object] = [element("h1", document["architecture"]), element("p", said)]
    parts.append(table("Sites in the order of computation", ("site", "filters", "norm", "activation"), rows, (1,)))
    others = [f"{p['name']} ({p['channels']} channels): {p['reason']}" for p in document["not_players"]]
    parts += [element("h2", "Not players"), bullets(others)] if others else []
    return _cell(*parts, _warned(document))


def comparison(document: Row) -> str:
    """Rank agreement in sentences, and the overlaps of the ends."""
    rows = [
        [r["end"], f"{r['k']:,}", f"{r['shared']:,}", percent(r["share"]), percent(r["by_chance"])]
        for r in document["overlaps"]
    ]
    said = (*compared(document), *agreement_text(document))
    return _cell(
        element("h1", "Two results compared"),
        *(element("p", sentence) for sentence in said),
        table("Filters that both name", ("end", "k", "shared", "share", "by chance"), rows, (1, 2, 3, 4)),
        _warned(document),
    )


def _warned(document: Row) -> Markup:
    return element("ul", *(element("li", w, data_kind="Warning") for w in document["warnings"]), class_="marked")


def _cell(*parts: object) -> str:
    """The parts in an element that the stylesheet is nested in, so that the notebook's own looks stay as they are."""
    style = stylesheet().replace(":root", "&").replace("\nbody {", "\n& {").replace("\n  body {", "\n  & {")
    style = style.replace("\nhtml {", "\n& {").replace("@page { margin: 16mm 14mm }", "")
    return element(
        "div", element("style", Markup(f".neuron-repair {{\n{style}\n}}")), join(parts), class_="neuron-repair"
    )
