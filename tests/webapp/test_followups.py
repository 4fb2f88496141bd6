"""Repairs that go on from a finished run: who may, from what, and with the bits of the command line."""

from __future__ import annotations

import html
import json
import re
import shlex
from pathlib import Path

import pytest

from tests.webapp.helpers import blob_of
from tests.webapp.pages.helpers import read, succeed
from webapp.jobs.followups import reports_before
from webapp.jobs.models import Artifact, Job
from webapp.jobs.requests import for_engine
from webapp.jobs.translation import repair_request
from webapp.pages.selectors import phases

pytestmark = pytest.mark.usefixtures("quick_module")

REPAIRS = "/api/v1/repairs/"
SITES = [{"name": "features.1", "filters": 4}, {"name": "features.2", "filters": 4}]


@pytest.fixture
def parent(world) -> Job:
    """A finished repair of the owner's, whose model has eight filters."""
    job = world.owner.job
    succeed(job)
    job.refresh_from_db()
    job.request |= {"group": "patient", "max_filters": 9}
    job.save()
    world.owner.model.facts = {"sites": SITES}
    world.owner.model.save()
    return job


def scored(job: Job, *names: str) -> Job:
    """The run valued these."""
    Artifact.objects.create(job=job, name="objectives.npz", media_type="x/y", blob=blob_of(b"values"))
    job.result["objectives"] = [{"name": name} for name in names]
    job.save()
    return job


def go_on(person, parent: Job, **body):
    return person.api.post(REPAIRS, {"from": str(parent.pk), **body}, format="json")


def test_it_is_a_job_of_its_own_with_what_the_parent_was_asked(world, parent):
    parent.request["edit"] = "auto"  # which need not ablate what is chosen by hand: not taken over
    parent.save()
    answer = go_on(world.owner, parent, filters=["features.1:1", "features.2:2"], name="By hand", max_clean_drop=0.05)
    assert answer.status_code == 202, answer.json()
    made = answer.json()
    assert made["parent"] == str(parent.pk)
    assert made["request"] == {
        "metric": "recall:shirt", "seed": 5, "group": "patient", "max_filters": 9, "max_clean_drop": 0.05,
        "filters": ["features.1:1", "features.2:2"], "report_uses": 1,
    }  # fmt: skip
    assert world.owner.api.get(f"{REPAIRS}{parent.pk}/").json()["followups"] == [made["id"]]
    job = Job.objects.get(pk=made["id"])
    asked = repair_request(for_engine(job), world.owner.model.blob.path.parent)
    assert asked.by_hand == ("features.1:1", "features.2:2")
    assert not asked.searches
    assert asked.budget == parent.summary["budget"]
    assert asked.report_uses == 1
    refused = go_on(world.owner, parent, filters=["features.1:1"], edit="head")
    assert refused.status_code == 400, refused.content
    assert "need not ablate them" in str(refused.json())


def test_filters_by_hand_are_ablated_whatever_the_parent_edited(world, parent):
    parent.request["edit"] = "head"
    parent.save()
    made = go_on(world.owner, parent, filters=["features.1:1"]).json()
    assert "edit" not in made["request"]
    asked = go_on(world.owner, parent, filters=["features.1:1"], edit="constants").json()
    assert asked["request"]["edit"] == "constants"


def test_values_that_are_all_zero_start_no_repair(world, parent):
    """As of a class that few samples never drew; filters chosen by hand may still be judged by it."""
    scored(parent, "recall:shirt", "recall:coat", "accuracy")
    ends = [{"id": "features.1:1", "value": 0.0}]
    parent.result["objectives"][1] |= {"lowest": ends, "highest": ends}
    parent.save()
    refused = go_on(world.owner, parent, metric="recall:coat")
    assert refused.status_code == 400
    said = next(error["detail"] for error in refused.json()["errors"] if error["field"] == "metric")
    assert "all are 0: value it again with a larger budget. It valued: recall:shirt, accuracy." in said
    page = world.owner.browser.get(f"/repairs/{parent.pk}/follow/", {"metric": "accuracy"}).content.decode()
    assert 'value="recall:coat"' not in page
    assert go_on(world.owner, parent, metric="recall:coat", filters=["features.1:1"]).status_code == 202
    assert go_on(world.owner, parent, metric="accuracy").status_code == 202


def test_sent_twice_it_starts_once_also_when_a_report_came_between(world, parent):
    head = {"HTTP_IDEMPOTENCY_KEY": "once"}
    body = {"from": str(parent.pk), "filters": ["features.1:1"]}
    first = world.owner.api.post(REPAIRS, body, format="json", **head)
    Job.objects.filter(pk=first.json()["id"]).update(state="succeeded", outcome="repaired")
    again = world.owner.api.post(REPAIRS, body, format="json", **head)
    assert (first.status_code, again.status_code) == (202, 200)
    assert reports_before(parent) == 2
    other = world.owner.api.post(REPAIRS, {**body, "filters": ["features.1:2"]}, format="json", **head)
    assert other.status_code == 422


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        ({"filters": ["features.1:1", "ghost:0", "features.1:4"]}, "filters", "ghost:0, features.1:4"),
        ({"filters": ["features.1:-1"]}, "filters", "features.1, features.2"),
        ({"filters": ["features.1:1", "features.1:1"]}, "filters", "twice"),
        ({"filters": []}, "filters", "Choose filters, or a metric"),
        ({}, "filters", "Choose filters, or a metric"),
        ({"metric": "accuracy"}, "metric", "stored none; a run of kind score does"),
        ({"filters": ["features.1:1"], "seed": 3}, "seed", "as in the run"),
        ({"filters": ["features.1:1"], "model": "x"}, "model", "as in the run"),
        ({"filters": ["features.1:1"], "colour": "red"}, "colour", "no such field"),
        ({"filters": ["features.1:1"], "max_clean_drop": 2}, "max_clean_drop", "1"),
        ({"filters": [f"features.1:{i}" for i in range(101)]}, "filters", "100"),
    ],
)
def test_bad_input_names_what_is_wrong(world, parent, body, field, said):
    answer = go_on(world.owner, parent, **body)
    assert answer.status_code == 400, answer.json()
    assert answer["Content-Type"] == "application/problem+json"
    found = next(error for error in answer.json()["errors"] if error["field"] == field)
    assert said in found["detail"]
    assert Job.objects.count() == 2


def test_a_metric_that_was_not_valued_says_which_were(world, parent):
    scored(parent, "recall:shirt", "accuracy", "subgroup:ground=light")
    for metric in ("recall:coat", "subgroup:ground=light"):
        answer = go_on(world.owner, parent, metric=metric)
        assert answer.status_code == 400
        assert "It valued: recall:shirt, accuracy." in answer.json()["detail"]
    made = go_on(world.owner, parent, metric="accuracy").json()
    assert made["request"]["metric"] == "accuracy"
    assert made["request"]["also"] == ["recall:shirt", "subgroup:ground=light"], "they had a part in the splits"


def test_what_is_anothers_or_not_finished(world, parent):
    assert go_on(world.team_mate, parent, filters=["features.1:1"]).status_code == 404
    answer = go_on(world.team_mate, world.team_mate.job, filters=["features.1:1"])
    assert answer.status_code == 409
    assert "has not finished" in answer.json()["detail"]
    page = world.team_mate.browser.get(f"/repairs/{world.team_mate.job.pk}/follow/", follow=True)
    assert "has not finished" in read(page).text


def test_the_parent_stays_as_long_as_it_is_needed(world, parent):
    made = go_on(world.owner, parent, filters=["features.1:1"]).json()
    answer = world.owner.api.delete(f"{REPAIRS}{parent.pk}/")
    assert answer.status_code == 409
    assert made["id"] in answer.json()["detail"]
    Job.objects.filter(pk=made["id"]).update(state="canceled")
    assert world.owner.api.delete(f"{REPAIRS}{parent.pk}/?for_good=true").status_code == 204
    assert world.owner.api.get(made["url"]).json()["parent"] is None
    read(world.owner.browser.get(f"/repairs/{made['id']}/"))


def test_from_ticks_to_a_running_repair_by_pages(world, parent):
    base = f"/repairs/{parent.pk}/"
    assert "Choose filters by hand" in read(world.owner.browser.get(base)).text
    page = read(world.owner.browser.get(f"{base}follow/", {"pick": ["features.1:1", "features.2:2"]}))
    assert "Repair with 2 filters chosen by hand" in page.text
    assert "1 report on the same report images was made before" in page.text
    form = {a["name"]: a.get("value", "") for a in page.all("input") if "name" in a}
    sent = {"pick": ["features.2:2", "features.1:1"], "metric": "recall:shirt", "key": form["key"], "name": "Mine"}
    answers = [world.owner.browser.post(f"{base}follow/", sent) for _ in range(2)]
    assert {a.status_code for a in answers} == {302}
    assert answers[0]["Location"] == answers[1]["Location"], "sent twice, started once"
    job = parent.followups.get()
    assert job.request["filters"] == ["features.2:2", "features.1:1"]
    page = read(world.owner.browser.get(answers[0]["Location"]))
    assert "goes on from" in page.text
    assert [phase.name for phase in phases(job)] == ["prepare", "confirm", "finish"]
    assert "Mine" in read(world.owner.browser.get(base)).text


def test_the_page_says_what_cannot_be(world, parent):
    url = f"/repairs/{parent.pk}/follow/"
    answer = world.owner.browser.post(url, {"pick": ["ghost:7"], "metric": "recall:shirt"})
    page = read(answer, 422)
    assert "no such filter: ghost:7" in page.text
    assert "No filter is ticked" in read(world.owner.browser.get(url, follow=True)).text
    scored(parent, "recall:shirt", "accuracy")
    page = read(world.owner.browser.get(url, {"metric": "accuracy"}))
    assert "Repair for another objective of this run" in page.text
    answer = world.owner.browser.post(url, {"metric": "recall:coat", "max_filters": 5})
    assert "has no values of recall:coat" in read(answer, 422).text
    sent = {"metric": "accuracy", "max_filters": 5, "max_clean_drop": 1.5}
    assert world.owner.browser.post(url, sent).status_code == 302
    asked = parent.followups.get().request
    assert (asked["stored"], asked["metric"], asked["max_filters"]) == (True, "accuracy", 5)
    assert asked["max_clean_drop"] == 0.015


def test_the_same_again_by_api(world, parent):
    made = go_on(world.owner, parent, filters=["features.1:1"]).json()
    job = Job.objects.get(pk=made["id"])
    answer = world.owner.api.post(REPAIRS, _curl_body(world, job), format="json")
    assert answer.status_code == 202, answer.json()
    assert answer.json()["request"]["filters"] == ["features.1:1"]


def _curl_body(world, job: Job) -> dict:
    return json.loads(shlex.split(_pre(world, job)[0].replace("\\\n", ""))[-1])


def _pre(world, job: Job) -> list[str]:
    page = world.owner.browser.get(f"/repairs/{job.pk}/").content.decode()
    return [html.unescape(text) for text in re.findall(r"<pre>(.*?)</pre>", page, re.S)]


def same(files: dict[str, bytes], document: dict, out: Path) -> None:
    """The report's figures and the files are those of the command line."""
    report = json.loads(files["report.json"])
    for key in ("outcome", "k", "culprits", "curve", "gain", "before", "after", "by_hand", "controls"):
        assert report[key] == document[key], key
    ours, theirs = (dict(d["run"], seconds=0) for d in (report, document))
    assert ours == theirs
    for name in ("predictions.csv", "filters.csv"):
        assert files[name] == (out / name).read_bytes()
    assert files.get("repaired.onnx") == (
        (out / "repaired.onnx").read_bytes() if (out / "repaired.onnx").exists() else None
    )


def test_values_once_then_repairs_from_them_with_the_bits_of_the_command_line(world, real, tmp_path):
    post, files, command = real
    metric = "subgroup-recall:ground"
    found = post(kind="score", metric=metric, also=["all"], budget=40_000, seed=3)
    assert found["outcome"] == "scored"
    written = files(found)
    assert set(written) == {"score.json", "estimate.json", "objectives.npz"}
    values = tmp_path / "values"
    plain = command("score", "--also", "all", metric=metric, budget="40000", seed="3", out=str(values)).document
    ours = json.loads(written["score.json"])
    for key in ("filters", "objectives", "score_images", "value_of_all"):
        assert ours[key] == plain[key], key
    page = read(world.owner.browser.get(f"/repairs/{found['id']}/"))
    rows = page.tables["Objectives of this run"]
    assert [row[0].removesuffix("Repair for it") for row in rows[1:]] == [row["name"] for row in plain["objectives"]]
    assert rows[1][3].startswith(plain["objectives"][0]["lowest"][0]["id"])
    links = [a["href"] for a in page.all("a") if "follow/?metric=" in (a.get("href") or "")]
    assert len(links) == len([row for row in plain["objectives"] if not row["name"].startswith("subgroup:")])
    table = read(world.owner.browser.get(f"/repairs/{found['id']}/filters/"))
    assert f"{len(plain['filters'])} of {len(plain['filters'])} filters" in table.text

    went_on = post(**{"from": found["id"], "metric": "accuracy"})
    assert went_on["summary"]["budget"] == 12_000, "the fresh samples' share of the run's"
    options = {"metric": "accuracy", "budget": "12000", "seed": "3", "values": str(values)}
    document = command("repair", out=str(tmp_path / "a"), **options).document
    same(files(went_on), document, tmp_path / "a")
    assert went_on["result"]["report_uses"] == 1

    filters = ["spy:0", "stem:1"]
    by_hand = post(**{"from": found["id"], "filters": filters})
    options = {"metric": metric, "budget": "40000", "seed": "3", "values": str(values), "filters": ",".join(filters)}
    document = command("repair", out=str(tmp_path / "b"), **options).document
    same(files(by_hand), document, tmp_path / "b")
    assert by_hand["result"]["report_uses"] == 2
    assert any("other report(s) on the same report images" in warning for warning in by_hand["warnings"])
    page = read(world.owner.browser.get(f"/repairs/{by_hand['id']}/"))
    assert "chosen by hand" in page.text


def test_filters_by_hand_of_an_ordinary_repair(real, tmp_path):
    post, files, command = real
    asked = {"metric": "recall:bee", "budget": 9_000, "seed": 1}
    parent = post(**asked)
    found = post(**{"from": parent["id"], "filters": ["spy:0"]})
    options = {"metric": "recall:bee", "budget": "9000", "seed": "1", "filters": "spy:0", "out": str(tmp_path / "out")}
    document = command("repair", **options).document
    same(files(found), document, tmp_path / "out")
    again = post(**{"from": found["id"], "filters": ["stem:0"]})
    assert again["request"]["report_uses"] == 2
