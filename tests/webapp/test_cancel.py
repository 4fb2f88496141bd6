"""Cancel at every stage: queued, preparing, searching, confirming, finishing, ended."""

from __future__ import annotations

import pytest

from webapp.jobs import coordinator, services
from webapp.jobs.engine import get_engine
from webapp.jobs.models import Job, Shard


def cancel(person) -> int:
    return person.api.post(f"/api/v1/repairs/{person.job.pk}/cancel/").status_code


def is_canceled(job: Job) -> bool:
    job.refresh_from_db()
    open_shards = job.shards.filter(state__in=(Shard.State.PENDING, Shard.State.LEASED))
    return job.state == Job.State.CANCELED and not open_shards.exists() and job.finished_at is not None


def test_while_it_waits(world):
    assert cancel(world.owner) == 200
    assert is_canceled(world.owner.job)
    world.bells.answer()  # the bell still rings: nothing happens
    assert is_canceled(world.owner.job)
    assert not world.owner.job.shards.exclude(attempt=0).exists()


@pytest.mark.parametrize(
    ("method", "phase"),
    [("prepare", "prepare"), ("run_block", "search"), ("run_block", "confirm"), ("finish", "finish")],
)
def test_in_the_middle_of_a_shard(world, monkeypatch, method, phase):
    """The worker hears of it at its next progress report, and what it had is thrown away."""
    job, engine = world.owner.job, get_engine()
    plain, cancelled, survived = getattr(engine, method), [], []

    def cancelling(*args):
        *rest, tell = args

        def told(*words):
            job.refresh_from_db()
            if job.phase == phase and not cancelled:
                cancelled.append(cancel(world.owner))
            tell(*words)
            if cancelled:
                survived.append(words)

        return plain(*rest, told)

    monkeypatch.setattr("webapp.jobs.progress.EVERY", 0.0)
    monkeypatch.setattr(engine, method, cancelling)
    Job.objects.filter(pk=world.team_mate.job.pk).delete()
    world.bells.answer()
    assert cancelled == [200]
    assert survived == [], "the shard went on after its lease was taken away"
    assert is_canceled(job)
    assert not job.artifacts.exists()


def test_between_two_rounds(world):
    world.bells.answer(most=4)
    assert cancel(world.owner) == 200
    world.bells.answer()
    assert is_canceled(world.owner.job)


def test_twice_is_no_error_and_says_it_once(world):
    assert cancel(world.owner) == 200
    assert cancel(world.owner) == 200
    assert world.owner.job.events.filter(kind="canceled").count() == 1


def test_after_the_end_is_a_conflict_and_changes_nothing(world):
    world.bells.answer()
    assert cancel(world.owner) == 409
    world.owner.job.refresh_from_db()
    assert world.owner.job.state == Job.State.SUCCEEDED
    assert world.owner.job.cancel_requested_at is None


def test_others_go_on(world):
    cancel(world.owner)
    world.bells.answer()
    world.team_mate.job.refresh_from_db()
    assert world.team_mate.job.state == Job.State.SUCCEEDED


def test_cancel_wins_over_a_finish_that_is_about_to_be_recorded(world, monkeypatch):
    from webapp.jobs import results

    plain = results.succeed

    def late(job, shard):
        services.cancel_job(job=Job.objects.get(pk=job.pk))
        return plain(job, shard)

    monkeypatch.setattr(results, "succeed", late)
    Shard.objects.filter(job=world.team_mate.job).delete()
    world.bells.answer()
    assert is_canceled(world.owner.job)
    assert not world.owner.job.artifacts.exists()


def test_advance_leaves_a_canceled_job_alone(world):
    cancel(world.owner)
    coordinator.advance(str(world.owner.job.pk))
    assert is_canceled(world.owner.job)
