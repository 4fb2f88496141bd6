"""Jobs of the kind explain: asked for by API and form, run by the same workers, shown on their page."""

from __future__ import annotations

import json
import re

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from repair_engine.errors import BadInput
from tests.repair_engine import tiny
from tests.repair_engine.cli.test_cli_onnx import argv, model_of
from tests.webapp.pages.helpers import read
from webapp.devserver.samples import client
from webapp.jobs.models import Job
from webapp.jobs.requests import asked, for_engine
from webapp.jobs.translation import repair_request

pytestmark = pytest.mark.usefixtures("quick_module")

MODELS, DATASETS, REPAIRS = "/api/v1/models/", "/api/v1/datasets/", "/api/v1/repairs/"


def body(person, **changes) -> dict:
    return {"model": str(person.model.pk), "dataset": str(person.dataset.pk), "metric": "accuracy", **changes}


def test_the_api_takes_the_kind_and_the_engine_is_told(world):
    answer = world.owner.api.post(REPAIRS, body(world.owner, kind="explain", top_k=7), format="json")
    assert answer.status_code == 202, answer.json()
    assert answer.json()["request"]["kind"] == "explain"
    job = Job.objects.get(pk=answer.json()["id"])
    asked = repair_request(for_engine(job), world.owner.model.blob.path.parent)
    assert asked.explain is not None
    assert (asked.side, asked.top_k, asked.limits.max_filters) == ("both", 7, 7)
    page = read(world.owner.browser.get(f"/repairs/{job.pk}/"))
    assert "Cancel the explanation" in page.text
    assert "measure removal curves" in world.owner.browser.get(f"/repairs/{job.pk}/").content.decode()
    written = re.findall(r"<pre>(.*?)</pre>", page_of(world, job), re.S)
    command = next(text for text in written if "neuron-repair explain" in text)
    assert "--kind" not in command


def page_of(world, job: Job) -> str:
    return world.owner.browser.get(f"/repairs/{job.pk}/").content.decode()


def test_a_repair_is_the_same_request_whether_said_or_not(world):
    head = {"HTTP_IDEMPOTENCY_KEY": "same"}
    first = world.owner.api.post(REPAIRS, body(world.owner), format="json", **head)
    again = world.owner.api.post(REPAIRS, body(world.owner, kind="repair"), format="json", **head)
    assert (first.status_code, again.status_code) == (202, 200)
    assert "kind" not in first.json()["request"]
    other = world.owner.api.post(REPAIRS, body(world.owner, kind="explain"), format="json", **head)
    assert other.status_code == 422


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"kind": "wish"}, "kind"),
        ({"kind": "explain", "max_filters": 3}, "max_filters"),
        ({"kind": "explain", "max_clean_drop": 0.1}, "max_clean_drop"),
        ({"kind": "explain", "metric": "attack-success", "queries": 9}, "queries"),
    ],
)
def test_what_an_explanation_does_not_take(world, changes, field):
    answer = world.owner.api.post(REPAIRS, body(world.owner, **changes), format="json")
    assert answer.status_code == 400
    assert field in [error["field"] for error in answer.json()["errors"]]
    with pytest.raises(BadInput):
        asked({"metric": "accuracy", **changes})


def test_the_form_starts_one_without_the_limits_of_repairs(world):
    url = f"/repairs/new/?model={world.owner.model.pk}&dataset={world.owner.dataset.pk}"
    page = read(world.owner.browser.get(url))
    assert "Explain only" in page.text
    kinds = {a["value"]: "checked" in a for a in page.all("input") if a.get("name") == "kind"}
    assert kinds == {"repair": True, "explain": False, "score": False}
    sent = {"model": world.owner.model.pk, "dataset": world.owner.dataset.pk, "metric": "accuracy", "kind": "explain",
            "max_clean_drop": 2, "max_subgroup_drop": 10, "max_filters": 50, "seed": 0}  # fmt: skip
    answer = world.owner.browser.post("/repairs/new/", sent)
    assert answer.status_code == 302, answer.content.decode()[-2000:]
    job = Job.objects.first()
    assert job.request == {"kind": "explain", "metric": "accuracy", "seed": 0}
    again = read(world.owner.browser.get(f"/repairs/new/?like={job.pk}"))
    assert {a["value"]: "checked" in a for a in again.all("input") if a.get("name") == "kind"}["explain"]


def test_the_client_asks_for_one():
    argv = ["explain", "--model", "m.onnx", "--data", "d.zip", "--metric", "accuracy"]
    assert client().parser().parse_args(argv).command == "explain"
    ended = {"state": "succeeded", "outcome": "explained", "error": "", "mend": "", "fault": ""}
    assert client().verdict(ended, []) == (0, "Explained.")


@pytest.mark.slow
def test_through_the_real_engine_it_is_what_the_command_line_gives(world, settings, tmp_path):
    """In this process, on exact values: same curves, same filters; the page shows them."""
    garden = tiny.make_sabotaged(tmp_path / "garden", tiny.images(96, seed=1))
    graph = model_of(garden, tmp_path)
    settings.ENGINE = "webapp.jobs.engine:RepairEngine"
    model = world.owner.api.post(
        MODELS, {"file": SimpleUploadedFile("m.onnx", graph.read_bytes())}, format="multipart"
    ).json()
    data = world.owner.api.post(
        DATASETS, {"file": SimpleUploadedFile("data.zip", garden.data.read_bytes())}, format="multipart"
    ).json()
    world.bells.answer(only="validate")
    Job.objects.all().delete()
    world.bells.rung.clear()
    asked = {"kind": "explain", "metric": "recall:bee", "estimator": "exact", "top_k": 3, "seed": 0}
    made = world.owner.api.post(REPAIRS, {"model": model["id"], "dataset": data["id"], **asked}, format="json").json()
    world.bells.answer()
    found = world.owner.api.get(f"{REPAIRS}{made['id']}/").json()
    assert (found["state"], found["outcome"]) == ("succeeded", "explained"), found
    results = {row["name"]: row["url"] for row in found["results"]}
    assert set(results) == {"explain.html", "explain.json", "filters.csv", "curves.csv"}
    document = json.loads(b"".join(world.owner.api.get(results["explain.json"]).streaming_content))
    options = {"metric": "recall:bee", "estimator": "exact", "top_k": "3", "out": str(tmp_path / "out")}
    plain = tiny.call(argv(garden, "explain", graph, "--json", **options)).document
    for key in ("filters", "curves", "layers", "histogram", "pictures"):
        assert document[key] == plain[key], key
    assert found["result"]["curves"] == document["curves"]
    assert {row["rank"] for row in found["result"]["filters"]} == {1, 2, 3, 7, 8, 9}
    page = read(world.owner.browser.get(f"/repairs/{made['id']}/"))
    for heading in ("What recall of bee is made of", "Removal curves", "Where they are", "All values"):
        assert heading in page.text
    assert "No repair found" not in page.text
    assert "explained" in page.text
    read(world.owner.browser.get(f"/repairs/{made['id']}/filters/"))
    shown = world.owner.browser.get(f"/repairs/{made['id']}/files/explain.html?inline=1")
    assert shown.status_code == 200
    assert "img-src data:" in shown["Content-Security-Policy"]
