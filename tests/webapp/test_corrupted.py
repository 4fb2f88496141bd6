"""Accuracy under corruptions by API and form: kinds and severity reach the engine; what cannot be is refused."""

from __future__ import annotations

import pytest

from tests.webapp.pages.helpers import read, succeed
from webapp.jobs.models import Job
from webapp.jobs.requests import for_engine
from webapp.jobs.translation import repair_request
from webapp.pages import report
from webapp.pages.snippets import _command

REPAIRS, NEW = "/api/v1/repairs/", "/repairs/new/"
METRIC = "corrupted-accuracy:gaussian_noise,contrast"


def post(person, **changes: object):
    asked = {"model": str(person.model.pk), "dataset": str(person.dataset.pk), "metric": METRIC, **changes}
    return person.api.post(REPAIRS, asked, format="json")


def form(person, **changes: object):
    sent = {"model": str(person.model.pk), "dataset": str(person.dataset.pk), "kind": "repair", "effort": "quick",
            "metric": "corrupted-accuracy", "seed": "0", "severity": "3", "device": "cpu"}  # fmt: skip
    return person.browser.post(NEW, sent | changes)


def test_kinds_and_severity_reach_the_engine(world, tmp_path):
    owner = world.owner
    answer = post(owner, severity=5, corrupted_images=80)
    assert answer.status_code == 202, answer.json()
    assert answer.json()["request"] == {"metric": METRIC, "seed": 0, "severity": 5, "corrupted_images": 80}
    job = Job.objects.get(pk=answer.json()["id"])
    asked = repair_request(for_engine(job), tmp_path)
    assert (str(asked.metric), asked.severity, asked.corrupted_images) == (METRIC, 5, 80)
    command = _command(job, job.request)
    assert f"--metric {METRIC}" in command
    assert "--severity 5" in command
    assert "Accuracy under gaussian noise, contrast" in read(owner.browser.get(f"/repairs/{job.pk}/")).text


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"metric": "corrupted-accuracy:snow"}, "metric", "no corruption 'snow'"),
        ({"severity": 6}, "severity", "less than or equal to 5"),
        ({"severity": 5, "metric": "accuracy"}, "severity", "belongs to the metric corrupted-accuracy"),
        ({"epsilon": 0.1}, "epsilon", "belongs to attack-success"),
        ({"trigger_at": "center"}, "trigger_at", "belongs to trigger-success"),
        ({"goal": "gap"}, "goal", "subgroup"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(world, changes, field, says):
    jobs = Job.objects.count()
    answer = post(world.owner, **changes)
    assert answer.status_code == 400
    assert says in str(answer.json())
    assert field in str(answer.json())
    assert Job.objects.count() == jobs


def test_the_form_sends_what_is_ticked_and_shows_it_again(world):
    owner = world.owner
    before = Job.objects.count()
    answer = form(owner, corruptions=["gaussian_noise", "contrast"], severity="4")
    assert answer.status_code == 302, answer.content.decode()
    job = Job.objects.latest("created_at")
    assert Job.objects.count() == before + 1
    assert job.request["metric"] == METRIC
    assert job.request["severity"] == 4
    again = owner.browser.get(f"{NEW}?like={job.pk}").content.decode()
    for kind in ("gaussian_noise", "contrast"):
        assert f'value="{kind}" id' in again
    assert again.count("checked") >= 3
    assert "The corruptions, for accuracy under corruptions" in again


def test_of_another_metric_the_form_sends_no_severity(world):
    owner = world.owner
    owner.model.class_names = ["coat", "shirt"]
    owner.model.save()
    assert form(owner, metric="recall", class_name="shirt", severity="5").status_code == 302
    assert "severity" not in Job.objects.latest("created_at").request


def test_none_ticked_is_all_of_them(world):
    assert form(world.owner).status_code == 302
    assert Job.objects.latest("created_at").request["metric"] == "corrupted-accuracy"


def test_the_result_page_has_the_table_in_its_summary(world):
    rate = {"value": 0.5, "lower": 0.4, "upper": 0.6, "n": 40}
    change = {"value": 0.1, "lower": 0.05, "upper": 0.15, "level": 0.95}
    row = {"kind": "contrast", "severity": 5, "parameter": 0.15, "before": rate, "after": rate, "change": change}
    parts = {"score": 80, "select": 40, "report": 40}
    record = {"severity": 5, "seed": 0, "published": "CIFAR-10-C", "parameters": {"contrast": [0.15]},
              "jpeg": "libjpeg", "images": {name: {"contrast": n} for name, n in parts.items()},
              "sha256": {}}  # fmt: skip
    job = Job.objects.get(pk=post(world.owner, metric="corrupted-accuracy:contrast").json()["id"])
    succeed(job)
    document = report.document(Job.objects.get(pk=job.pk))
    document["metric"] = {
        "name": "corrupted-accuracy:contrast",
        "text": "accuracy",
        "goal": "raise",
        "corruption": record,
    }
    document["corruption"] = {"images": parts, "shown": 40, "rows": [row]}
    summary = {section.ident: section.body for section in report.parts(job, document)["summary"].sections}
    for said in ("contrast (contrast that is kept)", "40 report images", "+5.0 to +15.0"):
        assert said in summary["corruption"]
