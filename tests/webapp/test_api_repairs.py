"""/api/v1/repairs/: start, list, look, delete."""

from __future__ import annotations

import pytest

from repair_engine.question.attacks import AttackSettings
from webapp.jobs.models import Job
from webapp.jobs.requests import for_engine
from webapp.jobs.translation import repair_request
from webapp.library.models import ModelUpload

URL = "/api/v1/repairs/"


def body(person, **changes) -> dict:
    return {
        "model": str(person.model.pk),
        "dataset": str(person.dataset.pk),
        "metric": "subgroup-recall:breed",
        "seed": 3,
        **changes,
    }


def test_start_answers_202_with_where_to_look(world):
    answer = world.owner.api.post(URL, body(world.owner, name="Nightly", budget=5000, max_clean_drop=0.03))
    assert answer.status_code == 202
    made = answer.json()
    assert answer["Location"] == made["url"]
    assert answer["Location"].endswith(f"{URL}{made['id']}/")
    assert made["state"] == "starting"
    assert made["outcome"] == ""
    assert made["request"] == {"metric": "subgroup-recall:breed", "seed": 3, "budget": 5000, "max_clean_drop": 0.03}
    assert made["device"] == "cpu"
    assert world.owner.api.get(answer["Location"]).json()["id"] == made["id"]


def test_the_goal_reaches_the_engine(world, tmp_path):
    answer = world.owner.api.post(URL, body(world.owner, goal="equalized-odds"))
    assert answer.status_code == 202
    assert answer.json()["request"]["goal"] == "equalized-odds"
    asked = repair_request(for_engine(Job.objects.get(pk=answer.json()["id"])), tmp_path)
    assert asked.limits.goal == "equalized-odds"


def test_the_same_key_starts_it_once(world):
    api, head = world.owner.api, {"HTTP_IDEMPOTENCY_KEY": "build-17"}
    first = api.post(URL, body(world.owner), **head)
    again = api.post(URL, body(world.owner), **head)
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["id"] == again.json()["id"]
    other = api.post(URL, body(world.owner, seed=4), **head)
    assert other.status_code == 422
    assert "build-17" in other.json()["detail"]
    mate = world.team_mate.api.post(URL, body(world.team_mate), **head)
    assert mate.status_code == 202  # the key is the user's own
    assert Job.objects.filter(idempotency_key="build-17").count() == 2


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"metric": "beauty"}, "metric"),
        ({"metric": "recall"}, "metric"),
        ({"metric": "accuracy:cat"}, "metric"),
        ({"model": "nonsense"}, "model"),
        ({"estimator": "guess"}, "estimator"),
        ({"max_clean_drop": 1.5}, "max_clean_drop"),
        ({"budget": 0}, "budget"),
        ({"seed": -1}, "seed"),
        ({"constant": "zero"}, "constant"),
        ({"order": "best"}, "order"),
        ({"goal": "odds"}, "goal"),
        ({"goal": "equalized-odds", "metric": "recall:cat"}, "goal"),
        ({"kind": "explain", "order": "value"}, "order"),
        ({"device": "abacus"}, "device"),
        ({"metric": "attack-success", "epsilon": 8.0}, "epsilon"),
        ({"metric": "attack-success", "epsilon": 0}, "epsilon"),
        ({"metric": "attack-success", "norm": "l2"}, "epsilon"),
        ({"metric": "attack-success", "norm": "l1"}, "norm"),
        ({"metric": "attack-success", "restarts": 2}, "restarts"),
        ({"metric": "attack-success", "targeted": "perhaps"}, "targeted"),
        ({"colour": "red"}, "colour"),
        ({"webhook": {"url": "ftp://example.org"}}, "webhook.url"),
    ],
)
def test_bad_input_names_the_field(world, changes, field):
    answer = world.owner.api.post(URL, body(world.owner, **changes))
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    assert field in [error["field"] for error in answer.json()["errors"]]
    assert Job.objects.count() == 2


def test_the_order_and_the_constant_reach_the_engine(world, tmp_path):
    made = world.owner.api.post(URL, body(world.owner, order="value", constant="bn_beta")).json()
    assert (made["request"]["order"], made["request"]["constant"]) == ("value", "bn_beta")
    engine = repair_request(for_engine(Job.objects.get(pk=made["id"])), tmp_path)
    assert (engine.limits.order, engine.constant) == ("value", "bn_beta")


def test_an_adversary_of_ones_own_reaches_the_engine(world, tmp_path):
    """What the API takes and the command line's options are the same attack."""
    own = {
        "metric": "attack-success", "attack": "standard", "norm": "l2", "epsilon": 0.5, "steps": 7, "step_size": 0.2,
        "restarts": 2, "targeted": True, "queries": 50, "subset": 9,
    }  # fmt: skip
    answer = world.owner.api.post(URL, body(world.owner, **own))
    assert answer.status_code == 202, answer.json()
    job = Job.objects.get(pk=answer.json()["id"])
    assert "random_start" not in job.request
    request = repair_request(for_engine(job), tmp_path)
    expected = AttackSettings.of("standard", 0.5, 7, norm="l2", step=0.2, restarts=2, targeted=True)
    assert request.attack == expected
    assert (request.queries, request.subset) == (50, 9)


@pytest.mark.parametrize("role", ["model", "dataset", "guard"])
def test_another_users_upload_does_not_exist(world, role):
    theirs = {"model": world.team_mate.model, "dataset": world.team_mate.dataset, "guard": world.team_mate.dataset}
    answer = world.owner.api.post(URL, body(world.owner, **{role: str(theirs[role].pk)}))
    assert answer.status_code == 404


def test_an_upload_that_is_not_ready_cannot_be_used(world):
    rows = ModelUpload.objects.filter(pk=world.owner.model.pk)
    rows.update(state="validating")
    assert world.owner.api.post(URL, body(world.owner)).status_code == 409
    rows.update(state="rejected", error="It is no model.")
    answer = world.owner.api.post(URL, body(world.owner))
    assert answer.status_code == 409
    assert "It is no model." in answer.json()["detail"]


def test_lists_only_ones_own_in_pages(world):
    for seed in range(5):
        world.owner.api.post(URL, body(world.owner, seed=seed))
    page = world.owner.api.get(URL, {"page_size": 4}).json()
    assert (page["count"], len(page["results"])) == (6, 4)
    rest = world.owner.api.get(page["next"]).json()
    ids = [row["id"] for row in page["results"] + rest["results"]]
    assert len(set(ids)) == 6
    assert str(world.team_mate.job.pk) not in ids
    assert world.owner.api.get(URL, {"state": "succeeded"}).json()["count"] == 0
    assert world.owner.api.get(URL, {"state": "glad"}).status_code == 400


def test_shows_progress_and_then_the_result(world):
    url = f"{URL}{world.owner.job.pk}/"
    world.bells.answer(most=3)
    now = world.owner.api.get(url).json()
    assert now["state"] == "processing"
    assert now["progress"]["phase"] == "search"
    assert now["progress"]["evaluations_total"] == 1200
    assert now["summary"]["filters"] == 6
    world.bells.answer()
    now = world.owner.api.get(url).json()
    assert (now["state"], now["outcome"], now["progress"]["percent"]) == ("succeeded", "repaired", 100.0)
    assert {item["name"] for item in now["results"]} >= {"report.json", "repaired.safetensors"}


def test_percent_never_falls(world):
    url, seen = f"{URL}{world.owner.job.pk}/", []
    while world.bells.rung:
        seen.append(world.owner.api.get(url).json()["progress"]["percent"])
        world.bells.answer(most=1)
    assert seen == sorted(seen)
    assert len(set(seen)) > 5


def test_events_after_an_id(world):
    url = f"{URL}{world.owner.job.pk}/events/"
    world.bells.answer()
    live = world.owner.api.get(url).json()
    kinds = [event["kind"] for event in live["events"]]
    assert kinds == ["starting", "processing", "phase", "phase", "phase", "succeeded"]
    assert [point["evaluations"] for point in live["series"]] == [0, 400, 800, 1200, 0, 400]
    assert live["leaders"][0].keys() >= {"id", "value"}
    later = world.owner.api.get(url, {"after": live["events"][3]["id"]}).json()
    assert [event["kind"] for event in later["events"]] == kinds[4:]
    assert world.owner.api.get(url, {"after": "now"}).status_code == 400


def test_delete_only_after_the_end_and_then_the_inputs_can_go(world):
    api, url = world.owner.api, f"{URL}{world.owner.job.pk}/"
    model = f"/api/v1/models/{world.owner.model.pk}/"
    assert api.delete(url).status_code == 409
    refused = api.delete(model)
    assert refused.status_code == 409
    assert "Delete those repairs first" in refused.json()["mend"]
    world.bells.answer()
    files = [artifact.blob.path for artifact in world.owner.job.artifacts.all()]
    mates = {artifact.blob.path for artifact in world.team_mate.job.artifacts.all()}
    assert api.delete(url).status_code == 204
    assert all(path.exists() == (path in mates) for path in files)  # shared with nobody else's result
    assert api.get(url).status_code == 404
    path = world.owner.model.blob.path
    assert api.delete(model).status_code == 204
    assert not path.exists()


@pytest.mark.parametrize(
    ("argument", "problem"),
    [("ground,breed", "no column 'breed'"), ("ground,ground", "'ground' twice"), ("ground,same", "one value only")],
)
def test_columns_that_the_dataset_does_not_have_start_nothing(world, argument, problem):
    columns = {"ground": {"dark": 6, "light": 3}, "same": {"x": 9}}
    world.owner.dataset.facts = {"columns": columns, "distinct": {"ground": 2, "same": 1}}
    world.owner.dataset.save()
    before = Job.objects.count()
    answer = world.owner.api.post(URL, body(world.owner, metric=f"subgroup-recall:{argument}"))
    assert answer.status_code == 400
    assert problem in answer.json()["detail"]
    assert Job.objects.count() == before


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"model":' * 50_000])
def test_json_that_is_nested_too_deeply(world, body):
    answer = world.owner.api.post("/api/v1/repairs/", body, content_type="application/json")
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    assert "nested too deeply" in answer.json()["detail"]


@pytest.mark.parametrize("key", ["a\x00b", "schlüssel", "\ud800"])
def test_an_idempotency_key_that_a_database_may_refuse(world, key):
    owner = world.owner
    body = {"model": str(owner.model.pk), "dataset": str(owner.dataset.pk), "metric": "accuracy"}
    answer = owner.api.post("/api/v1/repairs/", body, format="json", HTTP_IDEMPOTENCY_KEY=key)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "Idempotency-Key"
