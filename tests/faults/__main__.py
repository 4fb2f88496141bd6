"""`make faults`: what crashing machines do to running jobs. Exit code 1 when a job was lost, or has other bits.

On SQLite and on PostgreSQL, each with a real stack (web server, workers, beat, broker) on a small disk:
first the undisturbed runs; then a fault of a random kind every few seconds, with three jobs always under way;
then one long job whose workers are killed again and again.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.faults.arena import Disk, Jobs, Stack, undisturbed
from tests.faults.injecting import Faults, two_namespaces
from tests.faults.postgres import Cluster, programs

SEEDS = range(1, 4)
LOG = Path(tempfile.gettempdir()) / "faults-dev.log"  # of the stack that lost something
SURROUNDINGS = {"NR_LEASE_SECONDS": "6", "NR_SLOW_LEASE_SECONDS": "10", "NR_BELL_SECONDS": "3", "LOG_LEVEL": "WARNING"}


def say(database: str, what: str, injected: Counter[str], jobs: Jobs) -> bool:
    """Prints the figures. True: nothing was lost and everything has its bits."""
    found = jobs.verdict()
    print(f"{database}, {what}:")
    for kind, count in sorted(injected.items()):
        print(f"    {count:5d}  {kind}")
    total = f"faults injected {injected.total()}, " + ", ".join(f"{name} {count}" for name, count in found.items())
    print(f"    {total}; attempts repeated {jobs.retries()}; {dict(jobs.counts)}", flush=True)
    return not (found["lost"] or found["different"] or found["miscounted"])


def storm(stack: Stack, disk: Disk, seeded: dict, expected: dict, seconds: float, draw: random.Random):
    jobs, injected = Jobs(stack, seeded, expected), Counter()
    faults, end = Faults(stack, disk, draw), time.monotonic() + seconds
    while time.monotonic() < end:
        if len(jobs.running) < 3:
            jobs.ask(draw.choice(SEEDS))
        time.sleep(draw.uniform(0.5, 3))
        if kind := faults.one():
            injected[kind] += 1
        jobs.look()
    jobs.wait(400)
    return injected, jobs


def killed_often(stack: Stack, disk: Disk, seeded: dict, expected: dict, kills: int, draw: random.Random):
    jobs, injected = Jobs(stack, seeded, expected), Counter()
    faults = Faults(stack, disk, draw)
    while not jobs.running:
        jobs.ask(SEEDS[0])
    while injected.total() < kills and jobs.running:
        time.sleep(draw.uniform(0.2, 1.8))
        jobs.look()
        leased = stack.query("SELECT count(*) FROM jobs_shard WHERE state = 'leased'")
        if leased[0][0] and faults.kill_one_at_work():
            injected["a worker of the one job killed"] += 1
    jobs.wait(1200)
    return injected, jobs


def one_database(name: str, asked: argparse.Namespace, draw: random.Random) -> bool:
    good = one_stack(name, "faults of all kinds", 6, SEEDS, lambda *given: storm(*given, asked.seconds, draw))
    often = f"one job killed {asked.kills} times"
    return good & one_stack(
        name, often, asked.blocks, SEEDS[:1], lambda *given: killed_often(*given, asked.kills, draw)
    )


def one_stack(name: str, what: str, blocks: int, seeds: range, harm: Callable) -> bool:
    """A fresh stack, its undisturbed runs, then the harm."""
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        folder.chmod(0o755)  # the database server runs as somebody else
        url = held.enter_context(Cluster(folder / "postgres")).url if name == "postgresql" else ""
        disk = Disk(folder / "var")
        held.callback(disk.close)
        if not disk.full:
            print(f"SKIPPED on {name}: the full disk. No small file system can be mounted here (needs root).")
        settings = {"DATABASE_URL": url, "NR_TINY_PAUSE": "0.05", "NR_TINY_BLOCKS": str(blocks), **SURROUNDINGS}
        good = False
        try:
            with Stack(folder, workers=2, **settings) as stack:
                seeded = stack.seed()
                injected, jobs = harm(stack, disk, seeded, undisturbed(stack, seeded, seeds))
                good = say(name, what, injected, jobs)
        finally:
            if not good:
                shutil.copy(folder / "dev.log", LOG)
        return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("databases", nargs="*", default=["sqlite", "postgresql"])
    parser.add_argument("--seconds", type=float, default=120, help="of faults of all kinds, on each database")
    parser.add_argument("--kills", type=int, default=100, help="of the one job, on each database")
    parser.add_argument("--blocks", type=int, default=100, help="of each round of the one job")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    draw, good = random.Random(asked.seed), True
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        found = two_namespaces(Path(folder), 60)
        if found is None:
            print("SKIPPED: two PID namespaces. None can be made here (needs root).")
        else:
            print(f"two PID namespaces that store blobs: {found}", flush=True)
            good &= not found["wrong"]
    for name in asked.databases:
        if name == "postgresql" and programs() is None:
            print("SKIPPED: PostgreSQL. It is not installed here (apt install postgresql).", flush=True)
            continue
        good &= one_database(name, asked, draw)
    print("nothing was lost" if good else f"SOMETHING WAS LOST, see {LOG}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
