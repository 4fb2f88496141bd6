"""Many who watch one run that works, over a real server: asking again and again, and waiting for it to change."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 5  # times that all who watch ask, at intervals of a page's
INTERVAL = 2.0  # seconds
SETTLED, QUIET = 5.0, 5.0  # seconds until all who wait do, and in which nothing changes


@contextmanager
def served(environment: dict[str, str]) -> Iterator[tuple[int, int]]:
    """The port of a real web server, and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "webapp.serving", "--port", str(port)]
    server = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment})
    try:
        _wait_for(port)
        yield port, server.pid
    finally:
        server.terminate()
        server.wait(30)


def watch(port: int, server: int, known: dict[str, Any], page: str, watchers: int) -> list[dict[str, Any]]:
    """Figures of each way to watch the run that works; `page` is the address of its part that changes."""
    polls = {"its page": page, "API": f"/api/v1/repairs/{known['working']}/"}
    found = []
    for what, url in polls.items():
        for how, way in (("asked every 2 s", _poll), ("waits for a change", _wait)):
            found.append({"what": what, "how": how, **asyncio.run(way(port, server, known, url, watchers))})
    return found


def _wait_for(port: int) -> None:
    for _ in range(600):
        try:
            with socket.create_connection(("127.0.0.1", port), 1):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("The web server did not start within a minute.")


async def _poll(port: int, server: int, known: dict[str, Any], url: str, watchers: int) -> dict[str, Any]:
    """All ask at the same moment, the worst that can be, and again after a page's interval."""
    request, used, started = request_of(known, url), used_by(server), time.perf_counter()
    seconds: list[float] = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        seconds += [at - began for at, _ in await asyncio.gather(*(ask(port, request) for _ in range(watchers)))]
        await asyncio.sleep(max(0.0, INTERVAL - (time.perf_counter() - began)))
    busy = (used_by(server) - used) / (time.perf_counter() - started)
    return _figures(seconds) | {"busy": busy}


async def _wait(port: int, server: int, known: dict[str, Any], url: str, watchers: int) -> dict[str, Any]:
    """All have seen what there is, and wait; then a worker tells of its work. Seconds are from then on."""
    seconds: list[float] = []
    busy: list[float] = []
    for _ in range(ROUNDS):
        _, answer = await ask(port, request_of(known, url))
        tag = re.search(rb"(?i)\r\netag: ([^\r]+)", answer)
        assert tag
        held = request_of(known, url, f"If-None-Match: {tag[1].decode()}\r\nPrefer: wait=60\r\n")
        people = asyncio.gather(*(ask(port, held) for _ in range(watchers)))
        await asyncio.sleep(SETTLED)
        used, began = used_by(server), time.perf_counter()
        await asyncio.sleep(QUIET)
        busy.append((used_by(server) - used) / (time.perf_counter() - began))
        changed = time.perf_counter()
        await asyncio.to_thread(_work, known["working"])
        seconds += [at - changed for at, _ in await people]
    return _figures(seconds) | {"busy": statistics.median(busy)}


def _work(run: Any) -> None:
    """As a worker does that has evaluated more."""
    from django.db import connection
    from django.db.models import F

    from webapp.jobs.models import Shard

    Shard.objects.filter(job=run, state=Shard.State.LEASED).update(done=F("done") + 1)
    connection.close()


def request_of(known: dict[str, Any], url: str, more: str = "") -> bytes:
    who = f"Authorization: Bearer {known['token']}" if "/api/" in url else f"Cookie: sessionid={known['session']}"
    headers = f"Host: localhost\r\n{who}\r\nHX-Request: true\r\nConnection: close\r\n{more}"
    return f"GET {url} HTTP/1.1\r\n{headers}\r\n".encode()


def _figures(seconds: list[float]) -> dict[str, float]:
    return {"p50": statistics.median(seconds), "p95": percentile(seconds, 0.95), "most": max(seconds)}


def used_by(server: int) -> float:
    """Seconds of processor time of the server's processes."""
    family = [psutil.Process(server), *psutil.Process(server).children(recursive=True)]
    return sum(sum(process.cpu_times()[:2]) for process in family)


async def ask(port: int, request: bytes) -> tuple[float, bytes]:
    """When the answer was there, and it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    at = time.perf_counter()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200"), answer[:300]
    return at, answer


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, round(share * (len(values) - 1)))]
