"""Gates: their files, what each name means in a report, and what is made of the verdict."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from repair_engine.documents import gates
from repair_engine.errors import BadInput
from repair_engine.pages.gate_wording import gates_text, junit, summary
from repair_engine.settings import Gate
from tests.repair_engine.tiny import call


def change(value: float, lower: float, upper: float) -> dict[str, float]:
    return {"value": value, "lower": lower, "upper": upper, "level": 0.95}


def group(name: str, n: int, before: float, after: float) -> dict[str, Any]:
    ends = {"before_interval": [before - 0.1, before + 0.1], "after_interval": [after - 0.1, after + 0.1]}
    return {"name": name, "n": n, "before": before, "after": after, "change": after - before, **ends}


@pytest.fixture
def report() -> dict[str, Any]:
    """report.json, as far as gates and their summary read it."""
    sides = {
        side: {part: {"accuracy": a, "metric": m} for part in ("score", "select", "report", "all")}
        for side, a, m in (("before", 0.75, 0.5), ("after", 0.8, 0.7))
    }
    return {
        "verb": "repair", "outcome": "repaired", "k": 2, "warnings": ["few images | of <b>cat"],
        "metric": {"name": "subgroup-recall:ground", "text": "mean recall over the values of ground", "goal": "raise"},
        "model": {"file": "net.pth", "sha256": "a" * 64, "filters": 100},
        "data": {"file": "i.zip", "sha256": "b" * 64, "images": 400,
                 "splits": {"score": 200, "select": 80, "report": 120}},
        "run": {"evaluations": 1000, "seed": 0, "device": "cpu"},
        **sides,
        "gain": {**change(0.2, 0.1, 0.3), "mcnemar": {}},
        "clean_change": change(0.05, -0.01, 0.11),
        "groups": {"classes": [group("cat", 80, 0.9, 0.85), group("a.b: c", 40, 0.6, 0.7)]},
        "fairness": {
            "rows": [
                {**group("grass", 70, 0.9, 0.8), "change": change(-0.1, -0.2, 0.0)},
                {**group("sand", 50, 0.1, 0.6), "change": change(0.5, 0.4, 0.6)},
            ],
            "worst": {"before": {"name": "sand", "recall": 0.1}, "after": {"name": "sand", "recall": 0.6},
                      "change": change(0.5, 0.4, 0.6)},
            "gap": {"before": 0.8, "after": 0.2, "change": change(-0.6, -0.7, -0.5)},
        },
        "guard": {"n": 50, "before": 0.9, "after": 0.88, "change": change(-0.02, -0.05, 0.01)},
        "images_right": {"before": 90, "after": 96, "n": 120},
        "verification": {"different_predictions": 0}, "culprits": [{"value": 0.25}], "compact": {"gain": None},
    }  # fmt: skip


def judged(report: dict[str, Any], **gate: Any) -> gates.GateRow:
    return gates.judge(report, gates.read([gate]), "0" * 64)["gates"][0]


@pytest.mark.parametrize(
    ("gate", "value", "lower", "n"),
    [
        ({"metric": "metric", "min": 0.7}, 0.7, None, 120),
        ({"metric": "metric", "change": True, "bound": "lower", "min": 0.1}, 0.2, 0.1, 120),
        ({"metric": "metric", "split": "select", "change": True, "min": 0.2}, 0.2, None, 80),
        ({"metric": "accuracy", "min": 0.8}, 0.8, 0.7196, 120),
        ({"metric": "accuracy", "split": "all", "max": 0.8}, 0.8, 0.7581, 400),
        ({"metric": "accuracy", "change": True, "bound": "lower", "min": -0.01}, 0.05, -0.01, 120),
        ({"metric": "accuracy", "split": "guard", "min": 0.88}, 0.88, 0.7620, 50),
        ({"metric": "accuracy", "split": "guard", "change": True, "bound": "upper", "max": 0.01}, -0.02, -0.05, 50),
        ({"metric": "recall:cat", "bound": "lower", "min": 0.75}, 0.85, 0.75, 80),
        ({"metric": "recall:a.b: c", "change": True, "min": 0.1}, 0.1, None, 40),
        ({"metric": "subgroup:sand", "min": 0.6}, 0.6, None, 50),
        ({"metric": "subgroup:grass", "change": True, "bound": "lower", "min": -0.2}, -0.1, -0.2, 70),
        ({"metric": "worst-subgroup", "min": 0.6, "min_n": 50}, 0.6, None, 50),
        ({"metric": "subgroup-gap", "max": 0.2}, 0.2, None, None),
        ({"metric": "subgroup-gap", "change": True, "bound": "upper", "max": -0.5}, -0.6, -0.7, None),
        ({"metric": "verification.different_predictions", "max": 0}, 0.0, None, None),
        ({"metric": "culprits.0.value", "min": 0.25}, 0.25, None, None),
    ],
    ids=lambda given: given["metric"] if isinstance(given, dict) else "",
)
def test_what_a_name_means_and_limits_are_allowed_themselves(report, gate, value, lower, n):
    found = judged(report, **gate)
    assert found["value"] == pytest.approx(value)
    assert found["lower"] == (lower if lower is None else pytest.approx(lower, abs=1e-4))
    assert (found["n"], found["verdict"]) == (n, "passed"), found
    nearer = {key: gate[key] + (1e-6 if key == "min" else -1e-6) for key in ("min", "max") if key in gate}
    assert judged(report, **gate | nearer)["verdict"] == "failed"


@pytest.mark.parametrize(("what", "verdict"), [("fail", "failed"), ("pass", "passed"), ("skip", "skipped")])
def test_too_few_images(report, what, verdict):
    few = judged(report, metric="recall:cat", min=0.99, min_n=81, on_insufficient=what)
    assert (few["verdict"], few["why"]) == (verdict, "insufficient: 80 images")
    assert judged(report, metric="recall:cat", min=0.99, min_n=80, on_insufficient=what)["verdict"] == "failed"
    report["fairness"]["worst"] = None
    unknown = judged(report, metric="worst-subgroup", min=0.1, on_insufficient=what)
    assert (unknown["verdict"], unknown["value"]) == (verdict, None)
    assert "fewer than two subgroups" in unknown["why"]
    report["after"]["report"]["metric"] = float("nan")
    assert judged(report, metric="metric", min=0.1, on_insufficient=what)["verdict"] == verdict
    assert judged(report, metric="compact.gain", min=0.1, on_insufficient=what)["verdict"] == verdict


def test_a_metric_of_one_class_or_of_attacks_rests_on_its_own_images(report):
    report["metric"]["name"] = "recall:cat"
    assert judged(report, metric="metric", min=0)["n"] == 80
    with pytest.raises(BadInput, match="does not say on how many images"):
        judged(report, metric="metric", split="select", min=0, min_n=1)
    report["attack"] = {"images": {"report": 33, "select": 22}}
    assert judged(report, metric="metric", min=0)["n"] == 33
    assert judged(report, metric="metric", split="select", min=0)["n"] == 22


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ({"metric": "recall:dog", "min": 0}, "no recall:dog.\nIt has: cat, a.b: c"),
        ({"metric": "recall:cat", "split": "select", "min": 0}, "given on report, not on select"),
        ({"metric": "subgroup:sea", "min": 0}, "It has: grass, sand"),
        ({"metric": "metric", "split": "guard", "min": 0}, "It has: score, select, report, all."),
        ({"metric": "metric", "bound": "lower", "min": 0}, "no interval for metric on report, lower bound"),
        ({"metric": "recall:cat", "change": True, "bound": "lower", "min": 0}, "no interval"),
        ({"metric": "acuracy", "min": 0}, "no acuracy ('acuracy' is not among: verb"),
        ({"metric": "guard.n.x", "min": 0}, "'x' is not among: int"),
        ({"metric": "outcome", "min": 0}, "is no number"),
        ({"metric": "guard.n", "change": True, "min": 0}, "split, change, bound and min_n say nothing of it"),
        ({"metric": "subgroup-gap", "min": 0, "min_n": 3}, "on how many images"),
    ],
)
def test_what_a_report_cannot_have_is_no_verdict(report, gate, said):
    with pytest.raises(BadInput) as caught:
        judged(report, **gate)
    assert said in str(caught.value)


def test_a_report_without_guard_or_subgroups_says_so(report):
    del report["guard"], report["fairness"]
    for gate, said in (
        ({"metric": "accuracy", "split": "guard"}, "no guard set"),
        ({"metric": "subgroup-gap"}, "no sub"),
    ):
        with pytest.raises(BadInput, match=said):
            judged(report, **gate, min=0)
    report["verb"] = "explain"
    with pytest.raises(BadInput, match="result of explain has no accuracy"):
        judged(report, metric="accuracy", min=0)
    with pytest.raises(BadInput, match="cannot be read for"):
        judged({"verb": "repair", "after": 3}, metric="accuracy", min=0)


YAML = """
gates:  # what the release must keep
  - metric: accuracy
    min: 0.9
  - {metric: "recall:a.b: c", max: 1, on_insufficient: skip}
"""


def test_the_same_gates_have_the_same_hash_in_either_form():
    asked = [
        {"metric": "accuracy", "min": 0.9, "bound": "value"},
        {"metric": "recall:a.b: c", "max": 1.0, "on_insufficient": "skip"},
    ]
    as_json = gates.parse(json.dumps({"gates": asked}))
    assert gates.parse(YAML) == as_json
    assert gates.digest(gates.parse(YAML)) == gates.digest(as_json)
    assert gates.digest([Gate(metric="accuracy", min=0.91)]) != gates.digest([Gate(metric="accuracy", min=0.9)])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a list of gates"),
        ("- metric: accuracy", "not a list of gates"),
        ("gates: []", "no list of 1 to 200"),
        ("gates: {a: 1}", "no list of 1 to 200"),
        ("gates: [3]", "gate 1 is no mapping"),
        ("gates: [{metric: accuracy, min: 0}, {metric: a}]", "gate 2: min: The gate on a says neither min nor max"),
        ("gates: [{metric: a, min: 2, max: 1}]", "min 2 above max 1"),
        ("gates: [{metric: a, minimum: 2}]", "no option 'minimum'"),
        ("gates: [{min: 2}]", "metric: It must be given"),
        ("gates: [{metric: a, min: 1e-3}]", "'1e-3' is not a number"),
        ("gates: [{metric: a, min: .nan}]", "min"),
        ("gates: [{metric: a, min: 1, min: 2}]", "min is given twice"),
        ("gates: [{metric: a, min: 1, split: test}]", "'test' is not one of report"),
        ("gates: [", "neither YAML nor JSON"),
        ("gates: !!python/object/apply:os.system [ls]", "neither YAML nor JSON"),
        ("[" * 30_000, "neither YAML nor JSON"),
        ("#" * 70_000, "more than 65,536 bytes"),
    ],
    ids=lambda text: text[:40],
)
def test_files_that_are_none(text, said):
    with pytest.raises(BadInput) as caught:
        gates.parse(text, "gates.yml")
    assert said in str(caught.value)
    assert "gates.yml" in str(caught.value)


def test_the_command_judges_a_folder_and_writes_what_a_pipeline_shows(report, tmp_path: Path):
    (tmp_path / "report.json").write_text(json.dumps(report))
    file = tmp_path / "gates.yml"
    file.write_text("gates: [{metric: accuracy, min: 0.9}, {metric: 'recall:cat', min: 0.8}]")
    out = tmp_path / "judged"
    done = call(["gate", str(tmp_path), "--gates", str(file), "--out", str(out)])
    assert done.code == 1
    assert "failed: 1 of 2 gates passed" in done.out
    assert {path.name for path in out.iterdir()} == {"gate.json", "summary.md", "junit.xml"}
    assert json.loads((out / "gate.json").read_text())["verdict"] == "failed"
    assert call(["gate", str(out), "--gates", str(file)]).code == 2, "no report"
    file.write_text("gates: [{metric: accuracy, min: 0.8}]")
    passed = call(["gate", str(tmp_path / "report.json"), "--gates", str(file), "--json"])
    assert (passed.code, passed.document["verdict"], passed.document["outcome"]) == (0, "passed", "repaired")
    bad = call(["gate", str(tmp_path), "--gates", str(tmp_path / "none.yml")])
    assert (bad.code, "none.yml cannot be read" in bad.err) == (2, True)


def test_summary_and_junit(report):
    asked = [
        {"metric": "metric", "min": 0.1},
        {"metric": "recall:cat", "min": 0.9},
        {"metric": "recall:cat", "min": 0, "min_n": 99, "on_insufficient": "skip"},
    ]
    found = gates.judge(report, gates.read(asked), "c" * 64)
    text = summary(found, report)
    lines = text.splitlines()
    assert lines[0] == "### ❌ Neuron repair: gate failed"
    assert "raised mean recall over the values of ground from 50.0% to 70.0% on 120 report images" in text
    assert "1 of 3 gates passed, 1 skipped." in text
    assert next(line for line in lines if line.startswith("| ❌")).startswith(
        "| ❌ | recall:cat on report ≥ 0.9 | 0.85"
    )
    assert lines.index(next(line for line in lines if line.startswith("| ❌"))) < lines.index(
        next(line for line in lines if line.startswith("| ✅"))
    ), "what failed stands first"
    assert "| sand | 50 | 10.0% | 60.0% | +50.0 (+40.0 to +60.0) |" in lines
    assert "| accuracy of the guard set | 50 |" in text
    assert r"few images \| of \<b\>cat" in text
    suite = ET.fromstring(junit(found))
    assert [suite.get(key) for key in ("tests", "failures", "skipped")] == ["3", "1", "1"]
    assert "insufficient: 80 images" in gates_text(found)
    del report["fairness"]
    assert "| a.b: c | 40 | 60.0% | 70.0% |" in summary(found, report)
