"""Pause and resume: nothing is lost, and the result has the bits of a run that nobody paused."""

from __future__ import annotations

import pytest

from tests.webapp.helpers import rested
from tests.webapp.waiting_out.conftest import computed, job, undisturbed  # noqa: F401  # fixtures
from tests.webapp.waiting_out.helpers import what_came_of
from webapp.jobs import coordinator, leases, live, queueing, reaper
from webapp.jobs.engine import get_engine
from webapp.jobs.models import Job, Shard


@pytest.fixture
def paused_in(monkeypatch, world):
    """Somebody pauses it while this block of the first round is computed."""

    def at(watched_job: Job, block: int) -> None:
        engine = get_engine()
        plain = engine.run_block

        def watched(work, phase, state, task, count):
            if (phase, task["round"], task["block"]) == ("search", 0, block) and not watched_job.events.filter(
                kind="paused"
            ):
                answer = world.owner.api.post(f"/api/v1/repairs/{watched_job.pk}/pause/")
                assert (answer.status_code, answer.json()["progress"]["paused"]) == (200, True)
            return plain(work, phase, state, task, count)

        monkeypatch.setattr(engine, "run_block", watched)

    return at


@pytest.mark.parametrize("block", [0, 2, 3])
def test_the_block_at_hand_ends_and_the_rest_waits(world, job, undisturbed, computed, paused_in, block):  # noqa: F811
    paused_in(job, block)
    world.bells.answer()
    shard = job.shards.get(phase="search", round=0)
    if block < 3:  # of four: given back with what it has, and nobody's failure
        assert (shard.state, len(shard.parts), shard.failures) == (Shard.State.PENDING, block + 1, 0)
        assert shard.saved == 100 * (block + 1)
    else:
        assert shard.state == Shard.State.DONE
    for _ in range(3):
        reaper.reap(force=True)
        rested()
        world.bells.answer()
    job.refresh_from_db()
    assert (job.state, job.phase) == (Job.State.PROCESSING, "search"), "no reaper goes on with it"
    found = live.progress(job)
    assert (found.paused, found.waiting, found.workers, found.queue_position) == (True, False, 0, None)
    assert (found.eta_seconds, found.eta_total_seconds) == (None, None), "nobody knows"
    answer = world.owner.api.post(f"/api/v1/repairs/{job.pk}/resume/")
    assert (answer.status_code, answer.json()["progress"]["paused"]) == (200, False)
    world.bells.answer()
    assert what_came_of(job) == undisturbed
    assert sorted(computed) == sorted(set(computed)), "no block was computed twice"
    assert [event.kind for event in job.events.filter(kind__in=("paused", "unpaused"))] == ["paused", "unpaused"]


def test_in_the_browser(world, job):  # noqa: F811
    url = f"/repairs/{job.pk}/"
    assert f'action="{url}pause/"' in world.owner.browser.get(url).content.decode()
    assert world.owner.browser.post(f"{url}pause/")["Location"] == url
    page = world.owner.browser.get(url).content.decode()
    assert "What is done is kept" in page
    assert f'action="{url}resume/"' in page
    assert "paused" in world.owner.browser.get("/repairs/").content.decode()
    world.bells.answer()
    assert Job.objects.get(pk=job.pk).state == Job.State.PROCESSING
    world.owner.browser.post(f"{url}resume/")
    world.bells.answer()
    assert Job.objects.get(pk=job.pk).state == Job.State.SUCCEEDED


def test_before_any_worker_has_begun(world):
    Job.objects.exclude(pk=world.owner.job.pk).delete()
    queueing.pause(by=world.owner.user, job=world.owner.job)
    world.bells.answer()
    assert Job.objects.get().state == Job.State.STARTING
    queueing.resume(by=world.owner.user, job=world.owner.job)
    world.bells.answer()
    assert Job.objects.get().state == Job.State.SUCCEEDED


def test_twice_is_no_error_and_what_has_ended_is_told(world, job):  # noqa: F811
    url = f"/api/v1/repairs/{job.pk}/"
    assert world.owner.api.post(f"{url}resume/").status_code == 200, "it was not paused"
    for _ in range(2):
        assert world.owner.api.post(f"{url}pause/").status_code == 200
    assert job.events.filter(kind="paused").count() == 1
    assert world.owner.api.post(f"{url}cancel/").json()["state"] == "canceled"
    for verb in ("pause", "resume"):
        answer = world.owner.api.post(f"{url}{verb}/")
        assert answer.status_code == 409
        assert "has ended" in answer.json()["detail"]
    assert live.progress(Job.objects.get(pk=job.pk)).paused is False
    assert world.owner.browser.post(f"/repairs/{job.pk}/pause/").status_code == 302


def test_a_paused_run_leaves_its_place_to_another_of_ones_own(world, job, settings):  # noqa: F811
    settings.USER_RUNNING = 1
    from tests.webapp.fairness.helpers import jobs_of, start, take

    first = take()
    start(world.owner, shards=1, name="other")
    assert take() is None
    queueing.pause(by=world.owner.user, job=job)
    assert jobs_of([take()]) == ["other"]
    queueing.resume(by=world.owner.user, job=job)
    leases.give_way(first)
    assert take() is None, "now it waits behind the other"
    assert live.progress(job).behind == 1


def test_a_worker_that_dies_in_a_paused_run_gives_back_what_it_had(world, job, undisturbed):  # noqa: F811
    shard = job.shards.get(phase="search")
    leases.claim(shard.pk, "cpu1@host/aa/7")
    queueing.pause(by=world.owner.user, job=job)
    leases.release_incarnations("cpu1@host", "bb")
    world.bells.rung.clear()
    reaper.reap(force=True)
    assert "run_shard" not in world.bells.names(), "nobody is rung for"
    rested()
    queueing.resume(by=world.owner.user, job=job)
    world.bells.answer()
    assert what_came_of(job) == undisturbed


def test_who_tries_again_what_failed_while_it_was_paused_wants_it_to_go_on(world, job):  # noqa: F811
    queueing.pause(by=world.owner.user, job=job)
    job.refresh_from_db()
    coordinator.end(job, Job.State.FAILED, fault="server", error="an accident")
    assert world.owner.api.post(f"/api/v1/repairs/{job.pk}/retry/").status_code == 202
    world.bells.answer()
    assert Job.objects.get(pk=job.pk).state == Job.State.SUCCEEDED
