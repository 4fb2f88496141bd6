"""Forgetting by API and form: the class or the group reaches the engine; what cannot be is refused."""

from __future__ import annotations

import pytest

from clients.neuron_repair import verdict
from tests.webapp.pages.helpers import read, succeed
from webapp.jobs.models import Job
from webapp.jobs.requests import for_engine
from webapp.jobs.translation import repair_request
from webapp.pages import report
from webapp.pages.snippets import _command

REPAIRS, NEW = "/api/v1/repairs/", "/repairs/new/"


@pytest.fixture
def owner(world):
    owner = world.owner
    owner.model.class_names = ["coat", "shirt"]
    owner.model.save()
    counts = {"sex": {"female": 60, "male": 60}}
    owner.dataset.facts = {**owner.dataset.facts, "columns": counts, "distinct": {"sex": 2}, "column_order": ["sex"]}
    owner.dataset.save()
    return owner


def post(person, **changes: object):
    asked = {"model": str(person.model.pk), "dataset": str(person.dataset.pk), "metric": "forget:coat", **changes}
    return person.api.post(REPAIRS, asked, format="json")


def form(person, **changes: object):
    sent = {"model": str(person.model.pk), "dataset": str(person.dataset.pk), "kind": "repair", "effort": "quick",
            "metric": "forget", "seed": "0", "device": "cpu"}  # fmt: skip
    return person.browser.post(NEW, sent | changes)


@pytest.mark.parametrize("metric", ["forget:coat", "forget:sex=female"])
def test_a_class_or_a_group_reaches_the_engine(owner, tmp_path, metric):
    answer = post(owner, metric=metric)
    assert answer.status_code == 202, answer.json()
    job = Job.objects.get(pk=answer.json()["id"])
    asked = repair_request(for_engine(job), tmp_path)
    assert str(asked.metric) == metric
    assert asked.metric.goal == "lower"
    assert f"--metric {metric}" in _command(job, job.request)
    assert f"Forgetting {metric.partition(':')[2]}" in read(owner.browser.get(f"/repairs/{job.pk}/")).text


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"metric": "forget"}, "forget needs a class or a group"),
        ({"metric": "forget:age=4"}, "no column 'age'"),
        ({"goal": "gap"}, "no subgroups"),
        ({"kind": "score", "metric": "accuracy", "also": ["forget:coat"]}, "goes beside no other metric"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(owner, changes, says):
    jobs = Job.objects.count()
    answer = post(owner, **changes)
    assert answer.status_code == 400
    assert says in str(answer.json())
    assert Job.objects.count() == jobs


@pytest.mark.parametrize("name", ["shirt", "sex=male"])
def test_the_form_sends_it_and_shows_it_again(owner, name):
    answer = form(owner, forgotten=name)
    assert answer.status_code == 302, answer.content.decode()
    job = Job.objects.latest("created_at")
    assert job.request["metric"] == f"forget:{name}"
    again = owner.browser.get(f"{NEW}?like={job.pk}").content.decode()
    assert f'name="forgotten" value="{name}"' in again
    for offered in ("coat", "sex=female"):
        assert f'<option value="{offered}">' in again


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "Say which class"),
        ("cot", "Is coat meant?"),
        ("age=3", "There is no column &#x27;age&#x27;. There are: sex"),
    ],
)
def test_the_form_refuses_what_is_not_there(owner, name, says):
    answer = form(owner, forgotten=name)
    assert answer.status_code == 422
    assert says in answer.content.decode()


def test_the_result_page_says_what_the_probe_found(owner):
    def rate(value: float) -> dict:
        return {"value": value, "lower": value - 0.05, "upper": value + 0.05, "n": 40}

    def row(name: str, value: float, change: float | None) -> dict:
        moved = None if change is None else {"value": change, "lower": -0.1, "upper": 0.05, "level": 0.95}
        return {"name": name, "same": change is None, "forget": rate(value), "retain": rate(0.8), "change": moved,
                "ridge": 1.0}  # fmt: skip

    job = Job.objects.get(pk=post(owner).json()["id"])
    succeed(job)
    document = report.document(Job.objects.get(pk=job.pk))
    sizes = {part: {"forget": 40, "retain": 80} for part in ("score", "select", "report", "all")}
    record = {"of_class": "coat", "images": sizes, "chance": dict.fromkeys(sizes, 0.0)}
    document["metric"] = {
        "name": "forget:coat", "text": "accuracy on the forget set (class coat)", "goal": "lower", "forgetting": record,
    }  # fmt: skip
    probe = {"rows": [row("intact model", 0.9, None), row("this repair", 0.88, -0.02)], "learned_from": 240,
             "reference": 0.2, "verdict": "hidden"}  # fmt: skip
    called = [{"name": "shirt", "before": 2, "after": 38}]
    document["forgetting"] = {"called": called, "left_out": 0, "below_chance": False, "probe": probe}
    summary = {section.ident: section.body for section in report.parts(job, document)["summary"].sections}
    for said in ("The forget set is class coat: 40 report images", "right on 88.0% of the forget set",
                 "the forget set is hidden, not forgotten", "shirt"):  # fmt: skip
        assert said in summary["forgetting"]
    assert report.outcome(document).title == "Hidden, not forgotten"
    assert report.outcome(document).hides
    finished = {"state": "succeeded", "outcome": "repaired", "error": "", "mend": "", "result": document}
    assert verdict(finished, []) == (0, "Repaired: hidden, not forgotten (a linear probe finds it).")
