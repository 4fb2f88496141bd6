"""Claim, renew, finish, give back, expire: what two workers may do to one shard."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from repair_engine.settings import Repair
from tests.webapp.helpers import rested
from webapp.jobs import coordinator, leases, reaper, services
from webapp.jobs.leases import LeaseLost
from webapp.jobs.models import Job, Shard

LATER = timedelta(days=1)


@pytest.fixture
def shard(world) -> Shard:
    return world.owner.job.shards.get()


def test_claim_takes_a_pending_shard_once(shard):
    lease = leases.claim(shard.pk, "a/1/1")
    assert lease is not None
    assert lease.attempt == 1
    assert leases.claim(shard.pk, "b/1/1") is None
    shard.refresh_from_db()
    assert (shard.state, shard.worker, shard.attempt) == (Shard.State.LEASED, "a/1/1", 1)
    assert shard.lease_expires > timezone.now()


def test_of_many_who_claim_at_once_one_wins(shard):
    def claim(i: int):
        try:
            return leases.claim(shard.pk, f"w{i}/1/1")
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        won = [lease for lease in pool.map(claim, range(24)) if lease]
    assert len(won) == 1
    shard.refresh_from_db()
    assert shard.attempt == 1
    assert shard.worker == won[0].worker


def test_who_read_first_but_writes_second_has_lost(shard, monkeypatch):
    """Another claims between the reading and the UPDATE: the UPDATE matches no row."""
    plain, other = leases.lease_seconds, []

    def meanwhile(phase):
        if not other:
            other.append("claiming")
            other[0] = leases.claim(shard.pk, "quick/1/1")
        return plain(phase)

    monkeypatch.setattr(leases, "lease_seconds", meanwhile)
    assert leases.claim(shard.pk, "slow/1/1") is None
    assert other[0].attempt == 1
    shard.refresh_from_db()
    assert (shard.worker, shard.attempt) == ("quick/1/1", 1)


def test_an_ended_job_has_nothing_to_claim(shard):
    Job.objects.filter(pk=shard.job_id).update(state=Job.State.CANCELED)
    assert leases.claim(shard.pk, "a/1/1") is None


def test_renewing_keeps_the_lease_and_tells_how_far_it_is(shard):
    lease = leases.claim(shard.pk, "a/1/1", now=timezone.now() - LATER)
    leases.renew(lease, done=50, note="half-way")
    assert leases.expire() == []
    shard.refresh_from_db()
    assert (shard.done, shard.note) == (50, "half-way")


def test_an_expired_lease_goes_to_the_next_worker_and_the_late_one_is_fenced_off(shard):
    slow = leases.claim(shard.pk, "slow/1/1", now=timezone.now() - LATER)
    assert leases.expire() == [shard.pk]
    quick = leases.claim(shard.pk, "quick/1/1")
    assert quick.attempt == slow.attempt + 1
    with pytest.raises(LeaseLost):
        leases.renew(slow)
    with pytest.raises(LeaseLost):
        leases.finish(slow, result="0" * 64)
    leases.finish(quick, result="1" * 64, done=7)
    with pytest.raises(LeaseLost):
        leases.finish(slow, result="0" * 64)
    shard.refresh_from_db()
    assert (shard.state, shard.result, shard.done) == (Shard.State.DONE, "1" * 64, 7)


def test_the_late_one_cannot_give_back_what_the_next_one_holds(shard):
    slow = leases.claim(shard.pk, "slow/1/1", now=timezone.now() - LATER)
    leases.expire()
    leases.claim(shard.pk, "quick/1/1")
    assert leases.give_back(slow, error="too late") is False
    assert leases.fail(slow, fault="input", problem="too late", mend="") is False
    shard.refresh_from_db()
    assert (shard.state, shard.worker) == (Shard.State.LEASED, "quick/1/1")


def test_three_attempts_then_failure_with_its_cause(world, shard):
    for attempt in range(1, 4):
        lease = leases.claim(shard.pk, "a/1/1")
        assert lease.attempt == attempt
        assert leases.give_back(lease, error="Traceback …\nMemoryError: no room") is (attempt < 3)
        rested()
    coordinator.advance(str(shard.job_id))
    job = world.owner.job
    job.refresh_from_db()
    assert (job.state, job.fault) == (Job.State.FAILED, "server")
    assert "3 times" in job.error
    assert "MemoryError: no room" in job.error
    assert "a/1/1" in job.detail
    assert job.finished_at is not None


def test_a_worker_told_to_stop_gives_back_without_blame(shard):
    leases.claim(shard.pk, "cpu1@host/aa/7")
    assert leases.release_stopping("cpu1@host") == [shard.pk]
    shard.refresh_from_db()
    assert (shard.state, shard.failures) == (Shard.State.PENDING, 0)


def test_a_restarted_worker_frees_what_its_earlier_life_held(shard):
    leases.claim(shard.pk, "cpu1@host/aa/7")
    assert leases.release_incarnations("cpu1@host", "aa") == []  # its own
    assert leases.release_incarnations("cpu10@host", "bb") == []  # another worker's
    assert leases.release_incarnations("cpu1@host", "bb") == [shard.pk]
    shard.refresh_from_db()
    assert (shard.state, shard.failures) == (Shard.State.PENDING, 1)


def test_bad_input_is_not_tried_again(world, shard):
    owner = world.owner
    job, _ = services.create_job(owner=owner.user, model=owner.model, dataset=owner.dataset, asked=Repair(seed=666))
    world.bells.answer()
    job.refresh_from_db()
    assert (job.state, job.fault, job.error, job.mend) == (
        Job.State.FAILED, "input", "The model is not a model.", "Send another one."
    )  # fmt: skip
    assert job.shards.get().attempt == 1


def test_a_crash_is_tried_three_times_by_the_reaper(world):
    owner = world.owner
    job, _ = services.create_job(owner=owner.user, model=owner.model, dataset=owner.dataset, asked=Repair(seed=667))
    for _ in range(4):
        world.bells.answer()
        rested()
        reaper.reap(force=True)
    job.refresh_from_db()
    assert (job.state, job.fault) == (Job.State.FAILED, "server")
    assert "the disk is on fire" in job.error
    assert "Traceback" in job.detail
    assert job.shards.get().attempt == 3
