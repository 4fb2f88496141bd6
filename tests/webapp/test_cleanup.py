"""What is kept for how long: by beat, and by `manage.py cleanup`."""

from __future__ import annotations

import io
import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.sessions.models import Session
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.utils import timezone

from tests.webapp.helpers import blob_of
from webapp.accounts import services as accounts
from webapp.accounts.models import ApiToken
from webapp.jobs import cleanup, reaper, removal, storage
from webapp.jobs.models import Delivery, Job
from webapp.library.models import Blob


def run(*options: str) -> dict[str, str]:
    """The line of each kind."""
    out = io.StringIO()
    call_command("cleanup", *options, stdout=out)
    return {line.partition(":")[0]: line for line in out.getvalue().splitlines() if not line.startswith(" ")}


def test_each_kind_goes_when_its_time_is_over_and_not_before(world, settings):
    """Young things stay, old ones go; a dry run counts them and touches nothing."""
    long_ago = timezone.now() - timedelta(days=400)
    world.bells.answer()
    removal.delete_job(world.team_mate.job)
    Job.objects.update(webhook_url="https://example.org/")
    for state in ("delivered", "pending"):
        Delivery.objects.create(job=world.owner.job, event=state, state=state, due_at=long_ago)
    accounts.create_token(owner=world.owner.user, name="old", expires_at=long_ago)
    for one in (world.owner, world.team_mate):
        assert one.browser.get("/").status_code == 200
    Session.objects.filter(pk=Session.objects.first().pk).update(expire_date=long_ago)
    kept = Path(storage.quarantine(blob_of(b"kept").stored_as, "stray"))
    stray = settings.INCOMING_DIR / "up-cut-off"
    stray.write_bytes(b"half")
    case = settings.JOB_DIR / "what-if" / "x"
    case.mkdir(parents=True)
    (case / "pixels").write_bytes(b"0" * (3 << 20))

    young = run()
    assert {kind for kind, line in young.items() if ": 0 gone" not in line} == {"tokens", "sessions"}
    assert stray.exists()
    assert kept.exists()
    assert case.exists()
    assert Delivery.objects.count() == 2

    Job.objects.filter(deleted_at=None).update(finished_at=long_ago)
    Job.objects.exclude(deleted_at=None).update(deleted_at=long_ago)
    Delivery.objects.update(created_at=long_ago)
    settings.KEEP_DAYS = {"quarantine": 0.0}  # when a file got its name cannot be set back
    for path in (stray, case):
        os.utime(path, (1, 1))
    dry = run("--dry-run")
    assert dry == run("--dry-run"), "it touches nothing"
    due = {"deleted", "working", "cases", "uploads", "quarantine", "deliveries"}
    assert {kind for kind, line in dry.items() if ": 1 would go" in line} == due
    assert "3 MiB" in dry["cases"]
    gone = run()
    assert {kind: line.replace("would go", "gone") for kind, line in dry.items()} == gone
    assert not any(path.exists() for path in (kept, stray, case, world.owner.job.directory))
    assert [one.state for one in Delivery.objects.all()] == ["pending"]
    assert ApiToken.objects.filter(name="old").count() == 0
    assert ApiToken.objects.count() == 2
    assert not Job.objects.filter(pk=world.team_mate.job.pk).exists()
    assert all(one.blob.path.exists() for one in world.owner.job.artifacts.all()), "results stay"
    assert {line for line in run().values() if ": 0 gone" not in line} == set()


def test_how_long_is_a_setting(world, settings):
    world.bells.answer()
    Job.objects.update(state="failed", fault="server", finished_at=timezone.now() - timedelta(days=8))
    settings.KEEP_DAYS = {"failed": 30.0}
    reaper.reap(force=True)
    assert world.owner.job.directory.exists()
    assert ": 2 would go" in run("failed", "--dry-run", "--keep", "failed=7")["failed"]
    settings.KEEP_DAYS = {}
    reaper.reap(force=True)
    assert not world.owner.job.directory.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("nothing",), "no kind 'nothing'. Kinds: deleted, working"),
        (("--keep", "nothing=1"), "no kind 'nothing'"),
        (("--keep", "failed=soon"), "failed=soon: expected days"),
        (("--keep", "failed=-1"), "expected days"),
        (("--keep", "deleted=1"), "promised"),
    ],
)
def test_what_cannot_be_asked_for(db, options, said):
    with pytest.raises(CommandError, match=said):
        run(*options)


def test_a_setting_that_names_no_kind_is_found_by_check(settings):
    settings.KEEP_DAYS = {"quarantin": 3.0}
    assert "no kind 'quarantin'" in next(str(one) for one in run_checks() if one.id == "webapp.E009")


def test_what_crashes_left_of_blobs_goes_and_nothing_else(world, settings):
    unused, orphan = blob_of(b"nobody's"), blob_of(b"orphan")
    Blob.objects.filter(pk=orphan.pk).delete()
    run("blobs", "--keep", "blobs=1")
    assert unused.path.exists()
    assert orphan.path.exists()  # too young
    time.sleep(0.01)
    run("blobs", "--keep", "blobs=0")
    assert not Blob.objects.filter(pk=unused.pk).exists()
    assert not unused.path.exists()
    assert not orphan.path.exists()
    assert next((settings.DATA_DIR / storage.QUARANTINE).glob(f"{orphan.pk}--*")).read_bytes() == b"orphan"
    call_command("check_storage", stdout=io.StringIO())


def test_an_empty_database_is_no_reason_to_empty_the_store(transactional_db):
    orphan = blob_of(b"orphan")
    Blob.objects.all().delete()
    run("blobs", "--keep", "blobs=0")
    assert orphan.path.exists()


def test_beat_looks_once_an_hour(world, monkeypatch):
    looked = []
    kind = cleanup.Kind("blobs", "", timedelta(0), lambda before: looked.append(before) or [])
    monkeypatch.setattr(cleanup, "KINDS", {"blobs": kind})
    for _ in range(3):
        reaper.reap(force=True)
    assert len(looked) == 1
