"""Nothing that is done is lost: workers that die, connections that are cut, a full disk, and Try again."""

from __future__ import annotations

import errno
import json
import shutil
from datetime import timedelta

import pytest
from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone

from repair_engine.settings import Repair
from tests.webapp.helpers import rested
from webapp import steady
from webapp.jobs import coordinator, files, leases, live, reaper, runner, services
from webapp.jobs.engine import get_engine
from webapp.jobs.leases import LeaseLost
from webapp.jobs.models import Delivery, Job, Shard
from webapp.library.models import ModelUpload, Upload


class Killed(BaseException):
    """The process is gone: nothing of it handles this."""


@pytest.fixture
def job(world, monkeypatch) -> Job:
    """Prepared, with all four blocks of the first round in one shard."""
    from webapp.jobs import sharding

    monkeypatch.setattr(sharding, "_blocks_in_a_minute", lambda job, tasks: 4)
    Job.objects.filter(pk=world.team_mate.job.pk).delete()
    world.bells.answer(most=2)
    world.owner.job.refresh_from_db()
    assert world.owner.job.phase == "search"
    return world.owner.job


@pytest.fixture
def undisturbed(job, world) -> dict:
    """What another job of the same seed gives that nothing happens to."""
    owner = world.owner
    other, _ = services.create_job(
        owner=owner.user, model=owner.model, dataset=owner.dataset, asked=Repair(metric="accuracy", seed=1)
    )
    held, world.bells.rung = world.bells.rung[:-1], world.bells.rung[-1:]
    world.bells.answer()
    world.bells.rung = held
    return what_came_of(other)


def what_came_of(job: Job) -> dict:
    job.refresh_from_db()
    assert job.state == Job.State.SUCCEEDED, job.detail or job.error
    return {one.name: one.blob_id for one in job.artifacts.all()} | {"values": job.result["values"]}


@pytest.fixture
def computed(monkeypatch) -> list[tuple]:
    """Which blocks were computed to their end."""
    engine, done = get_engine(), []
    plain = engine.run_block

    def noted(work, phase, state, task, count):
        block = plain(work, phase, state, task, count)
        done.append((phase, task["round"], task["block"]))
        return block

    monkeypatch.setattr(engine, "run_block", noted)
    return done


def die_in(monkeypatch, block: int, times: int = 1, error: BaseException | None = None) -> None:
    """Whoever works on this block of the first round dies of it, so many times."""
    engine, left = get_engine(), [times]
    plain = engine.run_block

    def deadly(work, phase, state, task, count):
        if (phase, task["round"], task["block"]) == ("search", 0, block) and left[0]:
            left[0] -= 1
            raise error or Killed
        return plain(work, phase, state, task, count)

    monkeypatch.setattr(engine, "run_block", deadly)


def killed_at_work(shard: Shard, worker: str = "cpu1@host/aa/7") -> None:
    """A child process takes the shard and is killed in it; its worker sees that."""
    lease = leases.claim(shard.pk, worker)
    with pytest.raises(Killed):
        runner.run(lease)
    assert leases.release_dead(shard.pk, "cpu1@host") == [shard.pk]
    rested()


def test_finished_blocks_stay_done_when_the_worker_is_killed(world, job, undisturbed, computed, monkeypatch):
    """Four kills, each one block further: today's count of three would have ended it."""
    shard = job.shards.get(phase="search")
    for block in range(4):
        die_in(monkeypatch, block)
        killed_at_work(shard)
        shard.refresh_from_db()
        assert (shard.state, len(shard.parts), shard.saved) == (Shard.State.PENDING, block, 100 * block)
        assert shard.done == 100 * block
    world.bells.answer()
    reaper.reap(force=True)
    world.bells.answer()
    assert what_came_of(job) == undisturbed
    assert sorted(computed) == sorted(set(computed)), "no block was computed twice"
    shard.refresh_from_db()
    assert (shard.done, shard.failures) == (400, 4), "nothing is counted twice"


def test_whoever_dies_at_the_same_block_every_time_ends_the_job_with_its_cause(world, job, monkeypatch):
    shard = job.shards.get(phase="search")
    die_in(monkeypatch, 2, times=99)
    for _ in range(3):
        killed_at_work(shard)
    coordinator.advance(str(job.pk))
    job.refresh_from_db()
    assert (job.state, job.fault) == (Job.State.FAILED, "server")
    assert "3 times in a row while it was searching block 2 of round 0" in job.error
    assert "killed, or out of memory" in job.error


def test_a_late_block_of_a_former_attempt_is_not_kept(job):
    shard = job.shards.get(phase="search")
    slow = leases.claim(shard.pk, "slow/1/1")
    leases.release_dead(shard.pk, "slow")
    rested()
    quick = leases.claim(shard.pk, "quick/1/1")
    with pytest.raises(LeaseLost):
        leases.keep(slow, parts=["0" * 64], saved=100)
    leases.keep(quick, parts=["1" * 64], saved=100)
    shard.refresh_from_db()
    assert shard.parts == ["1" * 64]


def test_a_block_whose_file_got_lost_is_computed_again(world, job, undisturbed, monkeypatch):
    shard = job.shards.get(phase="search")
    die_in(monkeypatch, 3)
    killed_at_work(shard)
    shard.refresh_from_db()
    (job.directory / "parts" / shard.parts[1]).write_bytes(b"cut off")
    (job.directory / "parts" / shard.parts[1]).unlink()
    world.bells.answer()
    reaper.reap(force=True)
    world.bells.answer()
    assert what_came_of(job) == undisturbed
    shard.refresh_from_db()
    assert shard.done == 400


def test_a_machine_that_dies_is_not_held_against_the_shard(job):
    """Nine times in a row; the tenth time it is no accident any more."""
    shard = job.shards.get(phase="search")
    for life in range(9):
        assert leases.claim(shard.pk, f"cpu1@host/{life}/7")
        assert leases.release_incarnations("cpu1@host", "next") == [shard.pk]
        rested()
    shard.refresh_from_db()
    assert (shard.state, shard.fruitless, shard.lost) == (Shard.State.PENDING, 0, 9)
    leases.claim(shard.pk, "cpu1@host/9/7")
    leases.release_incarnations("cpu1@host", "next")
    shard.refresh_from_db()
    assert shard.state == Shard.State.FAILED


@pytest.mark.parametrize(("heard", "counts"), [(True, (1, 0)), (False, (0, 1))])
def test_a_silent_lease_is_the_shards_fault_only_where_its_worker_lives(job, heard, counts):
    shard = job.shards.get(phase="search")
    if heard:
        leases.worker_seen(name="cpu1@host", incarnation="aa", queues=["cpu"], device="host")
    leases.claim(shard.pk, "cpu1@host/aa/7")
    Shard.objects.filter(pk=shard.pk).update(lease_expires=timezone.now() - timedelta(seconds=1))
    assert leases.expire() == [shard.pk]
    shard.refresh_from_db()
    assert (shard.fruitless, shard.lost) == counts


def test_who_computes_in_its_main_process_may_have_been_killed_by_its_shard(job):
    shard = job.shards.get(phase="search")
    leases.claim(shard.pk, "gpu1@host/aa/7.8" + leases.OWN_PROCESS)
    leases.release_incarnations("gpu1@host", "bb")
    shard.refresh_from_db()
    assert (shard.fruitless, shard.lost) == (1, 0)


def test_attempts_rest_longer_and_longer_and_the_reaper_rings_when_that_is_over(world, job):
    shard, pauses = job.shards.get(phase="search"), []
    for _ in range(2):
        leases.give_back(leases.claim(shard.pk, "a/1/1"), error="ValueError: no")
        shard.refresh_from_db()
        pauses.append(round((shard.not_before - timezone.now()).total_seconds()))
        world.bells.rung.clear()
        assert leases.claim(shard.pk, "a/1/1") is None, "a bell that is late, or comes twice, does not cut it short"
        reaper.reap(force=True)
        assert "run_shard" not in world.bells.names()
        assert "ValueError: no" in live.progress(job).held
        rested()
        reaper.reap(force=True)
        assert "run_shard" in world.bells.names()
    assert pauses == [5, 20]
    assert leases.rest(9) == timedelta(minutes=5)


CUTS = [
    OperationalError("terminating connection due to administrator command"),
    InterfaceError("connection already closed"),
]


@pytest.fixture
def no_waiting(monkeypatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(steady.time, "sleep", slept.append)
    return slept


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


def test_a_cut_in_the_middle_of_a_job_changes_nothing(world, job, undisturbed, no_waiting):
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
    leases.release_dead(shard.pk, "a")
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


def fail_at(job: Job, block: int, monkeypatch) -> Shard:
    shard = job.shards.get(phase="search")
    die_in(monkeypatch, block, times=3)
    for _ in range(3):
        killed_at_work(shard)
    coordinator.advance(str(job.pk))
    job.refresh_from_db()
    assert (job.state, job.fault) == (Job.State.FAILED, "server")
    return shard


def test_try_again_goes_on_from_the_finished_blocks(world, job, undisturbed, computed, monkeypatch):
    Job.objects.filter(pk=job.pk).update(webhook_url="https://example.org/")
    fail_at(job, 2, monkeypatch)
    assert Delivery.objects.filter(job=job, event="repair.finished").exists()
    Job.objects.filter(pk=job.pk).update(finished_at=timezone.now() - timedelta(hours=1))
    reaper.reap(force=True)
    world.bells.rung.clear()
    page = world.owner.browser.get(f"/repairs/{job.pk}/").content.decode()
    assert "Try again" in page
    assert f'action="/repairs/{job.pk}/retry/"' in page
    answer = world.owner.browser.post(f"/repairs/{job.pk}/retry/")
    assert answer["Location"] == f"/repairs/{job.pk}/"
    assert not Delivery.objects.filter(job=job, event="repair.finished").exists(), "the next end is told, too"
    world.bells.answer(only="run_shard")
    world.bells.answer(only="advance")
    world.bells.answer(only="run_shard")
    assert what_came_of(job) == undisturbed
    assert sorted(computed) == sorted(set(computed)), "what was done was not done again"
    assert job.shards.get(phase="search", round=0).done == 400
    assert job.events.filter(kind="resumed").count() == 1
    assert (job.error, job.detail) == ("", "")


def test_try_again_by_the_api(world, job, monkeypatch):
    url = f"/api/v1/repairs/{job.pk}/retry/"
    assert world.owner.api.post(url).status_code == 409, "it runs"
    fail_at(job, 1, monkeypatch)
    answer = world.owner.api.post(url)
    assert (answer.status_code, answer.json()["state"]) == (202, "processing")
    again = world.owner.api.post(url)
    assert again.status_code == 409
    assert "has not failed" in json.dumps(again.json())
    world.bells.answer(only="run_shard")
    assert world.owner.api.post(url).status_code == 409, "it has succeeded"


def test_bad_input_is_not_tried_again_by_asking(world, job):
    coordinator.end(job, Job.State.FAILED, fault="input", error="There is no class hat.", mend="Use coat.")
    answer = world.owner.api.post(f"/api/v1/repairs/{job.pk}/retry/")
    assert answer.status_code == 409
    assert "no class hat" in json.dumps(answer.json())
    assert "Try again" not in world.owner.browser.get(f"/repairs/{job.pk}/").content.decode()


@pytest.mark.parametrize("lost", ["swept", "state", "result"])
def test_try_again_after_working_files_are_gone(world, job, undisturbed, monkeypatch, lost):
    """Swept after a week, or damaged: then it begins anew as far as it must."""
    world.bells.answer(most=1)  # the first round
    job.refresh_from_db()
    assert job.round == 1
    shard = job.shards.get(phase="search", round=1)
    if lost == "result":  # every block of the round is done; merging fails
        monkeypatch.setattr(runner.leases, "finish", leases.finish)
        runner.run(leases.claim(shard.pk, "a/1/1"))
        shard.refresh_from_db()
        (job.directory / "parts" / shard.result).unlink()
        coordinator.advance(str(job.pk))
    else:
        coordinator.end(job, Job.State.FAILED, fault="server", error="an accident")
    if lost == "state":
        (job.directory / "parts" / job.states.get(phase="search", round=1).sha256).unlink()
    if lost == "swept":
        Job.objects.filter(pk=job.pk).update(finished_at=timezone.now() - timedelta(days=8))
        reaper.reap(force=True)
        assert not job.directory.exists()
    world.bells.rung.clear()
    assert world.owner.api.post(f"/api/v1/repairs/{job.pk}/retry/").status_code == 202
    world.bells.answer(only="run_shard")
    assert what_came_of(job) == undisturbed


@pytest.mark.parametrize("phase", ["prepare", "finish"])
@pytest.mark.parametrize("gone", [False, True], ids=["files there", "files gone"])
def test_try_again_where_preparing_or_finishing_was_done(world, job, undisturbed, monkeypatch, phase, gone):
    """What follows them failed: they are repeated only where what they wrote is gone."""
    owner, engine = world.owner, get_engine()
    other, _ = services.create_job(
        owner=owner.user, model=owner.model, dataset=owner.dataset, asked=Repair(metric="accuracy", seed=1)
    )
    world.bells.rung = world.bells.rung[-1:]
    place, name = (engine, "start") if phase == "prepare" else (coordinator.results, "succeed")

    def broken(*args):
        raise RuntimeError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(place, name, broken)
        world.bells.answer()
    other.refresh_from_db()
    assert (other.state, other.phase) == (Job.State.FAILED, phase)
    if gone:
        shutil.rmtree(next(other.directory.glob(f"{phase}-*")))
    services.retry_job(job=other)
    world.bells.answer()
    assert what_came_of(other) == undisturbed
    assert other.shards.get(phase=phase).attempt == 1 + gone
