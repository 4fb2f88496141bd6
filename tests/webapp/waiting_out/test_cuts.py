"""Nothing that is done is lost where a connection is cut or a disk is full."""

from __future__ import annotations

import errno
from datetime import timedelta

import pytest
from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone

from repair_engine.settings import Repair
from tests.webapp.helpers import rested
from tests.webapp.waiting_out.helpers import what_came_of
from webapp import steady
from webapp.jobs import files, leases, live, reaper, runner, services
from webapp.jobs.engine import get_engine
from webapp.jobs.models import Shard
from webapp.library.models import ModelUpload, Upload

CUTS = [
    OperationalError("terminating connection due to administrator command"),
    InterfaceError("connection already closed"),
]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("error", CUTS, ids=["operational", "interface"])
@pytest.mark.parametrize("what", ["claim", "renew", "keep", "finish", "give_back", "fail", "put_off"])
def test_a_connection_that_is_cut_before_or_after_a_write(job, no_waiting, what, error, after):
    """Each step is made again on a new connection, and answers as if nothing had happened."""
    shard = job.shards.get(phase="search")
    lease = leases.claim(shard.pk, "a/1/1") if what != "claim" else None
    cut = []

    def cutting(execute, sql, params, many, context):
        if not sql.startswith("UPDATE") or cut:
            return execute(sql, params, many, context)
        cut.append(sql)
        if after:
            execute(sql, params, many, context)
        raise error

    steps = {
        "claim": lambda: leases.claim(shard.pk, "a/1/1"),
        "renew": lambda: leases.renew(lease, done=7) or True,
        "keep": lambda: leases.keep(lease, parts=["0" * 64], saved=100) or True,
        "finish": lambda: leases.finish(lease, result="0" * 64) or True,
        "give_back": lambda: leases.give_back(lease, error="ValueError: no"),
        "fail": lambda: leases.fail(lease, fault="input", problem="no", mend=""),
        "put_off": lambda: leases.put_off(lease, held="full"),
    }
    with connection.execute_wrapper(cutting):
        assert steps[what]()
    assert cut
    assert no_waiting
    shard.refresh_from_db()
    expected = {"claim": "leased", "renew": "leased", "keep": "leased", "finish": "done", "fail": "failed"}
    assert shard.state == expected.get(what, "pending")
    assert shard.failures == (what in ("give_back", "fail")), "counted once"


def test_a_cut_in_the_middle_of_a_job_changes_nothing(world, job, undisturbed, no_waiting, settings):
    """Every seventh statement finds its connection closed."""
    count = [0]

    def cutting(execute, sql, params, many, context):
        count[0] += 1
        if count[0] % 7 == 0 and not connection.in_atomic_block:
            raise InterfaceError("connection already closed")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(cutting):
        for _ in range(40):
            try:
                world.bells.answer()
            except InterfaceError:
                continue  # of the bells themselves, which the reaper rings again
    settings.REAP_EVERY = 0.0  # time has passed
    for _ in range(10):
        rested()
        Shard.objects.filter(state=Shard.State.PENDING).update(rung_at=None)
        reaper.reap(force=True)
        world.bells.answer()
    assert what_came_of(job) == undisturbed
    assert not job.shards.exclude(failures=0).exists()


def test_a_reaper_without_a_database_does_not_spoil_a_page(world, job, monkeypatch):
    monkeypatch.setattr(leases, "expire", lambda: (_ for _ in ()).throw(OperationalError("database or disk is full")))
    assert world.owner.api.get(f"/api/v1/repairs/{job.pk}/").status_code == 200


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OperationalError("database or disk is full"),
        OperationalError('could not extend file "base/1/2": No space left on device'),
    ],
    ids=["ENOSPC", "EDQUOT", "sqlite", "postgresql"],
)
@pytest.mark.parametrize("where", ["put", "merge", "ready_copy"])
def test_a_full_disk_is_waited_for_and_said(world, job, undisturbed, no_waiting, monkeypatch, error, where):
    """While blocks are written, rounds merged, results stored: more often than anything is tried, and no attempt."""
    from webapp.library import blobs

    place = {"put": files, "merge": get_engine(), "ready_copy": blobs}[where]
    plain, left = getattr(place, where), [5]

    def full(*args, **more):
        if left[0]:
            left[0] -= 1
            raise error
        return plain(*args, **more)

    monkeypatch.setattr(place, where, full)
    said = set()
    for _ in range(12):
        try:
            world.bells.answer()
        except OperationalError:  # of merging: the message is lost, the reaper rings again
            assert isinstance(error, OperationalError)
        job.refresh_from_db()
        said.add(live.progress(job).held)
        rested()
        Shard.objects.filter(job=job).exclude(finished_at=None).update(finished_at=timezone.now() - timedelta(hours=1))
        reaper.reap(force=True)
    assert what_came_of(job) == undisturbed
    assert not job.shards.exclude(failures=0).exists()
    assert steady.NO_ROOM in said or isinstance(error, OperationalError)
    assert live.progress(job).held == ""


def test_a_disk_that_is_full_now_is_said_on_page_and_api_though_nothing_can_be_written(world, job, monkeypatch):
    monkeypatch.setattr(live, "no_room_left", lambda: True)
    assert "disk of the server is full" in world.owner.browser.get(f"/repairs/{job.pk}/").content.decode()
    assert "full" in world.owner.api.get(f"/api/v1/repairs/{job.pk}/").json()["progress"]["held"]


def test_repeated_attempts_do_not_fill_the_disk(world, job, monkeypatch):
    """What failed attempts of preparing had written is gone."""
    owner, engine = world.owner, get_engine()
    plain = engine.prepare

    def half(request, work, note):
        (work / "half").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(engine, "prepare", half)
    other, _ = services.create_job(owner=owner.user, model=owner.model, dataset=owner.dataset, asked=Repair())
    shard = other.shards.get()
    for _ in range(3):
        lease = leases.claim(shard.pk, "a/1/1")
        with pytest.raises(OSError):
            runner.run(lease)
        leases.put_off(lease, held="full")
        rested()
    assert not list(other.directory.glob("prepare-*"))
    leases.claim(shard.pk, "a/1/1")
    (other.directory / "prepare-4").mkdir()  # killed: it could not tidy up
    leases.release_dead("a/1", lambda pid: False)
    rested()
    monkeypatch.setattr(engine, "prepare", plain)
    runner.run(leases.claim(shard.pk, "a/1/1"))
    assert [path.name for path in other.directory.glob("prepare-*")] == ["prepare-5"]


def test_a_full_disk_is_no_verdict_on_an_upload(world, monkeypatch):
    from webapp.library import tasks

    def full(upload):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tasks, "check", full)
    model = world.owner.model
    ModelUpload.objects.filter(pk=model.pk).update(state=Upload.State.VALIDATING)
    for _ in range(5):
        tasks.validate("modelupload", str(model.pk))
    model.refresh_from_db()
    assert (model.state, model.attempts) == (Upload.State.VALIDATING, 0)
