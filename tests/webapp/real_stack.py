"""A real `manage.py dev` in a folder of its own: web server, Celery workers, beat, a private redis-server."""

from __future__ import annotations

import fcntl
import functools
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import Request, urlopen

import psutil

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def empty_database() -> bytes:
    """A SQLite file with all migrations: they take seconds of every start."""
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "NR_DATA_DIR": folder, "DATABASE_URL": "", "NR_HTTPS": "0"}
        subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, env=env, check=True)
        return (Path(folder) / "db.sqlite3").read_bytes()


def put_database(data: Path) -> None:
    """Into a data directory that has none. Where pytest-xdist's processes share a folder it is made once for all."""
    data.mkdir(parents=True, exist_ok=True)
    if (file := data / "db.sqlite3").exists():
        return
    file.touch(0o600)
    process = f"popen-{os.environ.get('PYTEST_XDIST_WORKER')}"
    shared = next((path.parent / "empty.sqlite3" for path in data.parents if path.name == process), None)
    if shared is None:
        file.write_bytes(empty_database())
        return
    with shared.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not shared.exists():
            shared.write_bytes(empty_database())
    file.write_bytes(shared.read_bytes())


class RealStack:
    """Started on entry, stopped on exit; the log is shown when something goes wrong."""

    def __init__(self, folder: Path, *, workers: int = 2, options: tuple[str, ...] = (), **environment: str) -> None:
        self.folder, self.workers, self.options = folder, workers, options
        self.env = {
            **os.environ,
            "NR_DATA_DIR": str(folder / "var"),
            "NR_ENGINE": "tests.webapp.tiny_engine:TinyEngine",
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": "",
            "REDIS_URL": "",
            "NR_REAP_SECONDS": "2",
            "NR_RETRY_SECONDS": "1",
            **environment,
        }
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://localhost:{self.port}/"
        if not self.env["DATABASE_URL"]:
            put_database(folder / "var")

    def __enter__(self) -> RealStack:
        self.log = (self.folder / "dev.log").open("w")
        self.process = subprocess.Popen(
            [
                sys.executable,
                "manage.py",
                "dev",
                "--port",
                str(self.port),
                "--workers",
                str(self.workers),
                *self.options,
            ],
            cwd=ROOT,
            env=self.env,
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        self.wait(self.is_ready, 240, "the stack to answer")
        self.wait(lambda: len(self.workers_alive()) > self.workers, 240, "the workers to come up")
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.everyone = self.family()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(120)
        finally:
            self.process.kill()
            self.log.close()
            if kind is not None:
                print((self.folder / "dev.log").read_text()[-8000:])

    def manage(self, *command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def seed(self) -> dict:
        self.token = ""
        seeded = json.loads(self.manage("-m", "tests.webapp.seed"))
        self.token = seeded["token"]
        return seeded

    def call(self, method: str, path: str, body: dict | None = None) -> dict:
        request = Request(
            f"{self.url}api/v1/{path}",
            method=method,
            data=json.dumps(body).encode() if body is not None else None,
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        with urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def is_ready(self) -> bool:
        assert self.process.poll() is None, (self.folder / "dev.log").read_text()[-4000:]
        try:
            with urlopen(self.url + "livez", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def workers_alive(self) -> list[psutil.Process]:
        """The main processes of the Celery workers that have said they are ready."""
        names = [row[0] for row in self.query("SELECT name FROM jobs_worker")]
        return [p for p in self.family() if any(name.split("@")[0] + "@" in " ".join(_line(p)) for name in names)]

    def query(self, sql: str) -> list[tuple]:
        with sqlite3.connect(self.folder / "var" / "db.sqlite3", timeout=60) as connection:
            return connection.execute(sql).fetchall()

    def cpu_workers(self) -> list[psutil.Process]:
        """The pool processes that compute: children of the `cpu…` workers."""
        mains = [p for p in self.family() if any(part.startswith("cpu") and "@" in part for part in _line(p))]
        found = [child for main in mains for child in main.children()]
        return [p for p in found if "repair_engine.support.sandbox" not in _line(p)]  # which reads uploads

    def family(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def wait(self, until, seconds: float, what: str):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := until():
                return found
            time.sleep(0.25)  # each look costs the web process and this one
        raise AssertionError(f"waited {seconds} s for {what}\n" + (self.folder / "dev.log").read_text()[-4000:])

    def finished(self, repair: dict, seconds: float = 300) -> dict:
        def look() -> dict | None:
            now = self.call("GET", f"repairs/{repair['id']}/")
            return now if now["state"] not in ("starting", "processing") else None

        return self.wait(look, seconds, "the repair to end")


def _line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
