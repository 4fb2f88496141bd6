"""Real processes: SIGKILL or SIGTERM in mid-job changes nothing but the time; nothing is left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import psutil
import pytest

from tests.webapp.real_stack import RealStack

ASK = {"metric": "accuracy", "seed": 11}


def finished(stack: RealStack) -> dict:
    repair = stack.call("POST", "repairs/", stack.asked)
    repair = stack.finished(repair)
    assert repair["state"] == "succeeded", repair
    return repair


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> Iterator[RealStack]:
    """One worker."""
    with RealStack(tmp_path_factory.mktemp("calm"), workers=1) as stack:
        seeded = stack.seed()
        stack.asked = {**ASK, "model": seeded["model"], "dataset": seeded["dataset"]}
        yield stack


@pytest.fixture(scope="module")
def undisturbed(calm: RealStack) -> dict:
    """The result where nobody is killed."""
    return finished(calm)


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Iterator[RealStack]:
    """Two workers, which wait in the middle of the phases that its folder names. Nothing of it is left at the end."""
    folder = tmp_path_factory.mktemp("pair")
    with RealStack(folder, workers=2, NR_TINY_HOLD=str(folder)) as stack:
        seeded = stack.seed()
        stack.asked = {**ASK, "model": seeded["model"], "dataset": seeded["dataset"]}
        yield stack
    assert not [p for p in stack.everyone if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("victim", ["pool process", "worker"])
def test_two_sigkills_in_mid_job_give_the_same_values(pair, victim, undisturbed):
    for phase in ("search", "confirm"):
        (pair.folder / phase).touch()
    repair = pair.call("POST", "repairs/", pair.asked)
    killed = 0
    for phase in ("search", "confirm"):

        def sampling(phase: str = phase) -> bool:
            now = pair.call("GET", f"repairs/{repair['id']}/")
            assert now["state"] in ("starting", "processing"), now
            return now["progress"]["phase"] == phase and now["progress"]["workers"] == 2

        pair.wait(sampling, 240, f"both workers to be at phase {phase}")
        process = pair.cpu_workers()[0]
        process = process if victim == "pool process" else process.parent()
        os.kill(process.pid, signal.SIGKILL)
        (pair.folder / phase).unlink()
        killed += 1
    repair = pair.finished(repair)
    assert repair["state"] == "succeeded", repair
    assert killed == 2
    assert repair["progress"]["retries"] >= 1
    assert repair["result"]["values"] == undisturbed["result"]["values"]
    hashes = [{item["name"]: item["sha256"] for item in one["results"]} for one in (repair, undisturbed)]
    assert hashes[0] == hashes[1]


def test_stopped_in_mid_job_and_started_again(tmp_path, undisturbed):
    """SIGTERM to a worker, the web process and at last everything: shards are handed back, and nobody is blamed."""
    (tmp_path / "search").touch()
    with RealStack(tmp_path, workers=1, NR_TINY_HOLD=str(tmp_path)) as stack:
        seeded = stack.seed()
        repair = stack.call("POST", "repairs/", {**ASK, "model": seeded["model"], "dataset": seeded["dataset"]})

        def at_work() -> bool:
            now = stack.call("GET", f"repairs/{repair['id']}/")["progress"]
            return now["phase"] == "search" and now["workers"] == 1

        stack.wait(at_work, 240, "the worker to be at work")
        main = stack.cpu_workers()[0].parent()
        web = next(p for p in stack.family() if any("webapp.serving" in part for part in p.cmdline()))
        for process in (main, web):
            process.terminate()
        psutil.wait_procs([main, web], timeout=240)
        stack.wait(stack.is_ready, 240, "the web process to come back")
        stack.wait(at_work, 240, "the worker to be at work again")
    (tmp_path / "search").unlink()
    leased = "SELECT count(*) FROM jobs_shard WHERE state = 'leased'"
    assert stack.query(leased) == [(0,)]
    assert stack.query("SELECT count(*) FROM jobs_worker") == [(0,)]
    with RealStack(tmp_path, workers=2) as again:
        again.token = stack.token
        repair = again.finished(repair)
        assert repair["state"] == "succeeded", repair
        assert repair["progress"]["retries"] == 0
        assert again.query(leased) == [(0,)]
    hashes = [{item["name"]: item["sha256"] for item in one["results"]} for one in (repair, undisturbed)]
    assert hashes[0] == hashes[1]


def test_a_child_that_dies_is_started_again(calm, undisturbed):
    redis = next(p for p in calm.family() if "redis-server" in p.name())
    web = next(p for p in calm.family() if any("webapp.serving" in part for part in p.cmdline()))
    dying = [redis, web, *web.children()]  # none of them outlives it
    os.kill(redis.pid, signal.SIGKILL)
    os.kill(web.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(dying, timeout=60)
    assert not alive, [p.cmdline() for p in alive]
    calm.wait(calm.is_ready, 240, "the web process to come back")
    assert finished(calm)["result"]["values"] == undisturbed["result"]["values"]


def test_killing_the_supervisor_leaves_no_orphans(calm):
    """The last of this file: nothing of the stack is left."""
    family = calm.family()
    assert len(family) >= 6
    os.kill(calm.process.pid, signal.SIGKILL)
    calm.process.wait(60)
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive, [p.cmdline() for p in alive]
