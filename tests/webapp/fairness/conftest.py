from __future__ import annotations

import pytest

from tests.webapp.conftest import World
from webapp.jobs.models import Job


@pytest.fixture
def people(world) -> World:
    """Nobody has a run."""
    Job.objects.all().delete()
    world.bells.rung.clear()
    return world
