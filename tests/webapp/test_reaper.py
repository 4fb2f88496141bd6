"""What the reaper puts right."""

from __future__ import annotations

import os
import time
from datetime import timedelta

import pytest
from django.utils import timezone

from webapp import clock
from webapp.jobs import bells, leases, reaper
from webapp.jobs.models import Job, Lane, Shard
from webapp.library.models import ModelUpload


def test_rings_again_for_lost_messages(world):
    world.bells.rung.clear()
    reaper.reap(force=True)
    assert world.bells.rung == []  # they may still be under way
    Shard.objects.update(rung_at=timezone.now() - timedelta(minutes=2))
    reaper.reap(force=True)
    assert world.bells.names().count("run_shard") == 1, "whoever hears it rings on"
    world.bells.answer()
    assert {job.state for job in Job.objects.all()} == {Job.State.SUCCEEDED}


def test_rings_more_and_more_rarely(world, monkeypatch):
    """Where no worker listens; as soon as one takes something, as at first."""
    now, rung = timezone.now(), []
    monkeypatch.setattr(clock, "now", lambda: now)
    for _ in range(60):
        world.bells.rung.clear()
        reaper.reap(force=True)
        rung.append("run_shard" in world.bells.names())
        now += timedelta(minutes=1)
    assert rung[0] is False
    assert 3 <= sum(rung) <= 8
    world.bells.rung.clear()
    bells.ring("cpu")
    world.bells.answer(most=1)
    assert Lane.objects.get(pk="cpu").rings == 0


def test_rings_for_every_worker_that_stands_idle_beside_work(world):
    for number in range(5):
        leases.worker_seen(name=f"cpu{number}@host", incarnation="a", queues=["cpu"], device="host")
    leases.claim(world.owner.job.shards.get().pk, "cpu0@host/a/1.1")
    Shard.objects.update(rung_at=timezone.now() - timedelta(minutes=2))
    world.bells.rung.clear()
    reaper.reap(force=True)
    assert world.bells.names().count("run_shard") == 4
    reaper.reap(force=True)
    assert world.bells.names().count("run_shard") == 4, "once"


def test_a_broker_that_is_away_costs_only_time(world, monkeypatch):
    tries = []

    def refuse(task, **call):
        tries.append(task)
        raise ConnectionError("no broker")

    Shard.objects.update(rung_at=timezone.now() - timedelta(minutes=2))
    monkeypatch.setattr("celery.app.task.Task.apply_async", refuse)
    reaper.reap(force=True)
    assert len(tries) == 1, "each try may take seconds: the rest waits"
    assert world.owner.api.get(f"/api/v1/repairs/{world.owner.job.pk}/").status_code == 200


def test_takes_back_expired_leases(world):
    shard = world.owner.job.shards.get()
    leases.claim(shard.pk, "gone/1/1", now=timezone.now() - timedelta(days=1))
    world.bells.rung.clear()
    reaper.reap(force=True)
    shard.refresh_from_db()
    assert (shard.state, shard.failures) == (Shard.State.PENDING, 1)
    assert "fell silent" in shard.error
    assert "run_shard" in world.bells.names()


def test_moves_on_a_job_whose_last_finisher_died(world):
    """Every shard of the round is done, but nobody called advance."""
    job = world.owner.job
    world.bells.answer(most=1)
    for shard in job.shards.filter(phase="search"):
        lease = leases.claim(shard.pk, "a/1/1")
        from webapp.jobs import runner

        runner.run(lease)
    world.bells.rung.clear()
    reaper.reap(force=True)
    assert "advance" not in world.bells.names()  # it has only just finished
    Shard.objects.filter(job=job).update(finished_at=timezone.now() - timedelta(minutes=1))
    reaper.reap(force=True)
    assert "advance" in world.bells.names()
    world.bells.answer()
    job.refresh_from_db()
    assert job.state == Job.State.SUCCEEDED


def test_rings_again_for_uploads_that_nobody_checks(world, settings):
    settings.LEASE_SECONDS = 10
    upload = world.owner.model
    ModelUpload.objects.filter(pk=upload.pk).update(state="validating", rung_at=None)
    world.bells.rung.clear()
    reaper.reap(force=True)
    assert world.bells.names() == ["validate"]
    reaper.reap(force=True)
    assert world.bells.names() == ["validate"]
    ModelUpload.objects.filter(pk=upload.pk).update(attempts=3, rung_at=timezone.now() - timedelta(hours=1))
    reaper.reap(force=True)
    upload.refresh_from_db()
    assert upload.state == "rejected"
    assert "did not come to an end" in upload.error


@pytest.mark.parametrize("state", [Job.State.SUCCEEDED, Job.State.CANCELED])
def test_sweeps_working_files_but_not_results(world, state):
    job = world.owner.job
    if state == Job.State.SUCCEEDED:
        world.bells.answer()
    else:
        world.bells.answer(most=2)
        world.owner.api.post(f"/api/v1/repairs/{job.pk}/cancel/")
    assert job.directory.exists()
    reaper.reap(force=True)
    assert job.directory.exists()  # a worker may still be at it
    Job.objects.filter(pk=job.pk).update(finished_at=timezone.now() - timedelta(hours=1))
    reaper.reap(force=True)
    assert not job.directory.exists()
    assert all(artifact.blob.path.exists() for artifact in job.artifacts.all())


def test_removes_what_crashes_left(world, settings):
    old = time.time() - 10 * 24 * 3600
    orphan = settings.JOB_DIR / "00000000-0000-4000-8000-000000000000"
    orphan.mkdir(parents=True)
    stray = settings.INCOMING_DIR / "up-cut-off"
    stray.write_bytes(b"half")
    new = settings.INCOMING_DIR / "up-under-way"
    new.write_bytes(b"half")
    world.bells.answer(most=1)
    mine = world.owner.job.directory
    for path in (orphan, stray, mine):
        os.utime(path, (old, old))
    reaper.reap(force=True)
    assert not orphan.exists()
    assert not stray.exists()
    assert new.exists()
    assert mine.exists()


def test_reaps_at_most_every_few_seconds_unless_forced(world, settings, monkeypatch):
    settings.REAP_EVERY = 3600
    monkeypatch.setattr(reaper, "_last", -3600.0)
    calls = []
    monkeypatch.setattr(leases, "expire", lambda: calls.append(1) or [])
    for _ in range(5):
        reaper.reap()
    assert len(calls) == 1
