"""What a merge leaves: merged.json, filters.csv and a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from repair_engine.documents import repair as documents
from repair_engine.pages import merge_page
from repair_engine.parties.merging import Merged
from repair_engine.search.phases import DELTA
from repair_engine.support import tables
from repair_engine.support.outputs import write_json
from repair_engine.support.statistics import finite


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
    write_json(document, out / "merged.json")
    (out / "merged.html").write_text(merge_page.render(document), encoding="utf-8")
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
    return "\n".join([*lines, merge_page.differing_text(document), *(f"warning: {w}" for w in document["warnings"])])


def _row(merged: Merged, player: int) -> dict[str, Any]:
    arrays = {"value": merged.values, "std_error": merged.std_errors, "lower": merged.lower, "upper": merged.upper}
    known = bool(np.isfinite(merged.values[player]))
    return {
        "id": merged.filters[player],
        **{key: finite(array[player]) if known else None for key, array in arrays.items()},
        "samples": int(merged.samples[player]),
        "differing_p": finite(merged.differing[player]),
        "parties": [
            {
                "value": finite(party.values[player]),
                "std_error": finite(party.std_errors[player]),
                "samples": int(party.samples[player]),
            }
            for party in merged.parties
        ],
    }


def _differing(merged: Merged) -> list[str]:
    with np.errstate(invalid="ignore"):
        order = np.argsort(np.nan_to_num(merged.differing, nan=2.0), kind="stable")
        return [merged.filters[i] for i in order if merged.differing[i] < DELTA]
