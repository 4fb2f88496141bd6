"""The page is one safe, self-contained document that says the outcome first."""

import copy
import json
import re

import pytest

from repair_engine.pages.repair_page import render
from tests.repair_engine.pages.documents import METRICS, document, with_guard
from tests.repair_engine.pages.pages import Page

HOSTILE = "</title><script>alert(1)</script>\"' onload=x <img src=//evil.test/x> {{ 7*7 }} & \u202egnp.exe\x00"
CASES = {
    **{f"{metric} k={k}": (metric, k, None) for metric in METRICS for k in (0, 1, 3)},
    "no gain on report": ("recall:shirt", 2, 0.001),
    "worse on report": ("accuracy", 2, -0.05),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def any_document(request):
    metric, k, gain = request.param
    return document(metric, k, gain=gain)


def test_is_well_formed_with_unique_ids_and_working_links(any_document):
    page = Page(render(any_document))
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for link in page.all("a"):
        assert link["href"].removeprefix("#") in ids
    for _, attributes in page.elements:
        for key in ("aria-labelledby", "aria-describedby"):
            assert set((attributes.get(key) or "").split()) <= set(ids)


def test_needs_nothing_from_outside_and_runs_nothing(any_document):
    html = render(any_document)
    page = Page(html)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    for tag, attributes in page.elements:
        for key, value in attributes.items():
            assert not key.startswith("on"), (tag, key)
            if key in ("src", "href", "xlink:href", "action"):
                assert value.startswith("#"), (tag, key, value)
    addresses = set(re.findall(r"[a-z]+://[^\s\"'<)]+", html))
    assert addresses <= {"http://www.w3.org/2000/svg"}  # a namespace, not fetched
    assert "url(" not in html.replace("url(#", "")
    assert "@import" not in html


def test_changes_nothing_in_the_document(any_document):
    kept = copy.deepcopy(any_document)
    render(any_document)
    assert any_document == kept


def test_renders_what_was_stored_as_json(any_document):
    assert render(json.loads(json.dumps(any_document))) == render(any_document)


def test_hostile_names_stay_text():
    made = with_guard(document("subgroup-recall:" + HOSTILE))
    for row in (*made["groups"]["classes"], *made["groups"]["subgroups"], *made["data"]["classes"]):
        row["name"] = HOSTILE + row["name"]
    made["model"]["file"] = made["data"]["file"] = made["data"]["guard"]["file"] = HOSTILE
    made["data"]["group"] = made["metric"]["text"] = HOSTILE
    made["warnings"] = made["reasons"] = made["data"]["notes"] = [HOSTILE]
    made["model"]["options"] = {HOSTILE: HOSTILE}
    for row in (*made["culprits"], *made["controls"]):
        row["id"] = row["name"] = HOSTILE
    for row in made["model"]["not_players"]:
        row["reason"] = HOSTILE
    html = render(made)
    page = Page(html)
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in Page(render(plain_twin())).elements}
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)
    assert "<script>alert(1)</script>" in page.text, "the name itself is still shown"
    assert "\u202e" not in html
    assert "\x00" not in html


def plain_twin():
    made = with_guard(document("subgroup-recall:ground"))
    made["data"]["group"], made["warnings"], made["data"]["notes"] = "writer", ["w"], ["n"]
    return made


def test_says_first_that_it_repaired_with_images_and_interval():
    made = document("subgroup-recall:ground", k=2)
    page = Page(render(made))
    at = [
        page.text.index(said)
        for said in (
            "Ablating 2 filters raised mean recall over the values of ground from 55.0% to 65.0% on 563 report "
            "images that the repair never saw (change +10.0 percentage points, 95% interval +8.0 to +12.0).",
            "At a glance",
            "Groups",
            "Controls",
            "Culprits",
            "How it was measured",
        )
    ]
    assert at == sorted(at)
    assert "<h1>Repaired</h1>" in render(made)


@pytest.mark.parametrize(("uses", "said"), [(1, ""), (2, "1 earlier report on"), (3, "2 earlier reports on")])
def test_the_headline_says_that_reports_on_these_images_came_before(uses, said):
    made = document("subgroup-recall:ground", k=2) | {"report_uses": uses}
    text = Page(render(made)).text
    assert ("these images may have guided what was asked" in text) == bool(said)
    assert said in text


def test_counts_the_images_that_the_metric_is_about():
    assert "on 200 report images of class shirt" in Page(render(document("recall:shirt"))).text
    attacked = Page(render(document("attack-success"))).text
    assert "lowered success of the attack from 55.0% to 35.0% on 551 attacked report images" in attacked


@pytest.mark.parametrize(("k", "gain"), [(0, 0.0), (2, 0.001), (2, -0.05)])
def test_no_repair_found_is_presented_with_reasons_and_what_was_tried(k, gain):
    made = document("recall:shirt", k=k, gain=gain)
    page = Page(render(made))
    assert "<h1>No repair found</h1>" in render(made)
    assert made["reasons"], "the engine's judge gave one"
    said = made["reasons"][0] if k == 0 else ("it got worse" if gain < 0 else "an improvement is not shown")
    assert page.text.count(said) == 1, "why, in one sentence"
    assert "688 filters at 19 sites were valued with 299,123 evaluations (cmcs)." in page.text
    assert "4 filters with a value on the culprits' side were ranked" in page.text
    assert "written: checkpointnone" in page.text
    assert "Repaired" not in page.text


def test_no_candidates_at_all():
    made = document("accuracy", k=0, culprits=0)
    page = Page(render(made))
    assert "No filter had a value on the culprits' side. The model is best left as it is" in page.text
    assert "there was no culprit to ablate" in page.text.lower()


def test_states_findings_warnings_and_missing_parts():
    made = document("recall:shirt")
    made["warnings"] = ["The intact model is near chance."]
    page = Page(render(made))
    kinds = [a["data-kind"] for a in page.all("li") if "data-kind" in a]
    assert kinds == ["Finding"] * len(made["findings"]) + ["Warning"]
    assert all(f in page.text for f in (*made["findings"], *made["warnings"]))
    assert "No guard set was given." in page.text
    assert "The metric names no subgroups" in page.text


def test_tables_of_a_thousand_classes_show_what_changed_and_fold_the_rest():
    made = document("accuracy")
    names = [f"class {i:04d}" for i in range(1000)]
    row = made["groups"]["classes"][0]
    made["groups"]["classes"] = [
        {**row, "name": n, "change": -0.25 if i == 7 else 0.5 if i == 3 else 0.0} for i, n in enumerate(names)
    ]
    page = Page(render(made))
    changed = page.table("Recall of classes whose recall changed (2 of 1000)")
    assert [r["name"] for r in changed] == ["class 0007", "class 0003"]
    assert [r["name"] for r in page.table("Recall of classes, 95%")] == names
    assert "1 of 1,000 classes improved, 1 got worse, 998 did not change." in page.text
