"""The events of a simulated fleet (`fleet_simulated`): workers, people, and the load of the database."""

from __future__ import annotations

import heapq
import json
import random
import statistics
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)
QUEUE = "gpu"
HEARTBEAT = 30.0  # virtual seconds between two writes of all workers' rows
REAP = 10.0  # of beat
RENEW = 30.0
BELL = 0.005  # seconds from ringing to hearing
GONE = 120.0  # seconds until a worker that died is back under its name
SLOW, SLOWER = 0.03, 3.0  # share of workers that are stragglers, and how much longer they take


@dataclass(frozen=True)
class Person:
    """Runs of one user: so many of so many rounds of so many shards, the first at `at` seconds, then every `every`."""

    name: str
    runs: int
    shards: int
    rounds: int = 2
    at: float = 0.0
    every: float = 0.0
    weight: float = 1.0


@dataclass(frozen=True)
class Scenario:
    name: str
    workers: int
    people: tuple[Person, ...]
    deaths: float = 0.0  # share of shards in which the worker dies
    first_come: bool = False  # the oldest run first, in place of taking turns
    most: int = 0  # shards after which it is broken off; 0: to the end
    seconds: float = 60.0  # of a shard, on a usual worker


class FleetEngine:
    """Rounds of blocks without anything in them. A run's budget is its shards in a round, its top_k its rounds."""

    phases = ("search",)

    def prepare(self, request: dict, work: Path, note: Callable[..., None]) -> dict:
        (work / "size.json").write_text(json.dumps({"shards": request["budget"], "rounds": request["top_k"]}))
        return {"warnings": []}

    def start(self, work: Path, phase: str, earlier: dict[str, bytes]) -> bytes:
        return b"0"

    def next_round(self, work: Path, phase: str, state: bytes) -> list[dict]:
        size = json.loads((work / "size.json").read_text())
        return [{"evaluations": 1}] * size["shards"] if int(state) < size["rounds"] else []

    def run_block(self, work: Path, phase: str, state: bytes, task: dict, count: Callable[[int], None]) -> bytes:
        return b"block"

    def merge(self, work: Path, phase: str, state: bytes, blocks: list[bytes]) -> bytes:
        return str(int(state) + 1).encode()

    def snapshot(self, work: Path, phase: str, state: bytes) -> dict:
        return {"evaluations": 1, "budget": 1, "half_width": 0.0, "leaders": []}

    def finish(self, work: Path, states: dict[str, bytes], out: Path, note: Callable[..., None]) -> dict:
        return {"repaired": False, "values": []}


@dataclass
class Load:
    """What the database was asked while something was done."""

    queries: Counter = field(default_factory=Counter)
    seconds: Counter = field(default_factory=Counter)
    database: Counter = field(default_factory=Counter)  # of these, until it had answered
    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    now: str = "else"
    clock: Callable[[], float] = time.process_time  # SQLite works in this process; others' load is not counted

    def __call__(self, execute: Callable, sql: str, params: Any, many: bool, context: dict) -> Any:
        self.queries[self.now] += 1
        began = self.clock()
        try:
            return execute(sql, params, many, context)
        finally:
            self.database[self.now] += self.clock() - began

    @contextmanager
    def of(self, what: str) -> Iterator[None]:
        self.now, began = what, self.clock()
        yield
        took = self.clock() - began
        self.seconds[what] += took
        self.times[what].append(took)
        self.now = "else"


def processors() -> float:
    """Seconds of this process and of the PostgreSQL process that serves it, on this machine; of no others."""
    from django.db import connection

    server = 0
    if connection.connection is not None:
        pid = connection.connection.info.backend_pid
        server = int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])
    return time.process_time() + server / 1e9


class Fleet:
    """One scenario, event by event."""

    def __init__(self, scenario: Scenario, say: Callable[[str], None], clock: Callable[[], float]) -> None:
        self.scenario, self.say = scenario, say
        self.random = random.Random(0)
        self.at, self.count, self.events = 0.0, 0, []
        self.load = Load(clock=clock)
        self.idle = deque(range(scenario.workers))
        self.life = [0] * scenario.workers
        self.dead: set[int] = set()
        self.rung: deque[float] = deque()
        slow = self.random.sample(range(scenario.workers), int(SLOW * scenario.workers))
        self.pace = [SLOWER if i in set(slow) else 1.0 for i in range(scenario.workers)]
        self.busy = self.lost = 0.0
        self.ended: list[float] = []  # when shards ended
        self.taken: list[tuple[float, str, float]] = []  # when, whose, how long
        self.bells = self.empty = self.deaths = 0

    @classmethod
    def of(cls, scenario: Scenario, database: str, say: Callable[[str], None]) -> Fleet:
        """With the clock, the broker and the order of turns put in the place of the real ones."""
        from webapp import clock
        from webapp.jobs import bells, fair, webhooks

        made = cls(scenario, say, processors if database else time.process_time)
        clock.now = made.clock
        bells.send = made.hear
        webhooks.send = lambda *_, **__: None
        if scenario.first_come:
            plain = fair._ordered
            fair._ordered = lambda runs: plain(runs).order_by("created_at", "pk")
        return made

    def later(self, seconds: float, do: Callable[..., None], *args: Any) -> None:
        self.count += 1
        heapq.heappush(self.events, (self.at + seconds, self.count, do, args))

    def clock(self) -> datetime:
        return EPOCH + timedelta(seconds=self.at)

    # --- what happens -----------------------------------------------------------------------------------------

    def hear(self, task: str = "run_shard", *args: Any, queue: str = "") -> None:
        """A bell: in place of the broker."""
        from webapp.jobs import coordinator

        if task.endswith("advance"):
            self.later(BELL, coordinator.advance, *args)
            return
        self.bells += 1
        self.later(BELL, self.answer)

    def answer(self) -> None:
        if not self.idle:
            self.rung.append(self.at)
            return
        self.work(self.idle.popleft())

    def work(self, worker: int) -> None:
        """It has heard a bell."""
        from webapp.jobs import tasks

        name = f"gpu{worker}@host/{self.life[worker]}/{worker}.1"
        with self.load.of("take"):
            lease = tasks.begin(QUEUE, name)
        if lease is None:
            self.empty += 1
            self.free(worker)
            return
        phase, person = self.about(lease)
        usual = self.scenario.seconds if phase == "search" else self.scenario.seconds / 3
        seconds = usual * self.pace[worker] * self.random.lognormvariate(0, 0.15)
        self.taken.append((self.at, person, seconds))
        if self.random.random() < self.scenario.deaths:
            share = self.random.random()
            self.lost += seconds * share
            self.later(seconds * share, self.die, worker)
            return
        self.busy += seconds
        self.renew(worker, lease, self.at + seconds, seconds)

    def about(self, lease: Any) -> tuple[str, str]:
        from webapp.jobs.models import Shard

        row = Shard.objects.values_list("phase", "job__made_by__username").get(pk=lease.shard_id)
        return row[0], row[1]

    def renew(self, worker: int, lease: Any, end: float, seconds: float) -> None:
        from webapp.jobs import leases

        if self.at + RENEW < end:
            if end - self.at < seconds:
                with self.load.of("renew"):
                    leases.renew(lease)
            self.later(RENEW, self.renew, worker, lease, end, seconds)
        else:
            self.later(end - self.at, self.end, worker, lease, seconds)

    def end(self, worker: int, lease: Any, seconds: float) -> None:
        from webapp.jobs import tasks

        with self.load.of("result"):
            tasks.compute(lease)
        with self.load.of("follow"):
            tasks.end(QUEUE, lease, seconds)
        self.ended.append(self.at)
        self.free(worker)

    def free(self, worker: int) -> None:
        if self.rung:
            self.rung.popleft()
            self.later(0.0, self.work, worker)
        else:
            self.idle.append(worker)

    def die(self, worker: int) -> None:
        self.deaths += 1
        self.dead.add(worker)
        self.later(GONE, self.back, worker)

    def back(self, worker: int) -> None:
        from webapp.jobs import leases, reaper

        self.dead.discard(worker)
        self.life[worker] += 1
        with self.load.of("reaper"):
            leases.release_incarnations(f"gpu{worker}@host", str(self.life[worker]))
            reaper.reap(force=True)
        self.free(worker)

    def beat(self) -> None:
        from webapp.jobs import reaper

        with self.load.of("reaper"):
            reaper.reap(force=True)
        self.later(REAP, self.beat)

    def heartbeats(self) -> None:
        from webapp.jobs.models import Worker

        silent = [f"gpu{number}@host" for number in self.dead]
        Worker.objects.exclude(name__in=silent).update(seen_at=self.clock())
        self.later(HEARTBEAT, self.heartbeats)

    def start(self, person: Person, user: Any, model: Any, dataset: Any, number: int) -> None:
        from benchmarks.engine import Repair
        from webapp.jobs import services
        from webapp.jobs.models import Job

        asked = Repair(metric="accuracy", budget=person.shards, top_k=person.rounds, seed=number)
        job, _ = services.create_job(owner=user, model=model, dataset=dataset, asked=asked, device="cuda")
        Job.objects.filter(pk=job.pk).update(created_at=self.clock())

    # --- from beginning to end ----------------------------------------------------------------------------------

    def run(self) -> dict[str, Any]:
        from django.db import connection

        self.fill()
        self.heartbeats()
        self.beat()
        self.say(f"{self.scenario.name}: begins")
        total, began = self.total(), time.perf_counter()
        with connection.execute_wrapper(self.load):
            while self.events and len(self.ended) < (self.scenario.most or total):
                self.at, _, do, args = heapq.heappop(self.events)
                do(*args)
        self.say(f"{self.scenario.name}: {len(self.ended)} shards in {time.perf_counter() - began:.0f} s")
        return self.figures()

    def total(self) -> int:
        return sum(person.runs * (person.shards * person.rounds + 2) for person in self.scenario.people)

    def fill(self) -> None:
        from tests.webapp.helpers import ready_dataset, ready_model
        from webapp.accounts.models import User
        from webapp.jobs import queueing
        from webapp.jobs.models import Worker

        workers = [
            Worker(name=f"gpu{i}@host", incarnation="0", queues=[QUEUE], seen_at=EPOCH)
            for i in range(self.scenario.workers)
        ]
        Worker.objects.bulk_create(workers, batch_size=500)
        for person in self.scenario.people:
            user = User.objects.create(username=person.name)
            content = person.name.encode()
            model, dataset = ready_model(user, content), ready_dataset(user, content)
            queueing.allow(user=user, weight=person.weight)
            if self.scenario.most:
                self.begun(person, user, model, dataset)
                continue
            for number in range(person.runs):
                self.later(person.at + number * person.every, self.start, person, user, model, dataset, number)
        for _ in range(self.scenario.workers if self.scenario.most else 0):
            self.hear()

    def begun(self, person: Person, user: Any, model: Any, dataset: Any) -> None:
        """All runs of one person sample already: their shards wait."""
        from webapp.jobs import files
        from webapp.jobs.models import Job, PhaseState, Shard, Share

        share, now = Share.objects.create(user=user, queue=QUEUE), self.clock()
        at_work = {"state": "processing", "phase": "search", "admitted_at": now, "started_at": now, "device": "cuda"}
        known = {"owner": user, "made_by": user, "model": model, "dataset": dataset, "share": share}
        jobs = Job.objects.bulk_create(Job(**known, **at_work) for _ in range(person.runs))
        Job.objects.filter(share=share).update(created_at=now)
        states = [PhaseState(job=job, phase="search", round=0, sha256=files.put(job, b"0")) for job in jobs]
        PhaseState.objects.bulk_create(states)
        work = {"tasks": [{"evaluations": 1}], "total": 1, "rung_at": now}
        rows = [Shard(job=job, phase="search", first_block=i, **work) for job in jobs for i in range(person.shards)]
        Shard.objects.bulk_create(rows, batch_size=1000)

    # --- figures --------------------------------------------------------------------------------------------------

    def figures(self) -> dict[str, Any]:
        from django.db.models import F

        from webapp.jobs.models import Job, Share

        n, last = len(self.ended), max(self.ended)
        ends = sorted(self.ended)
        first, waits = {}, defaultdict(list)
        for job in Job.objects.exclude(admitted_at=None).select_related("made_by"):
            waits[job.made_by.username].append((job.admitted_at - job.created_at).total_seconds())
            first.setdefault(job.made_by.username, job.created_at)
        done = defaultdict(list)
        for name, begun, end in Job.objects.exclude(finished_at=None).values_list(
            "made_by__username", "created_at", "finished_at"
        ):
            done[name].append((end - begun).total_seconds())
        served = dict(Share.objects.filter(served__gt=0).values_list("user__username", F("served")))
        return {
            "name": self.scenario.name,
            "workers": self.scenario.workers,
            "shards": n,
            "seconds": last,
            "efficiency": None if self.scenario.most else self.busy / (self.scenario.workers * last),
            "lost": self.lost / (self.busy + self.lost),
            "tail": None if self.scenario.most else last - ends[int(0.99 * (n - 1))],
            "jain": self.jain(),
            "waits": {name: statistics.median(found) for name, found in waits.items()},
            "took": {name: statistics.median(found) for name, found in done.items()},
            "served": served,
            "deaths": self.deaths,
            "bells": self.bells / n,
            "empty": self.empty / n,
            "queries": {what: count / n for what, count in self.load.queries.items()},
            "ms": {what: 1000 * seconds / n for what, seconds in self.load.seconds.items()},
            "database": {what: 1000 * seconds / n for what, seconds in self.load.database.items()},
            "take": {
                "p50": 1000 * statistics.median(self.load.times["take"]),
                "p95": 1000 * statistics.quantiles(self.load.times["take"], n=20)[-1],
            },
            "finished": sum(len(found) for found in done.values()),
        }

    def jain(self) -> float | None:
        """Of the seconds given to each, by weight, from when the last of them came until the first had no more."""
        people = self.scenario.people
        began = max(person.at for person in people)
        ends = {
            person.name: max((at for at, name, _ in self.taken if name == person.name), default=0) for person in people
        }
        until = min(ends.values())
        got = {person.name: 0.0 for person in people}
        for at, name, seconds in self.taken:
            if began <= at <= until:
                got[name] += seconds
        shares = [got[person.name] / person.weight for person in people]
        if until <= began or not sum(shares):
            return None
        return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))
