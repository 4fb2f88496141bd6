"""The server that children are forked from: one for each process, nothing kept between calls, gone when it should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from repair_engine.errors import BadInput
from repair_engine.support import sandbox
from repair_engine.support.sandbox import starting

HERE = "tests.repair_engine.support.test_forkserver"
NO_NAMESPACES = set(sandbox.LAYERS) - {"namespaces"}  # so that a child's number is the one that is seen here
marked: list[str] = []


def who(payload: dict[str, Any]) -> dict[str, Any]:
    """In the child: who it is, what an earlier one left, and what is open."""
    found = [name for name in ("LEFT", "BEHIND") if name in os.environ]
    opened = []
    for descriptor in range(200):
        try:
            os.fstat(descriptor)
        except OSError:
            continue
        opened.append(descriptor)
    os.environ["LEFT"] = "1"
    marked.append("here")
    return {"pid": os.getpid(), "server": os.getppid(), "left": found, "marks": len(marked), "open": len(opened)}


def wait(payload: dict[str, Any]) -> dict[str, Any]:
    """In the child: says that it runs, then does not end."""
    os.write(payload["out"], str(os.getpid()).encode())
    time.sleep(600)
    return {}


@pytest.fixture(autouse=True)
def tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sandbox.TASKS, "who", f"{HERE}:who")
    monkeypatch.setitem(sandbox.TASKS, "wait", f"{HERE}:wait")
    monkeypatch.setitem(sandbox.TASKS, "mark", f"{HERE}:mark")


def ask(task: str = "who", **more: Any) -> dict[str, Any]:
    return sandbox.call(task, {}, sandbox.Limits(wall_seconds=60), layers=NO_NAMESPACES, **more)


def is_gone(pid: int) -> bool:
    """Whether a process is, or is about to be: a busy machine takes a moment."""
    for _ in range(500):
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True  # killed, and nobody has waited for it
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.02)
    return False


def test_children_come_from_one_server_and_leave_nothing_to_the_next() -> None:
    first, second = ask(), ask()
    assert first["server"] == second["server"] != os.getpid()
    assert first["pid"] != second["pid"]
    for found in (first, second):
        assert found["left"] == []
        assert found["marks"] == 1
        assert found["open"] <= 4  # the standard ones, and the copy of the output that the answer goes to


def test_many_at_once_are_told_apart(tmp_path: Path) -> None:
    def one(i: int) -> tuple[int, str]:
        out = tmp_path / str(i)
        sandbox.call("mark", {"text": str(i)}, sandbox.Limits(), writes={"out": out})
        return i, out.read_text()

    with ThreadPoolExecutor(8) as pool:
        assert all(text == str(i) for i, text in pool.map(one, range(12)))


def mark(payload: dict[str, Any]) -> dict[str, Any]:
    os.write(payload["out"], payload["text"].encode())
    return {}


def test_a_server_that_was_killed_is_begun_again() -> None:
    before = ask()["server"]
    os.kill(before, signal.SIGKILL)
    assert is_gone(before)
    assert ask()["server"] != before


def started(out: Path) -> int:
    """The child that `wait` runs in."""
    while not (out.exists() and out.read_text()):
        time.sleep(0.01)
    return int(out.read_text())


def test_a_server_killed_at_a_call_takes_the_child_with_it(tmp_path: Path) -> None:
    server = ask()["server"]
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(ask, "wait", writes={"out": tmp_path / "out"})
        child = started(tmp_path / "out")
        os.kill(server, signal.SIGKILL)
        with pytest.raises(BadInput, match="ended by signal 9"):
            call.result()
    assert is_gone(child)
    assert ask()["server"] != server


def test_a_call_that_is_over_leaves_no_child(tmp_path: Path) -> None:
    limits = sandbox.Limits(wall_seconds=3)
    ask()  # the server is there: the time is for the child
    with pytest.raises(BadInput, match="took longer than 3 seconds"):
        sandbox.call("wait", {}, limits, writes={"out": tmp_path / "out"}, layers=NO_NAMESPACES)
    assert is_gone(started(tmp_path / "out"))


PARENT = f"""
import sys, os
sys.path.insert(0, {os.getcwd()!r})
from pathlib import Path
from repair_engine.support import sandbox
sandbox.TASKS |= {{"who": "{HERE}:who", "wait": "{HERE}:wait"}}
layers = set(sandbox.LAYERS) - {{"namespaces"}}
"""


def test_a_parent_that_is_killed_leaves_neither_server_nor_child(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = PARENT + f"sandbox.call('wait', {{}}, sandbox.Limits(), writes={{'out': Path({str(out)!r})}}, layers=layers)"
    parent = subprocess.Popen([sys.executable, "-c", code])
    child = started(out)
    server = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
    assert server != parent.pid
    parent.kill()
    parent.wait()
    assert is_gone(child)
    assert is_gone(server)


def test_a_fork_of_the_parent_has_a_server_of_its_own() -> None:
    code = PARENT + (
        "one = sandbox.call('who', {}, sandbox.Limits(), layers=layers)['server']\n"
        "receive, send = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    os.write(send, str(sandbox.call('who', {}, sandbox.Limits(), layers=layers)['server']).encode())\n"
        "    sandbox.starting.servers.rest()\n"
        "    os._exit(0)\n"
        "other = int(os.read(receive, 99))\n"
        "os.wait()\n"
        "print(one != other, one == sandbox.call('who', {}, sandbox.Limits(), layers=layers)['server'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]


def test_it_ends_when_it_is_idle_and_not_before(tmp_path: Path) -> None:
    servers = starting.servers
    server = ask()["server"]
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(ask, "wait", writes={"out": tmp_path / "out"})
        child = started(tmp_path / "out")
        servers.rest()
        assert not call.done()
        os.kill(child, signal.SIGKILL)
        with pytest.raises(BadInput, match="signal 9"):
            call.result()
    assert ask()["server"] == server
    servers.rest()
    assert is_gone(server)


def test_what_a_call_will_need_is_imported_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sandbox.TASKS, "look", f"{HERE}:look")
    starting.servers.rest()
    sandbox.warm("thumbnails")
    assert ask("look") == {"there": ["repair_engine.data.thumbnails"]}


def look(payload: dict[str, Any]) -> dict[str, Any]:
    """In the child: which of two tasks' modules are there already."""
    return {
        "there": [n for n in ("repair_engine.data.thumbnails", "repair_engine.models.hf_archive") if n in sys.modules]
    }


def test_the_timer_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "IDLE", 0.05)
    assert is_gone(ask()["server"])


def test_another_environment_has_another_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = ask()["server"]
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(ask, "wait", writes={"out": tmp_path / "out"})
        child = started(tmp_path / "out")
        monkeypatch.setenv("TZ", "Asia/Kathmandu")
        assert ask()["server"] != before
        assert not call.done()  # that of the old one goes on
        os.kill(child, signal.SIGKILL)
        with pytest.raises(BadInput, match="signal 9"):
            call.result()
    assert is_gone(before)
