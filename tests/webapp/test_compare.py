"""Two finished runs side by side: the engine's figures at one address, for people and by the API."""

from __future__ import annotations

import json

import numpy as np
import pytest

from repair_engine.documents.compare import compare
from repair_engine.settings import Repair, Score
from tests.webapp.helpers import blob_of
from tests.webapp.pages.helpers import filters_csv, read
from webapp.jobs import services
from webapp.jobs.models import Artifact, Job

pytestmark = pytest.mark.usefixtures("quick_module")

API, PAGE = "/api/v1/compare/", "/compare/"
IDS = [f"features.{i // 8}:{i % 8}" for i in range(40)]


def document(seed: int, ids: list[str] = IDS) -> dict:
    """What `score` writes, as far as it is compared; values of one truth with noise of the seed."""
    truth = np.random.default_rng(0).normal(0, 0.02, len(ids))
    values = truth + np.random.default_rng(seed).normal(0, 0.005, len(ids))
    return {
        "verb": "score",
        "metric": {"name": "accuracy", "text": "accuracy", "goal": "raise"},
        "model": {"file": "net.pth", "sha256": "a" * 64, "architecture": "resnet18"},
        "data": {"file": "images.zip", "sha256": "b" * 64},
        "run": {"estimator": "cmcs", "ablation": "activation_mean", "evaluations": 9000, "seed": seed},
        "filters": [
            {"id": name, "value": float(v), "std_error": 0.005, "best": None}
            for name, v in zip(ids, values, strict=True)
        ],
    }  # fmt: skip


def valued(person, seed: int, ids: list[str] = IDS) -> tuple[Job, bytes]:
    """A finished run of the kind score."""
    asked = Score(metric="accuracy", seed=seed)
    job, _ = services.create_job(
        owner=person.user, model=person.model, dataset=person.dataset, asked=asked, name=f"Seed {seed}"
    )
    Job.objects.filter(pk=job.pk).update(state="succeeded", outcome="scored")
    content = json.dumps(document(seed, ids)).encode()
    Artifact.objects.create(job=job, name="score.json", media_type="application/json", blob=blob_of(content))
    return job, content


@pytest.fixture
def two(world, tmp_path):
    """The query of two runs, and the engine's document about their files."""
    (a, first), (b, second) = valued(world.owner, 1), valued(world.owner, 2)
    for name, content in (("a.json", first), ("b.json", second)):
        (tmp_path / name).write_bytes(content)
    plain = compare(str(tmp_path / "a.json"), str(tmp_path / "b.json"), ("Seed 1", "Seed 2"))
    return {"a": str(a.pk), "b": str(b.pk)}, plain


def test_the_api_gives_the_engines_document(world, two):
    query, plain = two
    answer = world.owner.api.get(API, query)
    assert answer.status_code == 200, answer.json()
    assert answer.json() == json.loads(json.dumps(plain))
    assert answer.json()["agreement"]["n"] == 40
    assert answer.json()["results"][0]["path"] == "Seed 1"


def test_the_page_has_the_same_figures_at_a_stable_address(world, two):
    query, plain = two
    page = read(world.owner.browser.get(PAGE, query))
    assert f"Spearman {plain['agreement']['spearman']:.3f} over the 40 filters" in page.text
    rows = page.tables["Filters among the k first of both rankings"]
    assert [int(row[2]) for row in rows[1:]] == [row["shared"] for row in plain["overlaps"]]
    assert "What differs: seed." in page.text
    assert len([a for a in page.all("svg") if a.get("role") == "img"]) >= 4
    chosen = [a["value"] for a in page.all("option") if "selected" in a]
    assert chosen == [query["a"], query["b"]]
    assert "blobs" not in page.text, "runs are called by their names"


def test_two_are_chosen_from_the_finished_ones(world, two):
    valued(world.team_mate, 3)
    query, _ = two
    page = read(world.owner.browser.get(PAGE, {"a": query["a"]}))
    offered = [a["value"] for a in page.all("option")]
    assert sorted(offered) == sorted(["", query["a"], query["b"]] * 2)
    assert "Agreement" not in page.text
    Job.objects.filter(owner=world.team_mate.user, state="succeeded").delete()
    assert "There is none yet" in read(world.team_mate.browser.get(PAGE)).text
    assert "Compare two runs" in read(world.owner.browser.get("/repairs/")).text


def test_only_runs_that_can_be_compared_are_listed(world, two):
    query, _ = two
    other, _ = valued(world.owner, 4, [*IDS[:-1], "head:0"])
    old = repaired(world.owner, 5, errors=False)

    def offered(**asked: str) -> set[str]:
        return {a["value"] for a in read(world.owner.browser.get(PAGE, asked)).all("option")} - {""}

    assert offered() == {query["a"], query["b"]}, "the third has other filters, and nobody has the same"
    twin, _ = valued(world.owner, 6, [*IDS[:-1], "head:0"])
    assert offered() == {query["a"], query["b"], str(other.pk), str(twin.pk)}
    page = read(world.owner.browser.get(PAGE, {"a": str(other.pk)}))
    values = [a["value"] for a in page.all("option")]
    second = values[values.index("", 1) + 1 :]
    assert set(second) == {str(other.pk), str(twin.pk)}
    assert str(old.pk) not in offered(a=query["a"])


def test_networks_with_other_filters_are_refused_by_name(world, two):
    query, _ = two
    other, _ = valued(world.owner, 4, [*IDS[:-1], "head:0"])
    answer = world.owner.api.get(API, query | {"b": str(other.pk)})
    assert answer.status_code == 422
    assert answer["Content-Type"] == "application/problem+json"
    assert "only Seed 1 has features.4:7" in answer.json()["detail"]
    assert "only Seed 4 has head:0" in answer.json()["detail"]
    page = read(world.owner.browser.get(PAGE, query | {"b": str(other.pk)}), 422)
    assert "networks with different filters" in page.text


def repaired(person, seed: int, *, errors: bool = True, **request) -> Job:
    """A finished repair with the same values as `valued`; `errors` False: as an earlier version left it."""
    asked = Repair(metric="accuracy", seed=seed, **request)
    job, _ = services.create_job(
        owner=person.user, model=person.model, dataset=person.dataset, asked=asked, name=f"Repair {seed}"
    )
    Job.objects.filter(pk=job.pk).update(state="succeeded", outcome="repaired")
    report = document(seed) | {"verb": "repair", "by_hand": bool(request.get("filters"))}
    known = [(row["id"], row["value"], row["std_error"]) for row in report.pop("filters")]
    table = filters_csv([{"filter": n, "value": v, "std_error": e, "constant": 0} for n, v, e in known])
    if not errors:
        table = table.replace(b",std_error", b",something_else")
    files = {"report.json": json.dumps(report).encode(), "filters.csv": table}
    for name, content in files.items():
        Artifact.objects.create(job=job, name=name, media_type="text/plain", blob=blob_of(content))
    return job


def test_repairs_are_compared_with_each_other_and_with_values(world, two):
    query, plain = two
    first, second = repaired(world.owner, 1), repaired(world.owner, 2)
    both = world.owner.api.get(API, {"a": str(first.pk), "b": str(second.pk)})
    assert both.status_code == 200, both.json()
    assert both.json()["agreement"] == json.loads(json.dumps(plain["agreement"])), (
        "their values are those of the two runs of kind score"
    )
    mixed = read(world.owner.browser.get(PAGE, {"a": str(first.pk), "b": query["b"]}))
    assert f"Spearman {plain['agreement']['spearman']:.3f} over the 40 filters" in mixed.text
    assert "Neither result has such removal curves" in mixed.text
    offered = {a["value"] for a in mixed.all("option")}
    assert {str(first.pk), str(second.pk)} <= offered


def test_repairs_without_errors_open_and_say_why_they_cannot_be_compared(world, two):
    query, _ = two
    old = repaired(world.owner, 3, errors=False)
    answer = world.owner.api.get(API, query | {"b": str(old.pk)})
    assert answer.status_code == 422
    assert "Repair 3 was repaired by an earlier version, which kept no standard errors" in answer.json()["detail"]
    assert "same seed and budget" in answer.json()["mend"]
    assert "earlier version" in read(world.owner.browser.get(PAGE, query | {"b": str(old.pk)}), 422).text
    assert world.owner.browser.get(f"/repairs/{old.pk}/").status_code == 200
    assert world.owner.browser.get(f"/repairs/{old.pk}/filters/").status_code == 200


def test_what_cannot_be_compared(world, two):
    query, _ = two
    running = world.owner.api.get(API, query | {"b": str(world.owner.job.pk)})
    assert running.status_code == 409
    assert "has not finished" in running.json()["detail"]
    by_hand = repaired(world.owner, 4, filters=("features.0:1",))
    refused = world.owner.api.get(API, query | {"b": str(by_hand.pk)})
    assert refused.status_code == 422
    assert "chosen by hand" in refused.json()["detail"]
    assert str(by_hand.pk) not in {a["value"] for a in read(world.owner.browser.get(PAGE, query)).all("option")}
    Job.objects.filter(pk=world.owner.job.pk).update(state="succeeded", outcome="attacked")
    attack = world.owner.api.get(API, query | {"b": str(world.owner.job.pk)})
    assert attack.status_code == 422
    assert "valued no filters" in attack.json()["detail"]
    assert world.owner.browser.get(PAGE, query | {"b": str(world.owner.job.pk)}).status_code == 422


def test_bad_ids(world, two):
    query, _ = two
    theirs, _ = valued(world.team_mate, 5)
    for wrong in (str(theirs.pk), "nonsense", "0" * 32):
        code = 400 if wrong == "nonsense" else 404
        assert world.owner.api.get(API, query | {"b": wrong}).status_code == code
        assert world.owner.browser.get(PAGE, query | {"b": wrong}).status_code == 404
    answer = world.owner.api.get(API, {"a": query["a"]})
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == ["b"]
    assert world.stranger.get(API, query).status_code == 401
