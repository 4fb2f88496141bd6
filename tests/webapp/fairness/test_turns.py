"""Whose shard is given to a worker."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.webapp.conftest import person
from tests.webapp.fairness.helpers import ended, jobs_of, served, start, take
from webapp.jobs import fair, leases, queueing
from webapp.jobs.models import Job, Lane, Shard, Share


def test_fifty_runs_of_one_do_not_starve_another(people, settings):
    settings.USER_RUNNING = 0
    for _ in range(50):
        start(people.owner, shards=2)
    start(people.team_mate, shards=3)
    assert served(6).count("mate") == 3, "turn by turn, though the other's are older"
    assert served(200) == ["owner"] * 97, "and nothing of theirs is lost"


def test_a_long_run_delays_a_short_one_by_one_shard(people):
    """Three workers are busy with it when the other comes."""
    start(people.owner, shards=1000)
    held = [take(worker=f"w{i}/1/1") for i in range(3)]
    for lease in held:
        ended(lease)
        held.append(take())
        if len(held) == 12:
            break
    start(people.team_mate, shards=2)
    ended(held[-1])
    assert served(3).count("mate") == 2


def test_who_comes_back_has_no_store_of_turns(people):
    start(people.owner, shards=100)
    assert served(50) == ["owner"] * 50
    start(people.team_mate, shards=100)
    assert 4 <= served(10).count("mate") <= 6


def test_nobody_who_waits_is_passed_over_for_ever(people):
    """Newcomers without end."""
    start(people.owner, shards=5)
    others = [person(f"new{i}", f"new{i}".encode()) for i in range(6)]
    turns = []
    for one in others:
        start(one, shards=1)
        turns += served(2)
    assert turns.count("owner") == 5


def test_a_weight_of_two_is_twice_as_much(people):
    start(people.owner, shards=60)
    start(people.team_mate, shards=60)
    queueing.allow(user=people.owner.user, weight=2.0)
    assert served(30).count("owner") == 20


def test_what_counts_is_the_time_that_was_used(people):
    """Shards of one take a tenth of those of the other."""
    start(people.owner, shards=200)
    start(people.team_mate, shards=200)
    turns = served(110, seconds={"owner": 6.0, "mate": 60.0})
    assert 9 <= turns.count("owner") / turns.count("mate") <= 11
    used = dict(Share.objects.values_list("user__username", "served"))
    assert used["owner"] == pytest.approx(6.0 * turns.count("owner"))


def test_work_under_way_counts_from_its_beginning(people):
    start(people.owner, shards=10)
    start(people.team_mate, shards=10)
    taken = [take(worker=f"w{i}/1/1") for i in range(6)]
    counts = Job.objects.filter(shards__state=Shard.State.LEASED).values_list("made_by__username", flat=True)
    assert sorted(counts) == ["mate"] * 3 + ["owner"] * 3
    assert len({lease.shard_id for lease in taken}) == 6


def test_of_ones_own_runs_priority_comes_first_then_age(people):
    for name, word in (("old", "normal"), ("low", "low"), ("new", "normal"), ("high", "high")):
        start(people.owner, shards=1, name=name, priority=queueing.PRIORITIES[word])
    assert jobs_of([take() for _ in range(4)]) == ["high", "old", "new", "low"]


def test_high_never_jumps_other_people(people):
    start(people.owner, shards=10, priority=Job.Priority.HIGH)
    start(people.team_mate, shards=10, priority=Job.Priority.LOW)
    assert served(10).count("mate") == 5


def test_urgent_comes_before_all_and_moves_nobody_elses_turn(people):
    start(people.team_mate, shards=10)
    served(2)
    job = start(people.owner, shards=5)
    before = Lane.objects.get(pk="cpu").virtual
    people.owner.user.is_staff = True
    queueing.prioritize(by=people.owner.user, job=job, priority=Job.Priority.URGENT)
    assert served(5) == ["owner"] * 5
    assert Lane.objects.get(pk="cpu").virtual == before


def test_a_cpu_worker_is_not_given_what_is_pinned_to_a_gpu_nor_waits_behind_it(people):
    start(people.owner, shards=3, device="cuda", priority=Job.Priority.HIGH)
    start(people.owner, shards=1, device="cpu")
    assert take("cpu").job_id == str(Job.objects.get(device="cpu").pk)
    assert take("cpu") is None
    assert take("gpu").job_id == str(Job.objects.get(device="cuda").pk)


def test_what_one_had_of_gpus_does_not_count_among_cpus(people):
    start(people.owner, shards=20, device="cuda")
    served(20, "gpu")
    start(people.owner, shards=4)
    start(people.team_mate, shards=4)
    assert sorted(served(2)) == ["mate", "owner"]


def test_what_rests_or_has_ended_or_is_paused_is_passed_over(people):
    jobs = [start(people.owner, shards=1, name=name) for name in ("rests", "ended", "paused", "open")]
    Shard.objects.filter(job=jobs[0]).update(not_before=timezone.now() + leases.rest(3))
    services_end(jobs[1])
    queueing.pause(by=people.owner.user, job=jobs[2])
    assert jobs_of([take()]) == ["open"]
    assert take() is None


def services_end(job: Job) -> None:
    from webapp.jobs import coordinator

    coordinator.end(job, Job.State.CANCELED)


def test_a_shard_that_goes_between_choosing_and_leasing_costs_a_turn_and_no_error(people, monkeypatch):
    first, second = (start(people.owner, shards=1, name=name) for name in ("first", "second"))
    plain = leases.claim_of

    def too_late(job_id, worker, *, now):
        return None if str(job_id) == str(first.pk) else plain(job_id, worker, now=now)

    monkeypatch.setattr(leases, "claim_of", too_late)
    assert take().job_id == str(second.pk)


@pytest.mark.parametrize("shards", [10, 1000])
def test_the_choice_costs_the_same_few_queries_however_much_waits(people, settings, shards):
    settings.USER_RUNNING = 0
    for one in (people.owner, people.team_mate):
        for _ in range(3):
            start(one, shards=shards)
    take()
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert take()
    assert len([one for one in queries if "SAVEPOINT" not in one["sql"]]) <= 12, [one["sql"] for one in queries]


def test_a_run_from_before_there_were_shares_is_served(people):
    job = start(people.owner, shards=2)
    Job.objects.filter(pk=job.pk).update(share=None)
    Share.objects.all().delete()
    assert take().job_id == str(job.pk)
    job.refresh_from_db()
    assert job.share.user == people.owner.user


def test_a_connection_that_is_cut_after_the_commit_gives_the_same_shard(people, monkeypatch):
    from django.db import OperationalError

    from webapp import steady

    start(people.owner, shards=3)
    monkeypatch.setattr(steady.time, "sleep", lambda seconds: None)
    plain, cut = fair._take, []

    def once(*args):
        lease = plain(*args)
        if not cut:
            cut.append(lease)
            raise OperationalError("terminating connection")
        return lease

    monkeypatch.setattr(fair, "_take", once)
    assert take() == cut[0]
    assert Shard.objects.filter(state=Shard.State.LEASED).count() == 1
