"""Blobs hold what their names say, whoever stores and drops at the same moment, and wherever a process dies."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import threading

import pytest
from django.db import connection, transaction

from repair_engine.support.outputs import sha256
from tests.webapp.helpers import blob_of
from tests.webapp.real_stack import ROOT
from webapp.library import blobs
from webapp.library.errors import Miswritten
from webapp.library.models import Blob

STORES = 60
STORER = """
import sys; from pathlib import Path
import django; django.setup()
from webapp.library import blobs
me, folder = sys.argv[1], Path(sys.argv[2])
folder.mkdir()
for i in range({n}):
    path = folder / "report.json"
    shared = i % 8 == 0  # the same content in both, now and then
    path.write_bytes((f"{{'both' if shared else me}} {{i}} ".encode()) * (20000 + 997 * i))
    blobs.put(blobs.ready_copy(path))
"""


def test_two_processes_that_have_the_same_process_id(transactional_db, settings, tmp_path):
    """As two containers on one volume: each is process 1 of its own namespace."""
    own = ["unshare", "--map-root-user", "--pid", "--fork"]
    if not shutil.which("unshare") or subprocess.run([*own, "true"], capture_output=True).returncode:
        pytest.skip("this machine allows no PID namespaces (unshare): NOT CHECKED that process ids may be shared")
    where = connection.settings_dict
    url = (
        f"sqlite:///{where['NAME']}"
        if connection.vendor == "sqlite"
        else f"postgres://{where['USER']}:{where['PASSWORD']}@{where['HOST']}:{where['PORT']}/{where['NAME']}"
    )
    env = {**os.environ, "DATABASE_URL": url, "NR_DATA_DIR": str(settings.DATA_DIR)}
    running = [
        subprocess.Popen(
            [*own, sys.executable, "-c", STORER.format(n=STORES), me, str(tmp_path / me)],
            cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True,
        )
        for me in ("one", "two")
    ]  # fmt: skip
    for process in running:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    files = list(settings.BLOB_DIR.glob("??/*"))
    assert [path.name for path in files if sha256(path) != path.name] == []
    assert len(files) == Blob.objects.count() == 2 * STORES - 8
    assert list(settings.INCOMING_DIR.iterdir()) == []


def test_what_was_not_written_right_gets_no_name(transactional_db, settings, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"cut sho")
    with pytest.raises(Miswritten):
        blobs.store(path, sha256=hashlib.sha256(b"cut short").hexdigest())
    assert not Blob.objects.exists()
    assert not settings.BLOB_DIR.exists()


def test_storing_the_same_content_again_mends_a_damaged_file(transactional_db):
    blob = blob_of(b"right")
    blob.path.write_bytes(b"wrong")
    assert blob_of(b"right") == blob
    assert blob.path.read_bytes() == b"right"
    blob.path.unlink()
    blob_of(b"right")
    assert blob.path.read_bytes() == b"right"


def test_a_file_goes_after_the_commit_and_not_before(transactional_db):
    blob = blob_of(b"content")

    @transaction.atomic
    def killed_before_commit() -> None:
        assert blobs.drop(blob.pk)
        assert blob.path.exists()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed_before_commit()
    assert Blob.objects.filter(pk=blob.pk).exists()
    assert blob.path.exists()
    assert blobs.drop(blob.pk)
    assert not blob.path.exists()


def test_what_is_stored_between_the_commit_and_the_removal_stays(transactional_db, monkeypatch):
    blob = blob_of(b"content")
    plain = blobs._delete_unless_stored

    def late(sha256: str) -> None:
        blob_of(b"content")  # somebody else's
        plain(sha256)

    monkeypatch.setattr(blobs, "_delete_unless_stored", late)
    assert blobs.drop(blob.pk)
    assert Blob.objects.filter(pk=blob.pk).exists()
    assert blob.path.read_bytes() == b"content"


def test_storing_and_dropping_at_once(transactional_db):
    """Whatever the order: a row has its file, and a file its row."""
    failures: list[Exception] = []

    def again(act) -> None:
        try:
            for _ in range(25):
                act()
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    pk = blob_of(b"content").pk
    threads = [
        threading.Thread(target=again, args=(act,))
        for act in (lambda: blob_of(b"content"), lambda: blobs.drop(pk), lambda: blob_of(b"content"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert Blob(pk).path.exists() == Blob.objects.filter(pk=pk).exists()
