"""SQLite under many writers at once: nothing is lost and nobody is told that it is locked."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
from django.db import connection, transaction

from tests.webapp.real_stack import ROOT
from webapp.jobs.models import Event, Job

pytestmark = pytest.mark.skipif(connection.vendor != "sqlite", reason="about SQLite")
WRITER = """
import django; django.setup()
from django.db import transaction
from django.db.models import F
from webapp.jobs.models import Job, Event
for i in range(40):
    with transaction.atomic():
        job = Job.objects.get(pk={pk!r})
        Event.objects.create(job=job, kind="write", data={{"i": i}})
        Job.objects.filter(pk=job.pk).update(round=job.round + 1)
"""


def test_is_set_up_for_many_writers(world):
    with connection.cursor() as cursor:
        assert cursor.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert cursor.execute("PRAGMA busy_timeout").fetchone()[0] >= 20_000


def test_processes_and_threads_that_read_and_then_write(world, settings):
    """Read-modify-write in a transaction is exactly what fails with Django's defaults."""
    job = world.owner.job
    name = connection.settings_dict["NAME"]
    env = {**os.environ, "DATABASE_URL": f"sqlite:///{name}", "NR_DATA_DIR": str(settings.DATA_DIR)}
    code = WRITER.format(pk=str(job.pk))
    writers = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    failures: list[Exception] = []

    def write() -> None:
        try:
            for _ in range(40):
                with transaction.atomic():
                    now = Job.objects.get(pk=job.pk)
                    Job.objects.filter(pk=job.pk).update(round=now.round + 1)
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for writer in writers:
        _, errors = writer.communicate(timeout=240)
        assert writer.returncode == 0, errors
    assert failures == []
    job.refresh_from_db()
    assert job.round == 6 * 40
    assert Event.objects.filter(job=job, kind="write").count() == 3 * 40
