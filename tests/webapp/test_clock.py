"""Leases go by the database's clock, whatever a machine's own says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.db import OperationalError

from tests.faults import postgres
from webapp import clock


class Database:
    """A connection of which `clock` asks the time."""

    vendor, in_atomic_block, closed = "postgresql", False, 0

    def __init__(self, says: datetime) -> None:
        self.says, self.away = says, False

    def cursor(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def execute(self, sql: str) -> None:
        if self.away:
            raise OperationalError("cut")

    def fetchone(self) -> tuple:
        return (self.says,)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def database(monkeypatch) -> Database:
    made = Database(datetime(2030, 1, 1, tzinfo=UTC))
    monkeypatch.setattr(clock, "connection", made)
    monkeypatch.setattr(clock, "_asked", None)
    return made


def test_it_goes_on_from_what_the_database_said(database, monkeypatch):
    at = 1000.0
    monkeypatch.setattr(clock.time, "monotonic", lambda: at)
    assert clock.now() == database.says
    at += 30
    assert clock.now() == database.says + timedelta(seconds=30)
    database.says = datetime(2030, 1, 1, 1, tzinfo=UTC)
    at += 31
    assert clock.now() == database.says, "asked again"
    database.away = True
    at += 90
    assert clock.now() == database.says + timedelta(seconds=90), "and as good as before where it is away"
    assert database.closed == 1


@pytest.mark.skipif(postgres.programs() is None, reason="PostgreSQL is not installed: its clock is NOT CHECKED")
def test_of_postgresql(tmp_path: Path, monkeypatch):
    import psycopg

    for folder in (tmp_path, *list(tmp_path.parents)[:3]):  # PostgreSQL's own account comes through them
        folder.chmod(folder.stat().st_mode | 0o055)
    with postgres.Cluster(tmp_path / "cluster") as cluster, psycopg.connect(cluster.url) as connection:
        connection.vendor, connection.in_atomic_block = "postgresql", False
        monkeypatch.setattr(clock, "connection", connection)
        monkeypatch.setattr(clock, "_asked", None)
        assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=5)
