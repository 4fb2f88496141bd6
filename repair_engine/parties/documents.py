"""What a merge leaves: merged.json, filters.csv and a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from repair_engine.documents import repair as documents
from repair_engine.pages.markup import Markup, bullets, definitions, element, join, name, table
from repair_engine.pages.repair_page import page
from repair_engine.pages.repair_wording import count, p_value
from repair_engine.pages.svg import decimal
from repair_engine.parties.merging import Merged
from repair_engine.search.phases import DELTA
from repair_engine.support import tables

_SHOWN = 30  # filters at each end of the page's table


def merged_document(merged: Merged) -> dict[str, Any]:
    """The merge as JSON: per filter the joint value, and each party's own."""
    first = merged.parties[0].document
    return {
        "schema": 1,
        "verb": "merge",
        "model": first["model"],
        "metric": first["metric"],
        "preprocessing": first["preprocessing"],
        "constants": first["constants"],
        "truncation": first["truncation"],
        "parties": [
            {
                "name": party.name,
                "weight": float(weight),
                "images": party.images,
                "cells": party.document["cells"],
                "data_sha256": party.document["data"]["sha256"],
                "value_of_all": float(party.document["value_of_all"]),
                "run": dict(party.run),
            }
            for party, weight in zip(merged.parties, merged.weights)
        ],
        "estimand": "the Shapley value of each filter for the metric on the score images of all parties together",
        "interval": merged.interval,
        "value_of_all": merged.value_of_all,
        "filters": [_row(merged, player) for player in range(len(merged.filters))],
        "differing": {
            "test": "Cochran's Q per filter, Holm-adjusted over the filters",
            "level": DELTA,
            "tested": int(np.isfinite(merged.differing).sum()),
            "filters": _differing(merged),
        },
        "warnings": list(merged.warnings),
        "versions": documents.versions(),
    }


def write_merged(merged: Merged, document: dict[str, Any], out: Path) -> None:
    """merged.json, filters.csv and merged.html in the folder `out`."""
    (out / "merged.json").write_text(json.dumps(document, indent=1))
    (out / "merged.html").write_text(_page(document), encoding="utf-8")
    parties = [f"value_{i}" for i in range(1, len(merged.parties) + 1)]
    errors = [f"std_error_{i}" for i in range(1, len(merged.parties) + 1)]
    ours = ("filter", "value", "std_error", "lower", "upper", "samples", "differing_p")
    header = [*ours, *(name for pair in zip(parties, errors) for name in pair)]
    with tables.writing(out / "filters.csv", header) as rows:
        for row in document["filters"]:
            each = [x for one in row["parties"] for x in (one["value"], one["std_error"])]
            rows.writerow([row["id"], *(row[key] for key in ours[1:]), *each])


def merged_text(document: dict[str, Any]) -> str:
    """What the verb prints for people."""
    known = sorted((f for f in document["filters"] if f["value"] is not None), key=lambda f: f["value"])
    shown = 15
    lines = [f"{document['metric']['text']} on the score images of {len(document['parties'])} parties together: "
             f"{document['value_of_all']:.4f}"]  # fmt: skip
    lines += [
        f"  {p['name']:<30} n = {p['images']:<7} weight {p['weight']:.3f}  {p['value_of_all']:.4f}  "
        f"{p['run']['estimator']}, {p['run']['evaluations']:,} evaluations, seed {p['run']['seed']}"
        for p in document["parties"]
    ]
    lines += [document["interval"], f"{'filter':<44}{'value':>10}{'lower':>10}{'upper':>10}{'samples':>9}"]
    ends = known if len(known) <= 2 * shown else [*known[:shown], None, *known[-shown:]]
    for row in ends:
        lines.append(
            f"… {len(known) - 2 * shown} more (--json or --out gives all)" if row is None else
            f"{row['id']:<44}{row['value']:>10.5f}{row['lower']:>10.5f}{row['upper']:>10.5f}{row['samples']:>9}"
        )  # fmt: skip
    return "\n".join([*lines, _differing_text(document), *(f"warning: {w}" for w in document["warnings"])])


def _row(merged: Merged, player: int) -> dict[str, Any]:
    arrays = {"value": merged.values, "std_error": merged.std_errors, "lower": merged.lower, "upper": merged.upper}
    known = bool(np.isfinite(merged.values[player]))
    return {
        "id": merged.filters[player],
        **{key: _number(array[player]) if known else None for key, array in arrays.items()},
        "samples": int(merged.samples[player]),
        "differing_p": _number(merged.differing[player]),
        "parties": [
            {
                "value": _number(party.values[player]),
                "std_error": _number(party.std_errors[player]),
                "samples": int(party.samples[player]),
            }
            for party in merged.parties
        ],
    }


def _differing(merged: Merged) -> list[str]:
    with np.errstate(invalid="ignore"):
        order = np.argsort(np.nan_to_num(merged.differing, nan=2.0), kind="stable")
        return [merged.filters[i] for i in order if merged.differing[i] < DELTA]


def _number(x: float) -> float | None:
    return float(x) if np.isfinite(x) else None


def _differing_text(document: dict[str, Any]) -> str:
    found, tested = document["differing"]["filters"], document["differing"]["tested"]
    if not tested:
        return "Whether parties differ cannot be told: no filter has 30 samples at each."
    if not found:
        return f"No filter differs between the parties by more than sampling error ({tested:,} tested, Holm)."
    more = f" and {len(found) - 10} more" if len(found) > 10 else ""
    return (
        f"{count(len(found), 'filter')} of {tested:,} differ between the parties by more than sampling error "
        f"(Holm, 5%): {', '.join(found[:10])}{more}. What is common to all images hides that."
    )


def _page(document: dict[str, Any]) -> str:
    model, metric = document["model"], document["metric"]
    first = document["parties"]
    origin = document["constants"]
    facts: list[tuple[object, object]] = [
        ("model", join((name(model["architecture"]), element("code", f" sha256 {model['sha256']}")))),
        ("metric", f"{metric['text']} ({metric['name']}): {document['value_of_all']:.4f} on all score images"),
        ("estimand", document["estimand"]),
        ("constants", f"{origin['kind']}, over {count(origin['images'], 'image')} of "
                      f"{count(origin['parties'], 'party', 'parties')} (sha256 {origin['sha256'][:16]}…)"),
        ("truncation", f"at most {document['truncation']['depth']} filters removed ({document['truncation']['rule']})"),
        ("interval", document["interval"]),
    ]  # fmt: skip
    parties = [
        (name(p["name"]), f"{p['images']:,}", decimal(p["weight"], 3), decimal(p["value_of_all"], 4),
         p["run"]["estimator"], f"{p['run']['evaluations']:,}", str(p["run"]["seed"]))
        for p in first
    ]  # fmt: skip
    header = ("party", "images", "weight", "metric", "estimator", "evaluations", "seed")
    sections = [
        ("parties", "Parties", table("Parties", header, parties, (1, 2, 3, 5, 6))),
        ("differing", "Where they differ", element("p", _differing_text(document))),
        ("filters", "Filters", _filters(document)),
        ("method", "How it was measured", definitions(facts)),
    ]
    if document["warnings"]:
        sections.insert(1, ("warnings", "Warnings", bullets(document["warnings"])))
    body = join(
        (
            element("p", f"Merged estimates of {len(first)} parties", class_="kicker"),
            element("h1", f"{metric['text'].capitalize()}: which filters carry it, over all parties"),
            *(element("section", element("h2", h, id=i), part, aria_labelledby=i) for i, h, part in sections),
        )
    )
    return page(f"Merged estimates: {metric['text']}", body)


def _filters(document: dict[str, Any]) -> Markup:
    known = sorted((f for f in document["filters"] if f["value"] is not None), key=lambda f: f["value"])
    shown = known if len(known) <= 2 * _SHOWN else [*known[:_SHOWN], *known[-_SHOWN:]]
    parties = [p["name"] for p in document["parties"]]
    rows = [
        (
            name(f["id"]),
            decimal(f["value"], 5),
            f"{decimal(f['lower'], 5)} to {decimal(f['upper'], 5)}",
            *(decimal(one["value"], 5) for one in f["parties"]),
            "" if f["differing_p"] is None else p_value(f["differing_p"]),
        )
        for f in shown
    ]
    header = ("filter", "value", "95% interval", *(name(p) for p in parties), "parties differ (p)")
    caption = f"{len(shown):,} of {len(document['filters']):,} filters, by value; all are in filters.csv"
    return table(caption, header, rows, range(1, len(header)))
