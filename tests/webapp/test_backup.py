"""`manage.py backup` and `restore`: the same rows, the same files, on either database; and nothing by halves."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.core.serializers.base import DeserializedObject
from django.db import DataError, connection
from django.utils import timezone

from tests.faults import postgres
from tests.webapp.helpers import alone, blob_of
from tests.webapp.real_stack import ROOT
from webapp import migrated
from webapp.jobs import backup, bells, reaper
from webapp.jobs.models import Job, Worker
from webapp.library import blobs
from webapp.library.models import Blob


@pytest.fixture
def world(world):
    """The owner's repair is done; the team-mate's is under way."""
    shutil.rmtree(world.team_mate.job.directory, ignore_errors=True)
    with alone(world.owner.job):
        world.bells.answer()
    world.bells.rung.clear()
    return world


def manage(*command: str) -> str:
    out = io.StringIO()
    call_command(*command, stdout=out)
    return out.getvalue()


def wipe(settings) -> None:
    backup._empty()
    for folder in (settings.BLOB_DIR, settings.JOB_DIR):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()


def rows(path: Path) -> dict[tuple, dict]:
    """Of a backup, by model and key."""
    with tarfile.open(path) as tar:
        lines = [json.loads(line) for line in tar.extractfile("database.jsonl")]
    return {(one["model"], str(one["pk"])): one["fields"] for one in lines}


def assert_the_same(world, was: dict[tuple, dict], now: dict[tuple, dict]) -> None:
    """Every row, but for the shards and events of the run that begins anew."""
    (theirs,) = [row["job"] for row in now.values() if row.get("kind") == "resumed"][:1]
    assert theirs == str(world.team_mate.job.pk)
    was, now = (
        {key: row for key, row in side.items() if row.get("job") != theirs and key[1] != theirs} for side in (was, now)
    )
    assert now == was
    assert len(now) > 30


def downloads(world) -> dict[str, bytes]:
    found = world.owner.api.get(f"/api/v1/repairs/{world.owner.job.pk}/").json()
    return {r["name"]: b"".join(world.owner.api.get(r["url"]).streaming_content) for r in found["results"]}


def test_wiped_and_restored_all_is_as_it_was(world, settings, tmp_path):
    before, file = downloads(world), tmp_path / "a.tar"
    assert "report.json" in before
    assert f"{Blob.objects.count()} files" in manage("backup", str(file))
    assert file.stat().st_mode & 0o777 == 0o600
    assert not list(settings.INCOMING_DIR.glob("*"))
    wipe(settings)
    assert Job.objects.count() == 0
    assert "begin anew: 1" in manage("restore", str(file))
    assert downloads(world) == before, "and the token still works"
    assert "0 wrong" in manage("check_storage")
    again = tmp_path / "b.tar"
    manage("backup", str(again))
    assert_the_same(world, rows(file), rows(again))


def test_a_run_that_was_under_way_begins_anew_and_comes_to_the_same(world, settings, tmp_path):
    job = world.team_mate.job
    bells.ring(job.queue)
    world.bells.answer(most=3)
    job.refresh_from_db()
    assert job.phase == "search"
    manage("backup", str(tmp_path / "a.tar"))
    world.bells.answer()
    job.refresh_from_db()
    assert job.state == "succeeded"
    result, files = job.result, set(job.artifacts.values_list("name", "blob"))
    wipe(settings)
    manage("restore", str(tmp_path / "a.tar"))
    job.refresh_from_db()
    assert (job.phase, job.ended) == ("prepare", False)
    world.bells.rung.clear()
    reaper.reap(force=True)
    world.bells.answer()
    job.refresh_from_db()
    assert (job.state, job.result) == ("succeeded", result)
    assert set(job.artifacts.values_list("name", "blob")) == files


def elsewhere(action) -> None:
    """As another process does it, on a connection of its own."""

    def do() -> None:
        action()
        connection.close()

    thread = threading.Thread(target=do)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


def test_what_is_deleted_meanwhile_is_in_it_whole_or_not_at_all(world, tmp_path, monkeypatch):
    """And who deletes does not wait for the backup."""
    early, late, file = blob_of(b"dropped at once"), blob_of(b"dropped later"), tmp_path / "a.tar"
    link, dump = backup._link, backup.call_command

    def drop_before_the_link(name: str, folder: Path) -> bool:
        if name == early.pk and early.path.exists():
            elsewhere(lambda: blobs.drop(early.pk))
        return link(name, folder)

    def drop_after_it(*command: str, **options: object) -> None:
        if late.path.exists() and not early.path.exists():
            elsewhere(lambda: blobs.drop(late.pk))
        dump(*command, **options)

    monkeypatch.setattr(backup, "_link", drop_before_the_link)
    monkeypatch.setattr(backup, "call_command", drop_after_it)
    monkeypatch.setattr(backup, "_TRIES", 1)
    with pytest.raises(CommandError, match="as fast as"):
        manage("backup", str(file))
    assert not file.exists()
    late = blob_of(b"dropped later")
    monkeypatch.setattr(backup, "_TRIES", 5)
    manage("backup", str(file))
    assert not late.path.exists()
    found = rows(file)
    assert (("library.blob", early.pk) in found, ("library.blob", late.pk) in found) == (False, True)
    with tarfile.open(file) as tar:
        assert tar.extractfile(f"blobs/{late.pk[:2]}/{late.pk}").read() == b"dropped later"


def test_a_damaged_and_a_lost_file_are_said_and_the_rest_is_restored(world, settings, tmp_path):
    lost, bad, file = world.owner.model.blob, world.owner.dataset.blob, tmp_path / "a.tar"
    lost.path.unlink()
    bad.path.write_bytes(b"somebody else's")
    with pytest.raises(CommandError, match="lacks 2 file"):
        manage("backup", str(file))
    wipe(settings)
    assert bad.pk in manage("restore", str(file))
    assert not bad.path.exists()
    assert world.team_mate.dataset.blob.path.read_bytes() == b"data of the team-mate"


def test_restoring_is_refused_where_it_would_do_harm(world, settings, tmp_path, monkeypatch):
    file = tmp_path / "a.tar"
    manage("backup", str(file))
    with pytest.raises(CommandError, match="there already"):
        manage("backup", str(file))
    with pytest.raises(CommandError, match=r"database is not empty: it holds 2 .*--replace"):
        manage("restore", str(file))
    Worker.objects.create(name="cpu1@here", seen_at=timezone.now())
    with pytest.raises(CommandError, match="cpu1@here was heard of"):
        manage("restore", str(file), "--replace")
    Worker.objects.all().delete()
    content = file.read_bytes()
    (tmp_path / "cut.tar").write_bytes(content[: len(content) // 2])
    with pytest.raises(CommandError, match="cut short"):
        manage("restore", str(tmp_path / "cut.tar"), "--replace")
    with pytest.raises(CommandError, match=r"no backup|cut short"):
        manage("restore", __file__, "--replace")
    (tmp_path / "bad.tar").write_bytes(content.replace(b"data of the owner", b"data of somebody."))
    with pytest.raises(CommandError, match="damaged: blobs/"):
        manage("restore", str(tmp_path / "bad.tar"), "--replace")
    (tmp_path / "rows.tar").write_bytes(content.replace(b'"username": "owner"', b'"username": "thief"'))
    with pytest.raises(CommandError, match=r"damaged: database\.jsonl"):
        manage("restore", str(tmp_path / "rows.tar"), "--replace")
    later = {**migrated.expected(), "jobs": "0999_later"}
    monkeypatch.setattr(migrated, "expected", lambda: later)
    with pytest.raises(CommandError, match=r"0999_later.*Restore it with that release"):
        manage("restore", str(file), "--replace")
    monkeypatch.undo()
    assert world.owner.job.artifacts.exists(), "all is as it was"
    newer = blob_of(b"newer")
    manage("restore", str(file), "--replace")
    assert not Blob.objects.filter(pk=newer.pk).exists()
    assert world.owner.job.artifacts.exists()


def test_a_row_that_the_database_refuses_is_named_and_all_is_as_it_was(world, tmp_path, monkeypatch):
    file = tmp_path / "a.tar"
    manage("backup", str(file))
    save, job = DeserializedObject.save, world.owner.job

    def refuse(one, **options: object) -> None:
        if one.object == job:
            raise DataError("value too long")
        save(one, **options)

    monkeypatch.setattr(DeserializedObject, "save", refuse)
    with pytest.raises(CommandError, match=rf"jobs\.Job {job.pk} does not go into this database: value too long"):
        manage("restore", str(file), "--replace")
    assert world.owner.job.artifacts.exists()


@pytest.mark.slow
@pytest.mark.skipif(postgres.programs() is None, reason="PostgreSQL is not installed")
def test_from_sqlite_to_postgresql_and_back(world, settings, tmp_path):
    """Nothing but the run that begins anew differs, whichever database wrote it."""
    before, first, second = downloads(world), tmp_path / "first.tar", tmp_path / "second.tar"
    manage("backup", str(first))
    code = (
        "import django; django.setup(); from django.core.management import call_command as call; "
        f"call('restore', {str(first)!r}); call('backup', {str(second)!r}); call('check_storage')"
    )
    with tempfile.TemporaryDirectory(prefix="backup-") as folder:
        Path(folder).chmod(0o755)  # the database server runs as somebody else
        with postgres.Cluster(Path(folder) / "pg") as cluster:
            env = {
                **os.environ, "DATABASE_URL": cluster.url, "NR_DATA_DIR": str(tmp_path / "there"),
                "DJANGO_SETTINGS_MODULE": "webapp.settings",
            }  # fmt: skip
            done = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "0 wrong" in done.stdout
    wipe(settings)
    manage("restore", str(second))
    assert downloads(world) == before
    third = tmp_path / "third.tar"
    manage("backup", str(third))
    assert_the_same(world, rows(first), rows(third))
