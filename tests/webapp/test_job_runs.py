"""A job from request to result: the happy path of the state machine, and that nobody's timing matters."""

from __future__ import annotations

import random

import pytest

from repair_engine.settings import Repair
from webapp.jobs import coordinator, services
from webapp.jobs.models import Job, PhaseState, Shard


def final_values(job: Job) -> list[int]:
    job.refresh_from_db()
    assert job.state == Job.State.SUCCEEDED, job.detail or job.error
    return job.result["values"]


def test_goes_through_every_phase_to_results(world):
    job = world.owner.job
    assert job.state == Job.State.STARTING
    world.bells.answer()
    assert final_values(job)
    assert job.outcome == Job.Outcome.REPAIRED
    assert {a.name for a in job.artifacts.all()} == {
        "report.json", "report.html", "predictions.csv", "repaired.safetensors"
    }  # fmt: skip
    assert [event.data.get("phase") for event in job.events.filter(kind="phase")] == [
        "search",
        "confirm",
        "finish",
    ]
    rounds = list(PhaseState.objects.filter(job=job).values_list("phase", "round"))
    assert rounds == [(p, r) for p, n in (("search", 4), ("confirm", 2)) for r in range(n)]
    assert not Shard.objects.filter(job=job).exclude(state=Shard.State.DONE).exists()


def test_no_repair_found_is_a_success_without_a_checkpoint(world):
    owner = world.owner
    job, _ = services.create_job(owner=owner.user, model=owner.model, dataset=owner.dataset, asked=Repair(seed=5))
    world.bells.answer()
    final_values(job)
    assert job.outcome == Job.Outcome.NO_REPAIR
    assert not job.artifacts.filter(name__startswith="repaired").exists()
    assert job.artifacts.filter(name="report.json").exists()


@pytest.mark.parametrize("order", range(3))
def test_same_seed_same_bits_in_any_order_and_cut(world, order, monkeypatch):
    """Blocks run shuffled, one shard each or several: the values are those of the plain run."""
    world.bells.answer(only="run_shard")
    expected, other = final_values(world.owner.job), final_values(world.team_mate.job)
    assert expected == other  # same seed, another person's job
    monkeypatch.setattr("webapp.jobs.sharding._blocks_in_a_minute", lambda job, tasks: order + 1)
    owner = world.owner
    job, _ = services.create_job(owner=owner.user, model=owner.model, dataset=owner.dataset, asked=Repair(seed=1))
    shuffle = random.Random(order)
    while world.bells.rung:
        shuffle.shuffle(world.bells.rung)
        world.bells.answer(most=1)
    assert final_values(job) == expected


def test_another_seed_gives_other_values(world):
    owner = world.owner
    job, _ = services.create_job(owner=owner.user, model=owner.model, dataset=owner.dataset, asked=Repair(seed=2))
    world.bells.answer()
    assert final_values(job) != final_values(owner.job)


def test_advance_is_idempotent(world):
    job = world.owner.job
    world.bells.answer(most=3)
    before = (Shard.objects.count(), PhaseState.objects.count(), job.events.count())
    for _ in range(3):
        coordinator.advance(str(job.pk))
    assert (Shard.objects.count(), PhaseState.objects.count(), job.events.count()) == before


def test_two_who_advance_at_once_write_it_once(world, monkeypatch):
    """The second one computes the same move and then finds that its UPDATE matches no row."""
    job = world.owner.job
    shard = job.shards.get()
    commit, calls = coordinator._commit, []

    def slow(job, move):
        calls.append(move.phase)
        if len(calls) == 1:  # while the first is about to write, another one goes all the way
            coordinator.advance(str(job.pk))
        return commit(job, move)

    monkeypatch.setattr(coordinator, "_commit", slow)
    world.bells.answer(most=1)
    assert calls[:2] == ["search", "search"]
    assert PhaseState.objects.filter(job=job).count() == 1
    assert shard.job.shards.filter(phase="search").count() == 4
    assert job.events.filter(kind="phase").count() == 1


def test_shards_have_a_minutes_worth(world, settings):
    job = world.owner.job
    world.bells.answer(most=1)  # prepare: nothing is known of the pace yet
    assert job.shards.filter(phase="search").count() == 4
    settings.SHARD_SECONDS = 10**6
    world.bells.answer()
    job.refresh_from_db()
    assert job.shards.filter(phase="confirm").count() == 1
    assert sum(shard.done for shard in job.shards.filter(phase="confirm")) == 400


def test_merged_rounds_leave_no_files_behind(world):
    """A long job has thousands of blocks: what is merged is removed, the last state of each phase stays."""
    job = world.owner.job
    world.bells.answer()
    job.refresh_from_db()
    last = {row.phase: row.sha256 for row in job.states.order_by("round")}
    documents = set(job.shards.filter(phase__in=("prepare", "finish")).values_list("result", flat=True))
    left = {path.name for path in (job.directory / "parts").iterdir()}
    assert set(last.values()) <= left
    assert left <= set(last.values()) | documents


def test_who_comes_late_and_finds_files_gone_does_no_harm(world, monkeypatch):
    """Another process has merged the round and removed its files while this one was about to read them."""
    job = world.owner.job
    plain, raced = coordinator._step, []

    def late(job):
        if job.phase == "search" and job.round == 0 and not raced:
            shards = job.shards.filter(phase="search", round=0)
            if not shards.exclude(state=Shard.State.DONE).exists():
                raced.append(job)
                coordinator.advance(str(job.pk))
                (job.directory / "parts" / shards.first().result).unlink(missing_ok=True)
        return plain(job)

    monkeypatch.setattr(coordinator, "_step", late)
    world.bells.answer()
    assert raced
    assert final_values(job) == final_values(world.team_mate.job)


def test_a_damaged_file_fails_the_job_with_its_cause(world):
    job = world.owner.job
    Job.objects.filter(pk=world.team_mate.job.pk).delete()
    world.bells.answer(most=3)
    result = job.shards.filter(phase="search", state=Shard.State.DONE).first().result
    (job.directory / "parts" / result).write_bytes(b"bits that fell over")
    world.bells.answer()
    job.refresh_from_db()
    assert (job.state, job.fault) == (Job.State.FAILED, "server")
    assert "internal error" in job.error
    assert "damaged" in job.detail
