"""A program of another release than the database's leaves the work to others, and says which both are."""

from __future__ import annotations

import pytest

from repair_engine import __version__
from webapp.jobs import releases, worker_signals
from webapp.jobs.models import Release, Shard
from webapp.monitoring import probes


@pytest.fixture(autouse=True)
def asked_each_time(monkeypatch):
    monkeypatch.setattr(releases, "FRESH", -1.0)


def test_migrate_says_whose_the_database_is(world):
    releases.record()
    assert Release.objects.get().version == __version__
    assert releases.refused() == ""
    Release.objects.all().delete()
    assert releases.refused() == "", "a database from before it was written down"


def test_a_worker_of_another_release_claims_nothing_and_does_not_start(world, caplog):
    releases.record()
    Release.objects.update(version="99.0")
    world.bells.answer()
    assert set(Shard.objects.values_list("state", "attempt")) == {("pending", 0)}
    for text in (caplog.text, releases.refused()):
        assert f"release {__version__}" in text
        assert "release 99.0" in text
    with pytest.raises(SystemExit, match=r"99\.0"):
        worker_signals.begin_life()
    with pytest.raises(probes._Not, match=r"99\.0"):
        probes._release()
    Release.objects.update(version=__version__)
    assert releases.refused() == ""
