"""The faults. Each does its harm, and undoes what would not end by itself."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import redis

from tests.faults.arena import Disk, Stack, python
from tests.webapp.real_stack import _line

QUEUES = ("cpu", "light")


class Faults:
    """All kinds that this machine and this database allow, one at a time, drawn at random."""

    def __init__(self, stack: Stack, disk: Disk, draw: random.Random) -> None:
        self.stack, self.disk, self.draw = stack, disk, draw
        self.coming: list[str] = []
        self.heard: list[tuple[str, bytes]] = []  # messages of before, to be delivered again
        self.kinds: dict[str, Callable[[], bool]] = {
            "a pool process killed": lambda: self._signal(self._pool(), signal.SIGKILL),
            "a whole worker killed": lambda: self._signal(self._workers(), signal.SIGKILL),
            "a worker told to stop": lambda: self._signal(self._workers(), signal.SIGTERM),
            "a pool process stopped past its lease": self._pause,
            "the web server killed": lambda: self._signal(self._named("webapp.serving"), signal.SIGKILL),
            "the broker killed": lambda: self._signal(self._named("redis-server"), signal.SIGKILL),
            "messages lost, doubled, reordered": self._shuffle,
        }
        if stack.env["DATABASE_URL"]:
            self.kinds["all database connections cut"] = self._cut
        else:
            self.kinds["the database locked for 4 s"] = self._lock
        if disk.full:
            self.kinds["the disk full for 6 s"] = self._fill

    def one(self) -> str | None:
        """Does one; None if there was nothing to do it to."""
        if not self.coming:  # every kind once, in another order each time
            self.coming = self.draw.sample(list(self.kinds), len(self.kinds))
        kind = self.coming.pop()
        return kind if self.kinds[kind]() else None

    def kill_one_at_work(self) -> bool:
        """Whoever works: nine times of ten a pool process, else the worker with all it has."""
        victims = self._pool() if self.draw.random() < 0.9 else self._workers()
        return self._signal(victims, signal.SIGKILL)

    def _pool(self) -> list[psutil.Process]:
        return self.stack.cpu_workers()

    def _workers(self) -> list[psutil.Process]:
        return [p for p in self.stack.family() if any("@" in part for part in _line(p)) and _is_main(p)]

    def _named(self, word: str) -> list[psutil.Process]:
        return [p for p in self.stack.family() if any(word in part for part in _line(p))]

    def _signal(self, victims: list[psutil.Process], number: int) -> bool:
        if not victims:
            return False
        try:
            self.draw.choice(victims).send_signal(number)
        except psutil.NoSuchProcess:
            return False
        return True

    def _pause(self) -> bool:
        """It goes on when its shard belongs to somebody else: what it then writes must count for nothing."""
        if not (victims := self._pool()):
            return False
        victim = self.draw.choice(victims)
        try:
            victim.suspend()
            time.sleep(int(self.stack.env["NR_LEASE_SECONDS"]) + 4)
            victim.resume()
        except psutil.NoSuchProcess:
            return False
        return True

    def _cut(self) -> bool:
        who = "datname = current_database() AND pid <> pg_backend_pid()"
        return bool(self.stack.query(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {who}"))

    def _lock(self) -> bool:
        with sqlite3.connect(self.stack.folder / "var" / "db.sqlite3", timeout=30, isolation_level=None) as connection:
            connection.execute("BEGIN IMMEDIATE")
            time.sleep(4)
            connection.execute("ROLLBACK")
        return True

    def _fill(self) -> bool:
        try:
            self.disk.fill()
            time.sleep(6)
        finally:
            self.disk.empty()
        return True

    def _shuffle(self) -> bool:
        """A broker that delivers twice, late, in another order, or not at all."""
        with suppress(redis.RedisError), redis.Redis(unix_socket_path=str(_socket(self.stack))) as broker:
            for queue in QUEUES:
                waiting = broker.lrange(queue, 0, -1)
                self.heard = (self.heard + [(queue, message) for message in waiting])[-200:]
                broker.delete(queue)
                again = [message for message in waiting for _ in range(self.draw.choice((0, 1, 2)))]
                old = [message for where, message in self.heard if where == queue]
                again += self.draw.sample(old, min(len(old), 5))
                self.draw.shuffle(again)
                if again:
                    broker.rpush(queue, *again)
            return True
        return False


def _is_main(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        parent = process.parent()
        return parent is not None and not any("@" in part for part in _line(parent))
    return False


def _socket(stack: Stack) -> Path:
    code = "from webapp import settings; print(settings.REDIS_SOCKET)"
    if not hasattr(stack, "broker_socket"):
        stack.broker_socket = Path(stack.manage("-c", code).strip())  # type: ignore[attr-defined]
    return stack.broker_socket  # type: ignore[attr-defined]


def two_namespaces(folder: Path, stores: int) -> dict[str, int] | None:
    """Two processes that each believe to have the same process id store files on one data directory.

    None where no PID namespace can be made. Else how many blobs there are, and how many hold something else than
    their name says.
    """
    import hashlib
    import subprocess

    environment = {**os.environ, "NR_DATA_DIR": str(folder), "DATABASE_URL": "", "PYTHONPATH": os.getcwd()}
    made = subprocess.run(python("manage.py", "migrate", "-v", "0"), env=environment, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    unshare = ["unshare", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        return None
    both = [
        subprocess.Popen(
            [*unshare, *python("-m", "tests.faults.storing", who, str(stores))], env=environment,
            stderr=subprocess.PIPE, text=True,
        )
        for who in ("a", "b")
    ]  # fmt: skip
    for process in both:
        _, said = process.communicate(timeout=600)
        assert process.returncode == 0, said
    blobs = [path for path in (folder / "blobs").rglob("*") if path.is_file()]
    wrong = [path for path in blobs if hashlib.sha256(path.read_bytes()).hexdigest() != path.name]
    return {"stored": 2 * stores, "blobs": len(blobs), "wrong": len(wrong)}
