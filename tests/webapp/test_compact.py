"""The compact export of a repair: asked for by API and form, shown with its own figures, never called equal."""

from __future__ import annotations

import pytest

from repair_engine.settings import Repair
from tests.webapp.helpers import blob_of
from tests.webapp.pages.helpers import read, succeed
from webapp.jobs.models import Artifact, Job
from webapp.jobs.requests import for_engine, to_row
from webapp.jobs.translation import repair_request
from webapp.pages.snippets import _command

REPAIRS = "/api/v1/repairs/"


def post(person, **changes: object):
    asked = {"model": str(person.model.pk), "dataset": str(person.dataset.pk), "metric": "accuracy", **changes}
    return person.api.post(REPAIRS, asked, format="json")


def test_the_engine_is_told(world):
    owner = world.owner
    for compact in (True, False):
        job = Job.objects.get(pk=post(owner, compact=compact).json()["id"])
        assert job.request.get("compact", False) is compact
        assert repair_request(for_engine(job), owner.model.blob.path.parent).compact is compact
        assert ("--compact" in _command(job, job.request)) is compact
    assert to_row(Repair(compact=False)) == to_row(Repair()), "said or not said, it is the same request"


def test_it_belongs_to_repairs(world):
    answer = post(world.owner, kind="explain", compact=True)
    assert [error["field"] for error in answer.json()["errors"]] == ["compact"]
    assert post(world.owner, kind="explain", compact=False).status_code == 202


def test_the_form_has_a_box_for_it(world):
    owner = world.owner
    sent = {"model": owner.model.pk, "dataset": owner.dataset.pk, "metric": "accuracy", "compact": "on"}
    assert owner.browser.post("/repairs/new/", sent).status_code == 302
    job = Job.objects.first()
    assert job.request["compact"] is True
    again = read(owner.browser.get(f"/repairs/new/?like={job.pk}"))
    assert [a for a in again.all("input") if a.get("name") == "compact" and "checked" in a]
    owner.browser.post("/repairs/new/", sent | {"kind": "explain"})
    assert "compact" not in Job.objects.first().request


@pytest.mark.parametrize("written", [True, False])
def test_the_page_shows_its_own_figures_and_its_files(world, written):
    owner = world.owner
    succeed(owner.job)
    found = {"written": written, "kept": [{"id": "stem:0", "reason": "it goes into a sum (a residual connection)"}]}
    if written:
        found |= {
            "removed": ["a:1", "b:2"],
            "parameters": {"before": 1000, "after": 900},
            "report": {"metric": 0.731, "accuracy": 0.812},
            "gain": {"value": 0.05, "lower": 0.01, "upper": 0.09},
            "against_repaired": {"different_predictions": 3, "images": 90, "largest_logit_difference": 0.25},
            "note": "Not equal to the repaired checkpoint.",
        }
        for name in ("repaired_compact.safetensors", "repaired_compact.json"):
            Artifact.objects.create(job=owner.job, name=name, media_type="x/y", blob=blob_of(name.encode()))
    owner.job.result = {**owner.job.result, "compact": found}
    owner.job.save()
    page = read(owner.browser.get(f"/repairs/{owner.job.pk}/"))
    assert "Compact export" in page.text
    assert "it goes into a sum" in page.text
    for said in ("73.1%", "3 of 90 images predicted differently", "Not equal to the repaired checkpoint"):
        assert (said in page.text) == written
    assert page.text.count("not equal to the repaired checkpoint, measured by itself") == written
    assert "same architecture, same keys" in page.text, "that is said of repaired.safetensors alone"
    assert page.text.count("same architecture, same keys") == 1
