"""Runs of the kind score: what the API and the form take, and what the engine is told."""

from __future__ import annotations

import html
import re

import pytest

from repair_engine.errors import BadInput
from tests.webapp.pages.helpers import read
from webapp.jobs.models import Job
from webapp.jobs.requests import asked, for_engine
from webapp.jobs.translation import repair_request
from webapp.pages.selectors import phases

pytestmark = pytest.mark.usefixtures("quick_module")

REPAIRS = "/api/v1/repairs/"


def body(person, **changes) -> dict:
    return {"model": str(person.model.pk), "dataset": str(person.dataset.pk), "metric": "accuracy", **changes}


def test_the_api_takes_further_objectives_and_the_engine_is_told(world):
    also = ["classes", "subgroup:sex=f", "recall:cat"]
    answer = world.owner.api.post(REPAIRS, body(world.owner, kind="score", also=also), format="json")
    assert answer.status_code == 202, answer.json()
    assert answer.json()["request"] == {"kind": "score", "metric": "accuracy", "also": also, "seed": 0}
    job = Job.objects.get(pk=answer.json()["id"])
    asked = repair_request(for_engine(job), world.owner.model.blob.path.parent)
    assert asked.also == tuple(also)
    assert asked.searches
    page = world.owner.browser.get(f"/repairs/{job.pk}/").content.decode()
    written = [html.unescape(text) for text in re.findall(r"<pre>(.*?)</pre>", page, re.S)]
    command = next(text for text in written if "neuron-repair score" in text)
    for name in also:
        assert f"--also {name}" in command
    assert "Cancel the valuation" in read(world.owner.browser.get(f"/repairs/{job.pk}/")).text
    assert [phase.name for phase in phases(job)] == ["prepare", "search", "finish"]


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"also": ["classes"]}, "also", "Only a run of kind score"),
        ({"kind": "explain", "also": ["classes"]}, "also", "Only a run of kind score"),
        ({"kind": "score", "also": ["beauty"]}, "also", "'beauty' is not one of"),
        ({"kind": "score", "also": ["subgroup:sex"]}, "also", "subgroup:COLUMN=VALUE"),
        ({"kind": "score", "also": ["attack-success"]}, "also", "images of its own"),
        ({"kind": "score", "metric": "attack-success", "also": ["accuracy"]}, "also", "images of its own"),
        ({"kind": "score", "also": ["recall"]}, "also", "needs a class"),
        ({"kind": "score", "max_filters": 5}, "max_filters", "repairs nothing"),
        ({"kind": "score", "filters": ["conv:1"]}, "filters", "no such field"),
    ],
)
def test_bad_input_names_the_field(world, changes, field, said):
    answer = world.owner.api.post(REPAIRS, body(world.owner, **changes), format="json")
    assert answer.status_code == 400
    assert said in next(error["detail"] for error in answer.json()["errors"] if error["field"] == field)
    if field != "filters":
        with pytest.raises(BadInput):
            asked({"metric": "accuracy", **changes})


def test_columns_that_the_dataset_does_not_have(world):
    world.owner.dataset.facts = {"columns": {"sex": 2}}
    world.owner.dataset.save()
    for also in (["subgroup:skin=dark"], ["subgroup-recall:skin"]):
        answer = world.owner.api.post(REPAIRS, body(world.owner, kind="score", also=also), format="json")
        assert "no column 'skin'" in answer.json()["detail"]
        assert "It has: sex" in answer.json()["mend"]


def test_the_form_starts_one_and_says_where_further_objectives_belong(world):
    sent = {"model": world.owner.model.pk, "dataset": world.owner.dataset.pk, "metric": "accuracy", "kind": "repair",
            "also": ["classes"], "max_clean_drop": 2, "max_filters": 50, "seed": 0}  # fmt: skip
    page = read(world.owner.browser.post("/repairs/new/", sent), 422)
    assert "Only “Values only” values further objectives" in page.text
    assert world.owner.browser.post("/repairs/new/", sent | {"kind": "score"}).status_code == 302
    job = Job.objects.first()
    assert job.request == {"kind": "score", "metric": "accuracy", "also": ["classes"], "seed": 0}
    again = read(world.owner.browser.get(f"/repairs/new/?like={job.pk}"))
    ticked = [a["value"] for a in again.all("input") if a.get("name") == "also" and "checked" in a]
    assert ticked == ["classes"]
