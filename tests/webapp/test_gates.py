"""Gates by the API: judged by the engine's rules, and kept with the run."""

from __future__ import annotations

import json

import pytest

from repair_engine.documents import gates
from tests.webapp.helpers import blob_of
from tests.webapp.pages.helpers import read
from webapp.jobs import gating
from webapp.jobs.models import Artifact, GateCheck, Job

REPORT = {
    "verb": "repair", "outcome": "repaired",
    "before": {"report": {"accuracy": 0.5}}, "after": {"report": {"accuracy": 0.75}},
    "data": {"images": 40, "splits": {"report": 40}}, "groups": {},
}  # fmt: skip
PASSES, FAILS = {"metric": "accuracy", "min": 0.7}, {"metric": "accuracy", "bound": "lower", "min": 0.7}


@pytest.fixture
def url(world, monkeypatch) -> str:
    """Of the owner's finished repair, whose report is REPORT."""
    world.bells.answer()
    job = world.owner.job
    report = blob_of(json.dumps(REPORT).encode())
    Artifact.objects.filter(job=job, name="report.json").update(blob=report)
    monkeypatch.setattr(gating, "summary", lambda judged, document: f"### {judged['verdict']}\n")  # of whole reports
    return f"/api/v1/repairs/{job.pk}/gates/"


def test_judged_and_kept_by_the_gates_hash(world, url):
    api = world.owner.api
    made = api.post(url, {"gates": [PASSES, FAILS]})
    assert made.status_code == 201, made.json()
    said = made.json()
    offline = gates.judge(REPORT, gates.read([PASSES, FAILS]), blob_of(json.dumps(REPORT).encode()).pk)
    assert (said["verdict"], said["sha256"]) == ("failed", offline["gates_sha256"])
    assert said["gates"] == offline["gates"], "as the command says it"
    assert said["report_sha256"] == offline["report_sha256"]
    assert said["summary"] == "### failed\n"
    assert 'failures="1"' in said["junit"]
    as_yaml = "gates:\n- {metric: accuracy, min: 0.7}  # the same\n- {metric: accuracy, bound: lower, min: 0.7}\n"
    again = api.post(url, {"text": as_yaml})
    assert (again.status_code, again.json()) == (200, said)
    assert api.post(url, {"gates": [PASSES]}).json()["verdict"] == "passed"
    listed = api.get(url).json()
    assert [one["verdict"] for one in listed] == ["passed", "failed"]
    assert "summary" not in listed[0]


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ({}, 400, "either gates or text"),
        ({"gates": [PASSES], "text": "gates: []"}, 400, "either gates or text"),
        ({"gates": []}, 400, "gates"),
        ({"gates": [{"metric": "accuracy"}]}, 400, "neither min nor max"),
        ({"gates": [{"metric": "accuracy", "minimum": 1}]}, 400, "no such field"),
        ({"text": "gates: ["}, 400, "neither YAML nor JSON"),
        ({"text": "gates: [{metric: accuracy, min: 1e-3}]"}, 400, "gate 1: min"),
        ({"gates": [{"metric": "recall:cat", "min": 0}]}, 422, "no recall:cat"),
        ({"gates": [PASSES], "strict": True}, 400, "no such field"),
    ],
)
def test_what_cannot_be_judged(world, url, body, code, said):
    answer = world.owner.api.post(url, body)
    assert (answer.status_code, said in answer.content.decode()) == (code, True), answer.content
    assert not world.owner.job.gate_checks.exists()


def test_a_run_without_a_report(world, url, settings, monkeypatch):
    job = world.owner.job
    Job.objects.filter(pk=job.pk).update(state="processing")
    running = world.owner.api.post(url, {"gates": [PASSES]})
    assert (running.status_code, "still running" in running.json()["detail"]) == (409, True)
    assert world.owner.api.post(url, {"text": "gates: ["}).status_code == 400, "the file is looked at first"
    Job.objects.filter(pk=job.pk).update(state="failed")
    job.artifacts.all().delete()
    assert "left no report" in world.owner.api.post(url, {"gates": [PASSES]}).json()["detail"]


def test_not_without_end(world, url, monkeypatch):
    monkeypatch.setattr(gating, "MOST_KEPT", 1)
    assert world.owner.api.post(url, {"gates": [PASSES]}).status_code == 201
    assert world.owner.api.post(url, {"gates": [PASSES]}).status_code == 200
    assert world.owner.api.post(url, {"gates": [FAILS]}).status_code == 409


def test_the_runs_page_lists_what_was_judged(world, url):
    api, page_of = world.owner.api, lambda: read(world.owner.browser.get(f"/repairs/{world.owner.job.pk}/"))
    assert "gates" not in [a.get("id") for a in page_of().all("section")], "it was never judged"
    made = api.post(url, {"gates": [PASSES, FAILS], "file_name": "<b>release.yml"}).json()
    assert (made["file_name"], made["by"]) == ("<b>release.yml", "owner")
    again = api.post(url, {"text": json.dumps({"gates": [PASSES, FAILS]}), "file_name": "other.yml"})
    assert (again.status_code, again.json()["file_name"]) == (200, "<b>release.yml"), "who was first"
    api.post(url, {"gates": [PASSES]})
    page = page_of()
    assert "gates" in [a.get("id") for a in page.all("section")]
    start = page.text.index("Files of gates that this run was judged by")
    said = page.text[start : page.text.index("What was asked")]
    order = ["Passed: gates without a name", "1 of 1 gate passed", "Failed: <b>release.yml", "1 of 2 gates passed"]
    places = [said.index(words) for words in order]
    assert places == sorted(places), "the newest first"
    assert "by owner" in said
    assert made["sha256"] in said
    assert said.index("accuracy on report, lower bound ≥ 0.7") < said.rindex("accuracy on report ≥ 0.7"), "what failed"
    assert "Failed: 0.75 (0.5981 to 0.8581), n = 40" in said


def test_a_gate_judged_before_there_were_names(world, url):
    world.owner.api.post(url, {"gates": [PASSES]})
    GateCheck.objects.update(by=None, file_name="")
    said = read(world.owner.browser.get(f"/repairs/{world.owner.job.pk}/")).text
    assert "gates without a name" in said
    assert " by " not in said[said.index("1 of 1 gate") :].split("sha256")[0]
    assert world.owner.api.get(url).json()[0]["by"] is None


@pytest.mark.parametrize("name", ["x" * 201, "two\nlines", "null\0"])
def test_a_name_that_is_none(world, url, name):
    answer = world.owner.api.post(url, {"gates": [PASSES], "file_name": name})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "file_name"
