"""What an upload costs the web process: by way of it (tus), and straight to the object store.

The real web server, on SQLite, beside an S3 server (SeaweedFS), each in a folder of its own; the client of `clients/`
uploads a file of random bytes and has a dataset made of it.
"""

from __future__ import annotations

import os
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks import machine, tables

WAYS = {"by way of the web process (tus)": "", "straight to the store": "direct"}


def add_arguments(verb: ArgumentParser) -> None:
    verb.add_argument("--mb", type=int, default=200, help="of a file")
    verb.add_argument("--times", type=int, default=3, help="each way, in turn")


def uploads(args: Namespace, say: Callable[[str], None]) -> str:
    """A Markdown document."""
    from tests.fleet.services import Broker, Objects
    from tests.webapp.real_server import Server

    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with (
        tempfile.TemporaryDirectory(prefix="uploads-") as name,
        Objects(Path(name) / "s3", volumes=20 + args.times * args.mb // 10) as store,
        Broker(Path(name) / "redis") as broker,
    ):
        os.environ.update(store.settings | {"REDIS_URL": broker.url, "SECRET_KEY": "0" * 50, "LOG_LEVEL": "ERROR"})
        for way, offered in WAYS.items():
            os.environ["NR_S3_PUBLIC_ENDPOINT"] = store.url if offered else ""
            server = Server(Path(name) / f"web-{offered}")
            try:
                for number in range(args.times + 1):
                    path = Path(name) / "images.zip"
                    path.write_bytes(os.urandom(args.mb * 10**6))
                    cost = _upload(server, path, bool(offered))
                    say(f"{way}: {cost['processor']:.2f} s of the processor, {cost['clock']:.1f} s by the clock")
                    if number:  # the first imports and connects
                        found[way].append(cost)
            finally:
                server.kill()
    rows = [
        (way, *(f"{median(one[key] for one in costs):.2f}" for key in ("processor", "making", "clock")))
        for way, costs in found.items()
    ]
    return "\n\n".join(
        [
            "# Uploads, and the web process",
            machine.line(machine.machine("cpu")),
            f"Made by `python -m benchmarks uploads --mb {args.mb} --times {args.times}`; "
            "[how to read it](../README.md).",
            f"{args.mb} MB of random bytes, uploaded by the client and made a dataset; medians of {args.times}, after "
            "one that is not counted. *Processor*: of the web server's processes, user and system; *making*: the part "
            "of it that is for `POST /api/v1/datasets/`.",
            tables.grid(("way", "processor, s", "of which making, s", "by the clock, s"), rows),
        ]
    )  # fmt: skip


def _upload(server: Any, path: Path, straight: bool) -> dict[str, float]:
    from webapp.devserver.samples import client

    api = client().Api(f"http://localhost:{server.port}", server.key, float("inf"))
    sha256, size = client().sha256_of(path), path.stat().st_size
    began, clock = _busy(server), time.perf_counter()
    way = api._send_straight if straight else api._send_file
    pk = way(path, size, sha256, "dataset")
    assert pk, "the store was not offered"
    sent = _busy(server)
    api.json("POST", "datasets/", {"upload": pk, "file_name": path.name})
    ended = _busy(server)
    return {"processor": ended - began, "making": ended - sent, "clock": time.perf_counter() - clock}


def _busy(server: Any) -> float:
    """Processor seconds of the server and its children so far."""
    times = [process.cpu_times() for process in server.family() if process.status() != psutil.STATUS_ZOMBIE]
    return sum(one.user + one.system for one in times)
