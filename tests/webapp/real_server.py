"""The real web server alone, on loopback, in a folder of its own: it can be killed, and started again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import psutil

from tests.faults.slow_clients import is_well
from tests.webapp.real_stack import put_database

ROOT = Path(__file__).resolve().parents[2]
MAKE = (
    "import django; django.setup(); from webapp.accounts import services as s; "
    "u = s.create_user(username='ada', password='correct horse battery'); "
    "print(s.create_token(owner=u, name='run')[1], s.create_token(owner=u, name='read', scope='read')[1])"
)


class Server:
    def __init__(self, folder: Path) -> None:
        self.data = folder
        self.env = {
            **os.environ, "NR_DATA_DIR": str(folder), "NR_HTTPS": "0", "DATABASE_URL": "",
            "DJANGO_SETTINGS_MODULE": "webapp.settings", "NR_UPLOADS_AT_ONCE": "3",
        }  # fmt: skip
        put_database(folder)
        self.key, self.read_key = self.run("-c", MAKE).split()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "webapp.serving", "--port", str(self.port), "--grace", "2", "--header-seconds", "2"],
            cwd=ROOT,
            env=self.env,
        )
        end = time.monotonic() + 240
        while not is_well("127.0.0.1", self.port, 5):
            assert self.process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.1)

    def kill(self) -> None:
        """With all its children, at once: nobody tidies up."""
        family = self.family()
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(60)
        _, alive = psutil.wait_procs(family, timeout=60)
        assert not alive

    def run(self, *command: str) -> str:
        done = subprocess.run([sys.executable, *command], cwd=ROOT, env=self.env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def well(self) -> bool:
        return is_well("127.0.0.1", self.port)

    def family(self) -> list[psutil.Process]:
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def send(self, headers: dict[str, str], body: bytes = b"", path: str = "/api/v1/models/") -> tuple[int, dict]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        with closing(connection):
            connection.request("POST", path, body, {"Host": "localhost", **headers})
            answer = connection.getresponse()
            content = answer.read()
            return answer.status, json.loads(content) if content.startswith(b"{") else {}
