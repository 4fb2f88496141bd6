"""A job in the middle of its search, and what is computed for it."""

from __future__ import annotations

import pytest

from repair_engine.settings import Repair
from tests.webapp.helpers import alone
from tests.webapp.waiting_out.helpers import what_came_of
from webapp import steady
from webapp.jobs import services
from webapp.jobs.engine import get_engine
from webapp.jobs.models import Job


@pytest.fixture
def job(world, monkeypatch) -> Job:
    """Prepared, with all four blocks of the first round in one shard."""
    from webapp.jobs import sharding

    monkeypatch.setattr(sharding, "_blocks_in_a_minute", lambda job, tasks: 4)
    Job.objects.filter(pk=world.team_mate.job.pk).delete()
    world.bells.answer(most=1)
    world.bells.rung = world.bells.rung[-1:]
    world.owner.job.refresh_from_db()
    assert world.owner.job.phase == "search"
    return world.owner.job


@pytest.fixture
def undisturbed(job, world) -> dict:
    """What another job of the same seed gives that nothing happens to."""
    owner = world.owner
    other, _ = services.create_job(
        owner=owner.user, model=owner.model, dataset=owner.dataset, asked=Repair(metric="accuracy", seed=1)
    )
    held, world.bells.rung = world.bells.rung[:-1], world.bells.rung[-1:]
    with alone(other):
        world.bells.answer()
    world.bells.rung = held
    return what_came_of(other)


@pytest.fixture
def computed(monkeypatch) -> list[tuple]:
    """Which blocks were computed to their end."""
    engine, done = get_engine(), []
    plain = engine.run_block

    def noted(work, phase, state, task, count):
        block = plain(work, phase, state, task, count)
        done.append((phase, task["round"], task["block"]))
        return block

    monkeypatch.setattr(engine, "run_block", noted)
    return done


@pytest.fixture
def no_waiting(monkeypatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(steady.time, "sleep", slept.append)
    return slept
