"""How many runs of one person are at work, and how many may wait."""

from __future__ import annotations

import pytest

from tests.webapp.fairness.helpers import ended, jobs_of, served, start, take
from webapp.jobs import coordinator, fair, live, queueing
from webapp.jobs.models import Allowance, Event, Job, Shard


@pytest.fixture(autouse=True)
def two_at_once(settings):
    settings.USER_RUNNING, settings.USER_QUEUED, settings.USER_WORKERS = 2, 10, 0


def test_further_runs_wait_and_begin_when_one_ends(people):
    runs = [start(people.owner, shards=2, name=name) for name in ("first", "second", "third")]
    taken = [take() for _ in range(4)]
    assert jobs_of(taken) == ["first", "first", "second", "second"]
    assert take() is None, "the third waits, though workers are free"
    people.bells.rung.clear()
    coordinator.end(runs[0], Job.State.CANCELED)
    assert "run_shard" in people.bells.names(), "somebody is told"
    assert jobs_of([take()]) == ["third"]


def test_it_does_not_hold_up_others(people):
    for _ in range(4):
        start(people.owner, shards=1)
    start(people.team_mate, shards=1)
    assert sorted(served(10)) == ["mate", "owner", "owner"], "runs whose round is over still count"


def test_a_higher_priority_begins_first_when_there_is_room(people):
    for name in ("a", "b", "c"):
        start(people.owner, shards=1, name=name)
    start(people.owner, shards=1, name="d", priority=Job.Priority.HIGH)
    assert jobs_of([take(), take()]) == ["d", "a"]
    assert take() is None


def test_page_api_and_events_say_what_it_waits_for(people):
    for _ in range(2):
        start(people.owner, shards=1)
        take()
    job = start(people.owner)
    assert live.progress(job).behind == 2
    found = people.owner.api.get(f"/api/v1/repairs/{job.pk}/").json()["progress"]
    assert (found["behind"], found["queue_position"]) == (2, 1)
    page = people.owner.browser.get(f"/repairs/{job.pk}/").content.decode()
    assert "Queued behind your own 2 running runs" in page
    assert Event.objects.get(job=job, kind="waits").data == {"behind": 2}
    assert "behind 2 running" in people.owner.browser.get("/repairs/").content.decode()
    coordinator.end(Job.objects.exclude(pk=job.pk).first(), Job.State.CANCELED)
    assert live.progress(Job.objects.get(pk=job.pk)).behind == 0


def test_more_than_may_wait_are_refused_with_what_to_do(people, settings):
    settings.USER_QUEUED = 3
    for _ in range(3):
        start(people.owner)
    body = {"model": str(people.owner.model.pk), "dataset": str(people.owner.dataset.pk), "metric": "accuracy"}
    answer = people.owner.api.post("/api/v1/repairs/", body)
    assert (answer.status_code, answer["Content-Type"]) == (409, "application/problem+json")
    assert "3 of your runs wait already" in answer.json()["detail"]
    assert "cancel one" in answer.json()["mend"]
    form = {"model": body["model"], "dataset": body["dataset"], "metric": "accuracy", "effort": "quick"}
    page = people.owner.browser.post("/repairs/new/", form)
    assert page.status_code == 422
    assert "3 of your runs wait already" in page.content.decode()
    assert Job.objects.count() == 3
    mates = {"model": str(people.team_mate.model.pk), "dataset": str(people.team_mate.dataset.pk), "metric": "accuracy"}
    assert people.team_mate.api.post("/api/v1/repairs/", mates).status_code == 202, "others may"


def test_a_key_that_was_used_finds_its_run_though_no_more_may_wait(people, settings):
    settings.USER_QUEUED = 3
    body = {"model": str(people.owner.model.pk), "dataset": str(people.owner.dataset.pk), "metric": "accuracy"}
    made = [people.owner.api.post("/api/v1/repairs/", body, headers={"Idempotency-Key": f"k{i}"}) for i in range(3)]
    again = people.owner.api.post("/api/v1/repairs/", body, headers={"Idempotency-Key": "k0"})
    assert (again.status_code, again.json()["id"]) == (200, made[0].json()["id"])


def test_staff_set_other_limits_for_one_person(people):
    staff = people.team_mate
    assert staff.browser.get(f"/operator/people/{people.owner.user.pk}/").status_code == 404
    type(staff.user).objects.filter(pk=staff.user.pk).update(is_staff=True)
    url = f"/operator/people/{people.owner.user.pk}/"
    assert staff.browser.post(url, {"weight": "0", "running": "1"}).status_code == 422
    assert staff.browser.post(url, {"weight": "3", "running": "1", "queued": "0"}).status_code == 302
    own = Allowance.objects.get(user=people.owner.user)
    assert (own.weight, own.running, own.queued, own.workers) == (3.0, 1, 0, None)
    assert fair.limits_of(people.owner.user) == fair.Limits(running=1, queued=0, workers=0)
    for _ in range(5):
        start(people.owner, shards=2)
    assert len([lease for lease in (take() for _ in range(5)) if lease]) == 2, "of one run"
    assert "1 of 1" in staff.browser.get("/operator/").content.decode()
    assert 'value="3' in staff.browser.get(url).content.decode()


def test_at_most_so_many_workers_at_once(people, settings):
    settings.USER_WORKERS = 3
    start(people.owner, shards=10)
    taken = [take() for _ in range(5)]
    assert [bool(lease) for lease in taken] == [True] * 3 + [False] * 2
    start(people.owner, shards=1, device="cuda")
    assert take("gpu") is not None, "of each kind"
    ended(taken[0])
    assert take() is not None
    assert Shard.objects.filter(state=Shard.State.LEASED, job__device="cpu").count() == 3


def test_resting_behind_ones_own_runs_is_no_alarm(people):
    from webapp.pages import operation

    for _ in range(4):
        start(people.owner, shards=1)
    take(), take()
    queue = next(one for one in operation.queues([]) if one.name == "cpu")
    assert queue.waiting == 0, "no worker is missing"


def test_who_may_change_a_priority_and_to_what(people):
    job = start(people.owner)
    url = f"/api/v1/repairs/{job.pk}/"
    assert people.owner.api.patch(url, {"priority": "low"}).json()["priority"] == "low"
    assert people.owner.api.patch(url, {"priority": "urgent"}).status_code == 403
    assert people.owner.api.patch(url, {"priority": "highest"}).status_code == 400
    assert people.team_mate.api.patch(url, {"priority": "low"}).status_code == 404
    assert people.owner.browser.post(f"/repairs/{job.pk}/priority/", {"priority": "high"}).status_code == 302
    assert people.owner.api.get(url).json()["priority"] == "high"
    page = people.owner.browser.get(f"/repairs/{job.pk}/").content.decode()
    assert "<option selected>high</option>" in page
    assert "urgent" not in page
    staff = people.team_mate
    type(staff.user).objects.filter(pk=staff.user.pk).update(is_staff=True)
    assert staff.browser.post(f"/operator/priority/{job.pk}/", {"priority": "urgent"}).status_code == 302
    assert people.owner.api.get(url).json()["priority"] == "urgent"
    assert people.owner.api.patch(url, {"priority": "low"}).status_code == 403, "what staff gave, staff take away"
    kinds = [(event.kind, event.data.get("priority")) for event in job.events.filter(kind="priority")]
    assert kinds == [("priority", "low"), ("priority", "high"), ("priority", "urgent")]
    coordinator.end(job, Job.State.CANCELED)
    assert staff.browser.post(f"/operator/priority/{job.pk}/", {"priority": "low"}).status_code == 302
    assert people.owner.api.patch(url, {"priority": "low"}).status_code in (403, 409)


@pytest.mark.parametrize("way", ["api", "form"])
def test_a_priority_at_the_start(people, way):
    things = {"model": str(people.owner.model.pk), "dataset": str(people.owner.dataset.pk), "metric": "accuracy"}
    if way == "api":
        assert people.owner.api.post("/api/v1/repairs/", things | {"priority": "low"}).json()["priority"] == "low"
        assert people.owner.api.post("/api/v1/repairs/", things | {"priority": "urgent"}).status_code == 403
        return
    answer = people.owner.browser.post("/repairs/new/", things | {"priority": "low", "effort": "quick"})
    assert answer.status_code == 302
    assert Job.objects.get().priority == queueing.PRIORITIES["low"]
    assert people.owner.browser.post("/repairs/new/", things | {"priority": "urgent"}).status_code == 422
