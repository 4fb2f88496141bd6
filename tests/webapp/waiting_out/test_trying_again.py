"""Try again goes on from what is done."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta

import pytest
from django.utils import timezone

from repair_engine.settings import Repair
from tests.webapp.waiting_out.helpers import fail_at, what_came_of
from webapp.jobs import coordinator, leases, reaper, runner, services
from webapp.jobs.engine import get_engine
from webapp.jobs.models import Delivery, Job


def test_try_again_goes_on_from_the_finished_blocks(world, job, undisturbed, computed, monkeypatch):
    Job.objects.filter(pk=job.pk).update(webhook_url="https://example.org/")
    fail_at(job, 2, monkeypatch)
    assert Delivery.objects.filter(job=job, event="repair.finished").exists()
    Job.objects.filter(pk=job.pk).update(finished_at=timezone.now() - timedelta(hours=1))
    reaper.reap(force=True)
    world.bells.rung.clear()
    page = world.owner.browser.get(f"/repairs/{job.pk}/").content.decode()
    assert "Try again" in page
    assert f'action="/repairs/{job.pk}/retry/"' in page
    answer = world.owner.browser.post(f"/repairs/{job.pk}/retry/")
    assert answer["Location"] == f"/repairs/{job.pk}/"
    assert not Delivery.objects.filter(job=job, event="repair.finished").exists(), "the next end is told, too"
    world.bells.answer(only="run_shard")
    world.bells.answer(only="advance")
    world.bells.answer(only="run_shard")
    assert what_came_of(job) == undisturbed
    assert sorted(computed) == sorted(set(computed)), "what was done was not done again"
    assert job.shards.get(phase="search", round=0).done == 400
    assert job.events.filter(kind="resumed").count() == 1
    assert (job.error, job.detail) == ("", "")


def test_try_again_by_the_api(world, job, monkeypatch):
    url = f"/api/v1/repairs/{job.pk}/retry/"
    assert world.owner.api.post(url).status_code == 409, "it runs"
    fail_at(job, 1, monkeypatch)
    answer = world.owner.api.post(url)
    assert (answer.status_code, answer.json()["state"]) == (202, "processing")
    again = world.owner.api.post(url)
    assert again.status_code == 409
    assert "has not failed" in json.dumps(again.json())
    world.bells.answer(only="run_shard")
    assert world.owner.api.post(url).status_code == 409, "it has succeeded"


def test_bad_input_is_not_tried_again_by_asking(world, job):
    coordinator.end(job, Job.State.FAILED, fault="input", error="There is no class hat.", mend="Use coat.")
    answer = world.owner.api.post(f"/api/v1/repairs/{job.pk}/retry/")
    assert answer.status_code == 409
    assert "no class hat" in json.dumps(answer.json())
    assert "Try again" not in world.owner.browser.get(f"/repairs/{job.pk}/").content.decode()


@pytest.mark.parametrize("lost", ["swept", "state", "result"])
def test_try_again_after_working_files_are_gone(world, job, undisturbed, monkeypatch, lost):
    """Swept after a week, or damaged: then it begins anew as far as it must."""
    world.bells.answer(most=1)  # the first round
    job.refresh_from_db()
    assert job.round == 1
    shard = job.shards.get(phase="search", round=1)
    if lost == "result":  # every block of the round is done; merging fails
        monkeypatch.setattr(runner.leases, "finish", leases.finish)
        runner.run(leases.claim(shard.pk, "a/1/1"))
        shard.refresh_from_db()
        (job.directory / "parts" / shard.result).unlink()
        coordinator.advance(str(job.pk))
    else:
        coordinator.end(job, Job.State.FAILED, fault="server", error="an accident")
    if lost == "state":
        (job.directory / "parts" / job.states.get(phase="search", round=1).sha256).unlink()
    if lost == "swept":
        Job.objects.filter(pk=job.pk).update(finished_at=timezone.now() - timedelta(days=8))
        reaper.reap(force=True)
        assert not job.directory.exists()
    world.bells.rung.clear()
    assert world.owner.api.post(f"/api/v1/repairs/{job.pk}/retry/").status_code == 202
    world.bells.answer(only="run_shard")
    assert what_came_of(job) == undisturbed


@pytest.mark.parametrize("phase", ["prepare", "finish"])
@pytest.mark.parametrize("gone", [False, True], ids=["files there", "files gone"])
def test_try_again_where_preparing_or_finishing_was_done(world, job, undisturbed, monkeypatch, phase, gone):
    """What follows them failed: they are repeated only where what they wrote is gone."""
    owner, engine = world.owner, get_engine()
    other, _ = services.create_job(
        owner=owner.user, model=owner.model, dataset=owner.dataset, asked=Repair(metric="accuracy", seed=1)
    )
    world.bells.rung = world.bells.rung[-1:]
    Job.objects.filter(pk=job.pk).update(paused_at=timezone.now())
    place, name = (engine, "start") if phase == "prepare" else (coordinator.results, "succeed")

    def broken(*args):
        raise RuntimeError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(place, name, broken)
        world.bells.answer()
    other.refresh_from_db()
    assert (other.state, other.phase) == (Job.State.FAILED, phase)
    if gone:
        shutil.rmtree(next(other.directory.glob(f"{phase}-*")))
    services.retry_job(job=other)
    world.bells.answer()
    assert what_came_of(other) == undisturbed
    assert other.shards.get(phase=phase).attempt == 1 + gone
