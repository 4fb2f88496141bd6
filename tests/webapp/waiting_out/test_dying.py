"""Nothing that is done is lost where a worker or its machine dies."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from tests.webapp.helpers import rested
from tests.webapp.waiting_out.helpers import die_in, killed_at_work, what_came_of
from webapp.jobs import coordinator, leases, live, reaper
from webapp.jobs.leases import LeaseLost
from webapp.jobs.models import Job, Shard


def test_finished_blocks_stay_done_when_the_worker_is_killed(world, job, undisturbed, computed, monkeypatch):
    """Four kills, each one block further: today's count of three would have ended it."""
    shard = job.shards.get(phase="search")
    for block in range(4):
        die_in(monkeypatch, block)
        killed_at_work(shard)
        shard.refresh_from_db()
        assert (shard.state, len(shard.parts), shard.saved) == (Shard.State.PENDING, block, 100 * block)
        assert shard.done == 100 * block
    world.bells.answer()
    reaper.reap(force=True)
    world.bells.answer()
    assert what_came_of(job) == undisturbed
    assert sorted(computed) == sorted(set(computed)), "no block was computed twice"
    shard.refresh_from_db()
    assert (shard.done, shard.failures) == (400, 4), "nothing is counted twice"


def test_whoever_dies_at_the_same_block_every_time_ends_the_job_with_its_cause(world, job, monkeypatch):
    shard = job.shards.get(phase="search")
    die_in(monkeypatch, 2, times=99)
    for _ in range(3):
        killed_at_work(shard)
    coordinator.advance(str(job.pk))
    job.refresh_from_db()
    assert (job.state, job.fault) == (Job.State.FAILED, "server")
    assert "3 times in a row while it was searching block 2 of round 0" in job.error
    assert "killed, or out of memory" in job.error


def test_a_late_block_of_a_former_attempt_is_not_kept(job):
    shard = job.shards.get(phase="search")
    slow = leases.claim(shard.pk, "slow/1/1")
    leases.release_dead("slow/1", lambda pid: False)
    rested()
    quick = leases.claim(shard.pk, "quick/1/1")
    with pytest.raises(LeaseLost):
        leases.keep(slow, parts=["0" * 64], saved=100)
    leases.keep(quick, parts=["1" * 64], saved=100)
    shard.refresh_from_db()
    assert shard.parts == ["1" * 64]


def test_a_block_whose_file_got_lost_is_computed_again(world, job, undisturbed, monkeypatch):
    shard = job.shards.get(phase="search")
    die_in(monkeypatch, 3)
    killed_at_work(shard)
    shard.refresh_from_db()
    (job.directory / "parts" / shard.parts[1]).write_bytes(b"cut off")
    (job.directory / "parts" / shard.parts[1]).unlink()
    world.bells.answer()
    reaper.reap(force=True)
    world.bells.answer()
    assert what_came_of(job) == undisturbed
    shard.refresh_from_db()
    assert shard.done == 400


def test_a_machine_that_dies_is_not_held_against_the_shard(job):
    """Nine times in a row; the tenth time it is no accident any more."""
    shard = job.shards.get(phase="search")
    for life in range(9):
        assert leases.claim(shard.pk, f"cpu1@host/{life}/7")
        assert leases.release_incarnations("cpu1@host", "next") == [shard.pk]
        rested()
    shard.refresh_from_db()
    assert (shard.state, shard.fruitless, shard.lost) == (Shard.State.PENDING, 0, 9)
    leases.claim(shard.pk, "cpu1@host/9/7")
    leases.release_incarnations("cpu1@host", "next")
    shard.refresh_from_db()
    assert shard.state == Shard.State.FAILED


@pytest.mark.parametrize(("heard", "counts"), [(True, (1, 0)), (False, (0, 1))])
def test_a_silent_lease_is_the_shards_fault_only_where_its_worker_lives(job, heard, counts):
    shard = job.shards.get(phase="search")
    if heard:
        leases.worker_seen(name="cpu1@host", incarnation="aa", queues=["cpu"], device="host")
    leases.claim(shard.pk, "cpu1@host/aa/7")
    Shard.objects.filter(pk=shard.pk).update(lease_expires=timezone.now() - timedelta(seconds=1))
    assert leases.expire() == [shard.pk]
    shard.refresh_from_db()
    assert (shard.fruitless, shard.lost) == counts


def test_who_computes_in_its_main_process_may_have_been_killed_by_its_shard(job):
    shard = job.shards.get(phase="search")
    leases.claim(shard.pk, "gpu1@host/aa/7.8" + leases.OWN_PROCESS)
    leases.release_incarnations("gpu1@host", "bb")
    shard.refresh_from_db()
    assert (shard.fruitless, shard.lost) == (1, 0)


def test_attempts_rest_longer_and_longer_and_the_reaper_rings_when_that_is_over(world, job):
    shard, pauses = job.shards.get(phase="search"), []
    for _ in range(2):
        leases.give_back(leases.claim(shard.pk, "a/1/1"), error="ValueError: no")
        shard.refresh_from_db()
        pauses.append(round((shard.not_before - timezone.now()).total_seconds()))
        world.bells.rung.clear()
        assert leases.claim(shard.pk, "a/1/1") is None, "a bell that is late, or comes twice, does not cut it short"
        reaper.reap(force=True)
        assert "run_shard" not in world.bells.names()
        assert "ValueError: no" in live.progress(job).held
        rested()
        reaper.reap(force=True)
        assert "run_shard" in world.bells.names()
    assert pauses == [5, 20]
    assert leases.rest(9) == timedelta(minutes=5)
