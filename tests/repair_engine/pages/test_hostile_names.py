"""Names of classes, columns, files, layers and parties stay text on the pages of every verb."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from repair_engine.pages import compare_page, explain_page, merge_page, repair_page, score_page
from repair_engine.studies.names import ALONE, ENDS, RANDOM, SHAPLEY
from tests.repair_engine.pages.documents import document as repaired
from tests.repair_engine.pages.pages import Page
from tests.repair_engine.pages.test_page import HOSTILE

Document = dict[str, Any]
PLAIN = "plain"


def filters(name: str) -> list[Document]:
    """Four, of which one is not sampled and one not known."""
    rows = [
        {"id": f"{name}:{i}", "rank": i + 1, "value": 0.01 * (i - 1), "lower": 0.01 * i - 0.02, "upper": 0.01 * i,
         "samples": 20, "ranked_by": 0.01, "weight_norm": 1.0, "response_norm": 2.0, "leave_one_out": 0.0}
        for i in range(4)
    ]  # fmt: skip
    rows[2] |= {"value": None, "lower": None, "upper": None, "samples": 0, "ranked_by": None}
    rows[3] |= {"lower": -1.0, "upper": 1.0}
    fresh = ("value", "lower", "upper", "std_error", "samples")
    return [
        row | {f"fresh_{key}": row.get(key, 0.01) if i == 0 else None for key in fresh} for i, row in enumerate(rows)
    ]


def base(name: str) -> Document:
    """What the documents of repair, explain and score share."""
    made = repaired("recall:shirt")
    shared = {key: made[key] for key in ("model", "data", "run", "versions", "schema", "files")}
    shared["model"] |= {"file": name, "architecture": name, "options": {name: name}, "registered": name}
    shared["model"]["not_players"] = [{"name": name, "filters": 3, "reason": name}]
    shared["data"] |= {"file": name, "group": name, "notes": [name]}
    shared["data"]["classes"] = [{"name": name, "images": 7}]
    shared["files"] = {"checkpoint": {"name": name, "sha256": "c" * 64}}
    shared["run"]["something"] = name
    return shared | {
        "metric": {"name": f"recall:{name}", "text": f"recall of {name}", "goal": "raise"},
        "warnings": [name],
    }


def curves(name: str) -> list[Document]:
    rows = []
    for end in ENDS:
        for ranking in (SHAPLEY, RANDOM):
            row = {
                "end": end,
                "ranking": ranking,
                "ks": [0, 1],
                "metric": [0.9, 0.5],
                "accuracy": [0.8, 0.7],
            }
            if ranking == RANDOM:
                row |= {"draws": 3, "metric_range": [[0.9, 0.4]] * 2, "accuracy_range": [[0.8, 0.6]] * 2}
            rows.append(row)
    return rows


SPREAD = {"filters": 4, "most": 2, "least": 2, "expected": 2.0}
HISTOGRAM = {"edges": [-0.1, 0.0, 0.1], "counts": [3, 1], "filters": 4}


def explained(name: str) -> Document:
    change = {"lower": 0.1, "upper": 0.3, "level": 0.95}
    return base(name) | {
        "verb": "explain",
        "k": 2,
        "filters": filters(name),
        "noise": {"n": 3, "spread": 0.1, "error": 0.05, "reliability": 0.75},
        "histogram": HISTOGRAM,
        "layers": [{"site": name, "kind": "filter", **SPREAD}],
        "kinds": [{"kind": kind, "parameter_share": 0.3, "histogram": HISTOGRAM, **SPREAD} for kind in ALONE],
        "blocks": [{"block": name, "kind": "head", **SPREAD}],
        "curves": {
            "images": {"metric": 100, "accuracy": 200, "of": 150},
            "loo_images": 16,
            "ranked_on": {SHAPLEY: 100, "weight norm": 0, "response norm": 64, "leave-one-out": 16, RANDOM: 0},
            "first_removed": [{"end": end, "removed": 1, "images": 100, "change": -0.4, **change} for end in ENDS],
            "rows": curves(name),
            "kinds": [{"end": end, "ranking": alone, "ks": [0, 2], "metric": [0.9, 0.1], "accuracy": [0.9, 0.2]}
                      for end in ENDS for alone in ALONE.values()],
            "advantages": [{"end": end, "rival": RANDOM, "value": 0.2, **change} for end in ENDS],
            "logit_shift": {"metric": 0.95, "accuracy": 0.8, "how": name, "moved": True, "max_clean_drop": 0.02},
        },
        "pictures": [
            {"id": f"{name}:0", "kind": "hidden", "grid": [2, 3], "left_out": 1, "by_position": True,
             "images": 9, "mean": -0.5, "range": [-1.0, 2.0],
             "extremes": [{"sign": 1, "response": 2.0, "picture": name, "label": name, "heat": name}],
             "visualizations": [{"sign": -1, "response": -3.0, "start": 0.1, "picture": name}]}
        ],
    }  # fmt: skip


def scored(name: str) -> Document:
    rows = filters(name)[:2]
    objective = {"name": f"recall:{name}", "images": 9, "value_of_all": 0.5, "lowest": rows, "highest": rows}
    return base(name) | {"verb": "score", "value_of_all": 0.5, "objectives": [objective]}


def compared(name: str) -> Document:
    made = base(name)
    side = {"path": name, "verb": "explain", "sampled": 4, "histogram": HISTOGRAM, "curves": curves(name)}
    side |= {key: made[key] for key in ("metric", "model", "data", "run")}
    return {
        "verb": "compare",
        "results": [side, side | {"curves": []}],
        "filters": 4,
        "differs": ["seed"],
        "agreement": {"spearman": 0.5, "n": 4, "reliabilities": [0.9, 0.8], "corrected": 0.6, "cut": False},
        "overlaps": [{"end": end, "k": 1, "shared": 1, "share": 1.0, "by_chance": 0.25, "p": 0.25} for end in ENDS],
        "warnings": [name],
    }


def merged(name: str) -> Document:
    made = base(name)
    own = {"value": 0.01, "std_error": 0.001, "samples": 30}
    run = {"estimator": "cmcs", "evaluations": 900, "seed": 1}
    return {
        **{key: made[key] for key in ("model", "metric", "warnings")},
        "constants": {"kind": name, "images": 9, "parties": 2, "sha256": "d" * 64},
        "truncation": {"depth": 4, "rule": "depth"},
        "parties": [{"name": name, "images": 9, "weight": 0.5, "value_of_all": 0.5, "run": run}] * 2,
        "estimand": name,
        "interval": name,
        "value_of_all": 0.5,
        "filters": [row | {"differing_p": 0.5, "parties": [own, own]} for row in filters(name)],
        "differing": {"tested": 3, "filters": [name]},
    }


def repair(name: str) -> Document:
    made = repaired("subgroup-recall:ground") | {
        key: value for key, value in base(name).items() if key not in ("metric", "files")
    }
    made["metric"]["text"] = name
    made["compact"] = {"written": False, "failed": name, "kept": [{"id": name, "reason": name}]}
    for row in (*made["groups"]["classes"], *made["groups"]["subgroups"], *made["controls"]):
        row["name"] = name + row["name"]
    return made


PICTURES = SimpleNamespace(source=lambda name: "data:image/png;base64,AAAA")
RENDERED = {
    "repair": lambda name: repair_page.render(repair(name)),
    "explain": lambda name: explain_page.render(explained(name), PICTURES),
    "compare": lambda name: compare_page.render(compared(name)),
    "score": lambda name: "".join(
        part.body for part in score_page.sections(scored(name), {f"recall:{name}": f"/new?metric={name}"})
    ),
    "merge": lambda name: merge_page.render(merged(name)),
}


@pytest.mark.parametrize("verb", RENDERED)
def test_hostile_names_stay_text(verb: str) -> None:
    html = RENDERED[verb](HOSTILE)
    page, plain = Page(html), Page(RENDERED[verb](PLAIN))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    assert [sorted(attributes) for _, attributes in page.elements] == [sorted(a) for _, a in plain.elements]
    assert "<script>alert(1)</script>" in page.text, "the name itself is still shown"
    assert "{{ 7*7 }}" in page.text, "and is no template"
    assert "\u202e" not in html
    assert "\x00" not in html


@pytest.mark.parametrize("verb", RENDERED)
def test_ids_are_unique_and_labels_lead_somewhere(verb: str) -> None:
    page = Page(RENDERED[verb](PLAIN))
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        assert set((attributes.get("aria-labelledby") or "").split()) <= set(ids)
