"""`manage.py check_storage`: what is wrong is found, and nothing that may be good is lost."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import subprocess
import sys

import pytest
from django.core.management import CommandError, call_command

from tests.webapp.helpers import blob_of
from tests.webapp.real_stack import ROOT
from webapp.jobs import storage
from webapp.library.models import Blob


def check(*options: str) -> tuple[str, str]:
    """What it prints, and what it ends with."""
    out = io.StringIO()
    try:
        call_command("check_storage", *options, stdout=out)
    except CommandError as error:
        return out.getvalue(), str(error)
    return out.getvalue(), ""


def test_a_good_store_is_good(world):
    world.bells.answer()
    assert world.owner.job.artifacts.exists()
    out, error = check()
    assert error == ""
    assert out == f"{Blob.objects.count()} blobs: 0 wrong, 0 mended.\n"


def test_wrong_content_is_moved_away_and_returns_with_the_next_upload(world, settings):
    blob = world.owner.dataset.blob
    blob.path.write_bytes(b"somebody else's")
    out, error = check()
    assert "holds other content" in out
    assert "of owner" in out
    assert "1 left" in error
    assert blob.path.exists()
    out, _ = check("--repair")
    actual = hashlib.sha256(b"somebody else's").hexdigest()
    kept = settings.DATA_DIR / storage.QUARANTINE / f"{blob.pk}--{actual}"
    assert str(kept) in out
    assert kept.read_bytes() == b"somebody else's"
    assert not blob.path.exists()
    blob_of(b"data of the owner")
    assert check() == (f"{Blob.objects.count()} blobs: 0 wrong, 0 mended.\n", "")


def test_content_under_the_wrong_name_goes_to_the_row_that_lacks_it(world):
    mine, theirs = world.owner.dataset.blob, world.team_mate.dataset.blob
    os.replace(theirs.path, mine.path)
    out, error = check("--repair")
    assert "put back" in out
    assert "2 left" in error  # the file that was moved away, and the row that has none now
    assert theirs.path.read_bytes() == b"data of the team-mate"
    assert not mine.path.exists()


def test_rows_without_a_file_and_sizes(world):
    world.owner.model.blob.path.unlink()
    Blob.objects.filter(pk=world.owner.dataset.blob_id).update(size=1)
    out, _ = check("--repair")
    assert "is missing; used by model upload" in out
    assert Blob.objects.get(pk=world.owner.dataset.blob_id).size == len(b"data of the owner")
    assert Blob.objects.filter(pk=world.owner.model.blob_id).exists()


def test_files_without_a_row(world, settings, monkeypatch):
    orphan = blob_of(b"orphan")
    Blob.objects.filter(pk=orphan.pk).delete()
    stray = orphan.path.with_name("notes.txt")
    stray.write_text("mine")
    assert "has no row" not in check()[0]  # it may be a transaction's that has not ended
    monkeypatch.setattr(storage, "UNDER_WAY", -1.0)
    out, error = check("--repair")
    assert ("has no row" in out, "no blob's name" in out, error) == (True, True, "")
    assert not orphan.path.exists()
    assert {path.read_bytes() for path in (settings.DATA_DIR / storage.QUARANTINE).iterdir()} == {b"orphan", b"mine"}
    Blob.objects.create(sha256=orphan.pk, size=6)
    assert "put back" in check("--repair")[0]
    assert orphan.path.read_bytes() == b"orphan"


def test_working_files(world):
    world.bells.answer(most=2)
    part = next(path for path in (world.owner.job.directory / "parts").iterdir())
    part.write_bytes(b"damaged")
    out, error = check()
    assert "used by repair" in out
    assert "left" in error


@pytest.mark.skipif(os.name != "posix", reason="permissions")
def test_others_on_the_machine_read_nothing(tmp_path):
    """Under the usual umask; an older database and folder are closed too."""
    data = tmp_path / "var"
    (data / "blobs").mkdir(parents=True, mode=0o755)
    (data / "db.sqlite3").touch(0o644)
    env = {**os.environ, "NR_DATA_DIR": str(data), "DATABASE_URL": "", "DJANGO_SETTINGS_MODULE": "webapp.settings"}
    code = (
        "import os; os.umask(0o022); import django; django.setup(); from django.db import connection as c; "
        "c.cursor().execute('CREATE TABLE t (a)'); import glob; "
        "print(*(oct(os.stat(p).st_mode) for p in glob.glob(os.environ['NR_DATA_DIR'] + '/db.sqlite3*')))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True, check=True)
    modes = [int(mode, 8) for mode in done.stdout.split()]
    modes += [(data / name).stat().st_mode for name in ("blobs", "incoming", "jobs", "secret_key")]
    assert len(modes) == 7
    assert [oct(mode) for mode in modes if mode & (stat.S_IROTH | stat.S_IXOTH | stat.S_IWOTH)] == []
