"""A real stack on a small disk and one of the two databases, and the jobs that run on it while faults happen."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections import Counter
from pathlib import Path
from urllib.error import HTTPError

import psycopg

from tests.webapp.real_stack import RealStack

ACTIVE = ("starting", "processing")


class Stack(RealStack):
    """The real stack, whose database may be PostgreSQL, and whose answers may be errors for a while."""

    def query(self, sql: str) -> list[tuple]:
        if not (url := self.env["DATABASE_URL"]):
            return super().query(sql)
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []


class Disk:
    """A file system of a few megabytes, where we may mount one. `full` says whether it can be filled."""

    def __init__(self, folder: Path, megabytes: int = 96) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
        self.full = os.getuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0

    def fill(self) -> None:
        with (self.folder / "filler").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 12))
            except OSError:
                return

    def empty(self) -> None:
        (self.folder / "filler").unlink(missing_ok=True)

    def close(self) -> None:
        if self.full:
            subprocess.run(["umount", "-l", str(self.folder)], capture_output=True)


class Jobs:
    """Jobs of a few seeds, each compared with the undisturbed run of its seed."""

    def __init__(self, stack: Stack, seeded: dict, expected: dict[int, dict]) -> None:
        self.stack, self.seeded, self.expected = stack, seeded, expected
        self.running: dict[str, int] = {}
        self.ended: dict[str, dict] = {}
        self.counts: Counter[str] = Counter()

    def ask(self, seed: int) -> None:
        """The same key until it is taken on: asked twice, it is one job."""
        body = {"metric": "accuracy", "seed": seed, "model": self.seeded["model"], "dataset": self.seeded["dataset"]}
        body["name"] = str(uuid.uuid4())
        made = self._call("POST", "repairs/", body)
        if made is not None:
            self.running[made["id"]] = seed

    def _call(self, method: str, path: str, body: dict | None = None) -> dict | None:
        try:
            return self.stack.call(method, path, body)
        except HTTPError as error:
            self.counts[f"answered {error.code}"] += 1
        except OSError:
            self.counts["no answer"] += 1
        return None

    def look(self) -> None:
        """See who has ended. What failed on our side is tried again, as its owner would.

        Raises RuntimeError: the stack itself has ended, which no fault may bring about.
        """
        if (code := self.stack.process.poll()) is not None:
            raise RuntimeError(f"manage.py dev has ended, exit code {code}; its log says why.")
        for pk in list(self.running):
            now = self._call("GET", f"repairs/{pk}/")
            if now is None or now["state"] in ACTIVE:
                continue
            if now["state"] == "failed" and now["fault"] == "server":
                self.counts["tried again"] += 1
                print(f"    tried again: {now['error']}")
                self._call("POST", f"repairs/{pk}/retry/")
                continue
            del self.running[pk]
            self.ended[pk] = now

    def wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self.running and time.monotonic() < deadline:
            self.look()
            time.sleep(0.5)

    def verdict(self) -> Counter[str]:
        """finished, identical, different, lost (not at its end, or ended otherwise), double-counted."""
        found = Counter({"finished": 0, "identical": 0, "different": 0, "lost": len(self.running), "miscounted": 0})
        for pk, job in self.ended.items():
            if job["state"] != "succeeded":
                found["lost"] += 1
                print(f"    lost: {job['state']} {job['error']}")
                continue
            found["finished"] += 1
            same = files_of(job) == self.expected[job["request"]["seed"]]
            found["identical" if same else "different"] += 1
            wrong = self.stack.query(
                f"SELECT count(*) FROM jobs_shard WHERE job_id = '{self._key(pk)}' AND done <> total"
            )
            found["miscounted"] += bool(wrong[0][0])
        return found

    def _key(self, pk: str) -> str:
        return pk if self.stack.env["DATABASE_URL"] else pk.replace("-", "")

    def retries(self) -> int:
        return sum(job["progress"]["retries"] for job in self.ended.values())


def files_of(job: dict) -> dict:
    return {item["name"]: item["sha256"] for item in job["results"]} | {"values": job["result"].get("values")}


def undisturbed(stack: Stack, seeded: dict, seeds: range) -> dict[int, dict]:
    """What each seed gives while nothing happens."""
    jobs = Jobs(stack, seeded, {})
    for seed in seeds:
        jobs.ask(seed)
    jobs.wait(600)
    assert len(jobs.ended) == len(seeds), "the undisturbed runs did not end"
    assert all(job["state"] == "succeeded" for job in jobs.ended.values()), jobs.ended
    return {job["request"]["seed"]: files_of(job) for job in jobs.ended.values()}


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]
