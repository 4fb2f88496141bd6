"""Many workers who take at the same moment, on both databases: no shard twice, none left, turns kept.

PostgreSQL's part runs in a process of its own (`tests.webapp.fairness.at_once`), for a process has one database.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.db import connection

from tests.faults import postgres
from tests.webapp.fairness import at_once
from tests.webapp.fairness.helpers import start


def check(taken: list[dict], shards: int) -> None:
    pks = [one["shard"] for one in taken]
    assert len(pks) == len(set(pks)), "no shard was given twice"
    assert len(pks) == shards, "and none was left"
    assert all(one["attempt"] == 1 for one in taken)
    early = [one["who"] for one in sorted(taken, key=lambda one: one["pass"])][: shards // 2]
    assert 0.4 <= early.count("owner") / len(early) <= 0.6, "people took turns"


def test_on_sqlite(people):
    for one in (people.owner, people.team_mate):
        start(one, shards=20)

    def work(number: int) -> list[dict]:
        try:
            return at_once.take_all(f"w{number}/1/{number}")
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        check([one for found in pool.map(work, range(6)) for one in found], 40)


@pytest.mark.skipif(postgres.programs() is None, reason="PostgreSQL is not installed: NOT CHECKED")
def test_on_postgresql(tmp_path: Path):
    for folder in (tmp_path, *list(tmp_path.parents)[:3]):  # PostgreSQL's own account comes through them
        folder.chmod(folder.stat().st_mode | 0o055)
    with postgres.Cluster(tmp_path / "cluster") as cluster:
        environment = {
            **os.environ, "DATABASE_URL": cluster.url, "NR_DATA_DIR": str(tmp_path / "data"), "PYTHONPATH": os.getcwd(),
            "DJANGO_SETTINGS_MODULE": "webapp.settings",
        }  # fmt: skip
        command = [sys.executable, "-m", "tests.webapp.fairness.at_once", "20", "4"]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=300)
    check(json.loads(done.stdout.splitlines()[-1]), 40)
