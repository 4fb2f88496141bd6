"""An object store, and machines that share nothing else: the same bits, and never a wrong one."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pytest
from django.core.files.storage import storages
from django.core.management import call_command
from django.utils import timezone

from repair_engine.settings import Repair
from tests.webapp.far_store import FarStore
from tests.webapp.helpers import blob_of, on, rested
from webapp.jobs import bells, cleanup, removal, requests, resuming, services, storage
from webapp.jobs.engine import get_engine
from webapp.jobs.models import Job, Shard
from webapp.library import blobs, cache
from webapp.library.models import Blob
from webapp.library.store import Damaged, get_store
from webapp.steady import NO_STORE, StoreAway

MACHINES = ("web", "one", "two")


@pytest.fixture(autouse=True)
def far(settings, tmp_path, monkeypatch) -> FarStore:
    settings.STORAGES = {
        **settings.STORAGES,
        "store": {
            "BACKEND": "tests.webapp.far_store.FarStore",
            "OPTIONS": {"location": str(tmp_path / "far"), "allow_overwrite": True},
        },
    }
    monkeypatch.setattr(FarStore, "given", [])
    monkeypatch.setattr(FarStore, "spoilt", {})
    settings.CACHE_BYTES, settings.DATA_DIR = 1 << 30, tmp_path / "web"
    monkeypatch.setattr(cache, "_looked", (float("-inf"), 0.0))
    on(settings, "web")
    found = storages["store"]
    assert isinstance(found, FarStore)
    return found


def worked(world, settings, *machines: str, before: Callable[[], object] = lambda: None) -> None:
    """Each message is heard by the next machine."""
    for machine in cycle(machines):
        if not world.bells.rung:
            return
        on(settings, machine)
        before()
        world.bells.answer(most=1)


def results(job: Job) -> tuple:
    job.refresh_from_db()
    assert job.state == Job.State.SUCCEEDED, job.detail or job.error
    return job.result, {one.name: one.blob.path.read_bytes() for one in job.artifacts.all()}


def test_machines_that_share_nothing_come_to_the_bits_of_one(world, settings):
    worked(world, settings, "one", "two")
    on(settings, "web")
    made = results(world.owner.job)
    assert made == results(world.team_mate.job)
    assert Job.objects.get(pk=world.owner.job.pk).work not in os.listdir(settings.JOB_DIR), "web has no part in it"
    for machine in MACHINES:
        assert list(on(settings, machine).glob("incoming/*")) == []
    on(settings, "alone")
    settings.STORAGES = {**settings.STORAGES, "store": {"BACKEND": "webapp.library.store.Folder"}}
    person = world.owner
    assert blob_of(b"model of the owner") == person.model.blob
    assert blob_of(b"data of the owner") == person.dataset.blob
    job, _ = services.create_job(
        owner=person.user, model=person.model, dataset=person.dataset, asked=Repair(metric="accuracy", seed=1)
    )
    world.bells.answer()
    assert results(job) == made


def test_a_worker_that_comes_anew_has_nothing_and_goes_on(world, settings):
    """Every message is heard by a machine that has just been made."""
    numbers = iter(range(1000))
    for _ in range(1000):
        if not world.bells.rung:
            break
        on(settings, f"new{next(numbers)}")
        get_engine.cache_clear()
        world.bells.answer(most=1)
    on(settings, "web")
    assert results(world.owner.job) == results(world.team_mate.job)


def test_what_is_not_what_was_put_is_thrown_away_and_asked_for_once_more(world, settings, far, caplog):
    blob, content = world.owner.model.blob, b"model of the owner"
    on(settings, "one")
    far.spoilt[blob.stored_as] = 1
    assert blob.path.read_bytes() == content
    assert blob.stored_as in caplog.text
    on(settings, "two")
    far.spoilt[blob.stored_as] = 2
    with pytest.raises(Damaged, match=blob.stored_as):
        _ = blob.path
    assert list(settings.INCOMING_DIR.iterdir()) == list(settings.BLOB_DIR.rglob("*/*")) == []


def test_a_spoilt_object_is_an_error_that_names_it_and_never_a_result(world, settings, far):
    worked_until(world, settings, "search")
    job = world.owner.job
    part = next(one for one in far.entries(f"jobs/{job.pk}/parts") if one.name.endswith(state_of(job)))
    far.path_of(part.name).write_bytes(b"something else")
    for _ in range(20):
        rested()
        worked(world, settings, "three", "four")
        ring(world, job)
    job.refresh_from_db()
    assert job.state == Job.State.FAILED
    assert part.name in job.detail
    assert not job.artifacts.exists()


def test_a_damaged_file_of_the_cache_is_fetched_anew(world, settings, far):
    worked_until(world, settings, "search")
    job = world.owner.job
    root = on(settings, "one")
    for path in root.glob(f"jobs/{job.pk}/parts/*"):
        path.write_bytes(b"a cosmic ray")
    worked(world, settings, "one")
    assert results(job) == results(world.team_mate.job)


@pytest.mark.parametrize("fault", ["gone", "full"])
@pytest.mark.parametrize("phase", ["prepare", "search", "finish"])
def test_a_store_that_is_away_is_waited_for(world, settings, far, monkeypatch, fault, phase):
    job = world.owner.job
    worked_until(world, settings, phase)
    monkeypatch.setattr(FarStore, fault, True)
    worked(world, settings, "one", "two")
    job.refresh_from_db()
    assert not job.ended
    page = world.owner.browser.get(f"/repairs/{job.pk}/").content.decode()
    assert NO_STORE in page
    said = world.owner.api.get(f"/api/v1/repairs/{job.pk}/").json()
    assert said["progress"]["held"] == NO_STORE
    monkeypatch.setattr(FarStore, fault, False)
    for _ in range(3):
        rested()
        ring(world, job, world.team_mate.job)
        worked(world, settings, "two", "one")
    assert results(job) == results(world.team_mate.job)
    assert not Shard.objects.filter(failures__gt=0).exists(), "it counts as no attempt"


def test_web_says_that_the_store_is_away_and_loses_nothing(world, settings, far, monkeypatch):
    worked(world, settings, "one")
    on(settings, "web")
    url = f"/api/v1/repairs/{world.owner.job.pk}/results/report.json"
    monkeypatch.setattr(FarStore, "gone", True)
    answer = world.owner.api.get(url)
    assert (answer.status_code, answer.json()["detail"]) == (503, "The object store cannot be used just now.")
    monkeypatch.setattr(FarStore, "gone", False)
    assert world.owner.api.get(url).status_code == 200


def test_dropped_objects_go_and_cached_copies_with_them(world, settings, far):
    blob = blob_of(b"alone")
    assert far.exists(blob.stored_as)
    assert far.at(blob.stored_as).exists()
    assert blobs.drop(blob.pk)
    assert not far.exists(blob.stored_as)
    assert not far.at(blob.stored_as).exists()


def test_what_was_sent_and_then_not_put_goes(world, settings, far):
    path = settings.INCOMING_DIR / "new"
    path.write_bytes(b"too much")
    ready = blobs.ready(path)
    name = Blob(sha256=ready.sha256).stored_as
    assert far.exists(name)
    with pytest.raises(ZeroDivisionError), blobs.or_given_up(ready):
        _ = 1 / 0
    assert not far.exists(name)
    mine = world.owner.model.blob
    blobs.give_up(blobs.Ready(path, mine.pk, mine.size))
    assert far.exists(mine.stored_as), "it has a row"


def test_an_object_that_went_between_sending_and_putting_is_sent_again(world, settings, far):
    path = settings.INCOMING_DIR / "new"
    path.write_bytes(b"raced")
    ready = blobs.ready(path)
    far.delete(Blob(sha256=ready.sha256).stored_as)
    blob = blobs.put(ready)
    on(settings, "two")
    assert blob.path.read_bytes() == b"raced"


def test_a_run_that_failed_goes_on_and_begins_anew_where_objects_are_gone(world, settings, far):
    job = world.owner.job
    worked_until(world, settings, "search")
    world.bells.rung.clear()
    expected = None
    for gone in (False, True):
        Job.objects.filter(pk=job.pk).update(state=Job.State.FAILED, fault="server")
        job.refresh_from_db()
        if gone:
            far.delete_folder(f"jobs/{job.pk}")
        on(settings, "three" if gone else "two")
        assert resuming.resume(job)
        job.refresh_from_db()
        assert job.phase == ("prepare" if gone else "search")
        ring(world, job)
        if not gone:
            continue
        worked(world, settings, "one", "two")
        expected = results(job)
    ring(world, world.team_mate.job)
    worked(world, settings, "one", "two")
    assert results(world.team_mate.job) == expected


def test_the_cache_keeps_to_its_bound_and_to_what_is_in_use(world, settings, far, monkeypatch):
    monkeypatch.setattr(cache, "FRESH", -1.0)
    monkeypatch.setattr(cache, "AGAIN", 0.0)
    kept = [blob_of(bytes([i]) * 1000) for i in range(6)]
    root = on(settings, "one")
    settings.CACHE_BYTES = 3500
    with cache.in_use():
        first = kept[0].path
        for one in kept[1:]:
            with cache.in_use():
                _ = one.path
            time.sleep(0.01)
        assert first.exists(), "somebody works with it"
        assert sum(path.stat().st_size for path in root.glob("blobs/*/*")) <= 3500
    _ = kept[1].path, kept[2].path, kept[3].path
    assert not first.exists(), "it was used longest ago"
    assert kept[0].path.read_bytes() == bytes(1000), "and comes again"


def test_a_fetch_makes_room_on_a_full_disk(world, settings, far, monkeypatch):
    old, new = blob_of(b"old" * 100), blob_of(b"new" * 100)
    on(settings, "one")
    path = old.path
    monkeypatch.setattr(cache, "FRESH", -1.0)
    usage = shutil.disk_usage(settings.DATA_DIR)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: usage._replace(free=100))
    assert new.path.read_bytes() == b"new" * 100
    assert not path.exists()


def test_a_download_of_two_processes_at_once_is_one(world, settings, far):
    blob = blob_of(b"wanted by both")
    on(settings, "one")
    threads = [threading.Thread(target=lambda: blob.path.read_bytes()) for _ in range(8)]
    far.given.clear()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert far.given == [blob.stored_as]


def test_check_cleanup_and_removal_work_on_objects(world, settings, far, monkeypatch, capsys):
    worked(world, settings, "one", "two")
    on(settings, "web")
    call_command("check_storage")
    assert "0 wrong" in capsys.readouterr().out
    orphan = blob_of(b"orphan")
    Blob.objects.filter(pk=orphan.pk).delete()
    victim = world.owner.model.blob
    far.path_of(victim.stored_as).write_bytes(b"wrong")
    monkeypatch.setattr(storage, "UNDER_WAY", -1.0)
    found = {finding.where: finding for finding in storage.check(repair=True)}
    assert set(found) == {orphan.stored_as, victim.stored_as}
    kept = [one.name for one in far.entries(storage.QUARANTINE)]
    assert sorted(name.split("--")[0] for name in kept) == sorted(f"quarantine/{pk}" for pk in (orphan.pk, victim.pk))
    assert blob_of(b"model of the owner") == victim
    assert far.digest(victim.stored_as) == victim.pk

    job = world.owner.job
    assert list(far.entries(f"jobs/{job.pk}"))
    for thing in cleanup.KINDS["working"].things(0):
        assert thing.bytes
        thing.remove()
    assert not list(far.entries("jobs"))
    removal.delete_job(job)
    removal.purge(job)
    assert len(list(far.entries("blobs"))) == Blob.objects.count()
    stray = far.path_of(f"jobs/{job.pk}/parts/x")
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_bytes(b"x")
    assert [thing.names for thing in cleanup.KINDS["objects"].things(0)] == [(f"jobs/{job.pk}",)]


def test_backup_and_restore(world, settings, far, tmp_path, monkeypatch):
    worked(world, settings, "one", "two")
    on(settings, "web")
    before, file = results(world.owner.job), tmp_path / "a.tar"
    unused = blob_of(b"dropped while it is written")
    plain = far.checked

    def drop_meanwhile(name: str, sha256: str) -> Path:
        if Blob.objects.filter(pk=unused.pk).exists():
            blobs.drop(unused.pk)
        return plain(name, sha256)

    monkeypatch.setattr(far, "checked", drop_meanwhile)
    call_command("backup", str(file))
    monkeypatch.undo()
    assert far.exists(unused.stored_as), "a backup read it: the hourly cleanup takes it"
    assert not list(far.entries(blobs.HOLDS))
    assert not list(settings.INCOMING_DIR.iterdir())
    shutil.rmtree(far.location)
    on(settings, "another")
    call_command("restore", str(file), "--replace")
    assert results(world.owner.job) == before
    assert far.digest(unused.stored_as) == unused.pk


def test_a_store_that_has_nothing_says_what_is_missing(settings, far, db):
    with pytest.raises(Damaged, match="blobs/ab/ab"):
        get_store().fetch("blobs/ab/ab", "ab")


def test_a_full_disk_here_is_not_the_store(world, settings, far, monkeypatch):
    blob = blob_of(b"content")
    on(settings, "one")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("webapp.library.objects.sha256_of", full)
    with pytest.raises(OSError, match="No space") as caught:
        _ = blob.path
    assert not isinstance(caught.value, StoreAway)


# --- tools --------------------------------------------------------------------------------------------------


def worked_until(world, settings, phase: str) -> None:
    """Both runs are in this phase, on two machines."""
    for machine in cycle(("one", "two")):
        Job.objects.filter(phase=phase).update(paused_at=timezone.now())  # not yet
        if set(Job.objects.values_list("phase", flat=True)) == {phase}:
            break
        on(settings, machine)
        bells.ring("cpu")
        world.bells.answer(most=1)
    Job.objects.update(paused_at=None)
    on(settings, "web")


def state_of(job: Job) -> str:
    job.refresh_from_db()
    return job.states.get(phase=job.phase, round=job.round).sha256


def ring(world, *jobs: Job) -> None:
    for job in jobs:
        job.refresh_from_db()
        bells.ring(job.queue)
        bells.ring_advance(job)


@pytest.mark.parametrize("asked", [{"metric": "subgroup-recall:ground", "budget": 4000}], ids=["repair"])
def test_the_real_engine_finds_its_files_on_any_machine(real, world, settings, asked):
    """What preparing wrote says where files lay on the machine that prepared; here each message is another's."""
    post, files, _ = real
    plain = world.bells.answer
    at_home = files(post(**asked, seed=3, name="at home"))
    numbers = iter(range(1000))

    def elsewhere() -> None:
        while world.bells.rung:
            on(settings, f"machine{next(numbers) % 3}")
            plain(most=1)

    world.bells.answer = elsewhere
    away = files(post(**asked, seed=3, name="away"))
    assert at_home.keys() == away.keys()
    for name in ("repaired.onnx", "predictions.csv"):
        assert away[name] == at_home[name]


def test_what_was_asked_of_an_attack_is_found_on_another_machine(world, settings):
    model, images = world.owner.model.blob, world.owner.dataset.blob
    far_away = Path("/somewhere/else/blobs")
    kept = {
        "model": {"path": str(far_away / model.pk[:2] / model.pk), "options": {"path": "its own"}},
        "data": {"path": str(far_away / images.pk[:2] / images.pk)},
        "guard": None,
        "surrogates": [{"path": str(far_away / model.pk[:2] / model.pk)}],
    }
    root = on(settings, "one")
    found = requests.at_hand(kept)
    places = [found["model"]["path"], found["data"]["path"], found["surrogates"][0]["path"]]
    assert [Path(path).read_bytes()[:5] for path in places] == [b"model", b"data ", b"model"]
    assert all(Path(path).is_relative_to(root) for path in places)
    assert found["model"]["options"] == {"path": "its own"}
    assert found["guard"] is None
