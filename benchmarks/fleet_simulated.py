"""A fleet that is not there: the real coordinator, leases and turns, driven by virtual workers on a virtual clock.

Real are the database (SQLite, or that of `--database`), `fair.take`, leases, rounds, merges, the reaper, bells and
result files. Virtual are the time, the computing (a shard's time is drawn; blocks are a few bytes), heartbeats and the
broker. Nobody sleeps, so the load of the database is measured as queries and milliseconds for each shard, and what it
could carry follows from them.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import machine, tables
from benchmarks.fleet import Fleet, Person, Scenario


def scenarios(workers: int) -> list[Scenario]:
    few = tuple(Person(f"short {i}", runs=2, shards=8, rounds=1, at=60.0 + 30 * i, every=240.0) for i in range(4))
    mixed = (
        Person("fifty runs", runs=50, shards=8, rounds=1),
        Person("one long run", runs=1, shards=120, rounds=1),
        *few,
    )
    many = (
        Person("fifty runs", runs=50, shards=workers // 100, rounds=1),
        *(Person(f"run {i + 1}", runs=1, shards=workers // 5, rounds=1, at=20.0 * i) for i in range(4)),
    )
    backlog = tuple(Person(f"user {i}", runs=50, shards=50, rounds=1) for i in range(40))
    return [
        Scenario("oldest run first, 40 workers", 40, mixed, first_come=True),
        Scenario("turns, 40 workers", 40, mixed),
        Scenario("turns, 40 workers, 2% of shards kill theirs", 40, mixed, deaths=0.02),
        Scenario(f"turns, {workers:,} workers", workers, many, deaths=0.002),
        Scenario("2,000 runs and 100,000 shards wait", 40, backlog, most=300),
    ]


def fleet(args: Namespace, say: Callable[[str], None]) -> str:
    """A Markdown document."""
    found = []
    for number, scenario in enumerate(scenarios(args.workers)):
        if args.scenario is None or number + 1 in args.scenario:
            found.append(_in_a_process(scenario, args.database, say))
    return _document(args, found)


def _in_a_process(scenario: Scenario, database: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Each has a data directory and a database of its own."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        status = 1
        try:
            with tempfile.TemporaryDirectory(prefix="fleet-") as folder, os.fdopen(writing, "w") as file:
                _set_up(Path(folder), database, scenario)
                file.write(json.dumps(Fleet.of(scenario, database, say).run()))
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as file:
        text = file.read()
    os.waitpid(child, 0)
    if not text:
        raise RuntimeError(f"{scenario.name}: the simulation failed; see above")
    return json.loads(text)


def _set_up(folder: Path, database: str, scenario: Scenario) -> None:
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "webapp.settings",
        "NR_DATA_DIR": str(folder),
        "DATABASE_URL": database,
        "REDIS_URL": "redis://localhost:1/0",  # nobody hears a bell
        "NR_ENGINE": "benchmarks.fleet:FleetEngine",
        "NR_USER_RUNNING": "0",  # turns alone are measured
        "NR_USER_QUEUED": "0",
        "LOG_LEVEL": "CRITICAL",
    }
    import django
    from django.conf import settings
    from django.core.management import call_command

    django.setup()
    settings.LOGGING_CONFIG = None
    call_command("flush" if database else "migrate", interactive=False, verbosity=0)
    settings.SHARD_SECONDS = int(scenario.seconds)


def _document(args: Namespace, found: list[dict[str, Any]]) -> str:
    parts = [
        "# A simulated fleet",
        f"{machine.line(machine.machine('cpu'))}; load {os.getloadavg()[0]:.1f} (above 1: others used the machine); "
        f"{'PostgreSQL' if args.database else 'SQLite'}\n\n"
        f"Made by `python -m benchmarks fleet_simulated --workers {args.workers}`; [how to read it](../README.md), "
        "[what follows](../../docs/scale.md).",
        "## Workers and people",
        "*Efficiency*: time of workers that ended in a result, of all until the last shard. *Tail*: the last 1% of "
        "shards, until the last. *Jain's index* of the workers' time that people were given, by weight, from when the "
        "last came until the first had no more: 1 is equal, less also where people asked for less.",
        tables.grid(
            ("", "workers", "shards", "efficiency", "lost with workers", "in all, min", "tail, min", "Jain"),
            (
                [r["name"], f"{r['workers']:,}", f"{r['shards']:,}", _known(r["efficiency"], "{:.0%}"),
                 f"{r['lost']:.1%}", f"{r['seconds'] / 60:.0f}", _known(r["tail"] and r["tail"] / 60, "{:.1f}"),
                 _known(r["jain"], "{:.2f}")]
                for r in found
            ),
        ),
        "## How long people wait",
        "Median minutes from a run's start until a worker began it / until its end.",
        tables.grid(("", "who has most work", "the others, median", "the others, worst"), map(_waits, found)),
        "## What the database is asked",
        "For each shard. *take*: choosing and leasing it, with the wasted bells; *result*: its blocks kept, its end; "
        "*follow*: counting, merging, the next round, its bells; *reaper*: of beat, every 10 s, and of workers that "
        "came back. In milliseconds of processors, PostgreSQL's included: all, and of these until the database had "
        "answered. Renewals and heartbeats come beside it.",
        tables.grid(
            ("", "take, queries", "ms", "a take, p50, p95", "result, queries", "ms", "follow, queries", "ms",
             "reaper, queries", "ms", "bells", "of them for nothing"),
            map(_asked, found),
        ),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _known(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _waits(row: dict[str, Any]) -> list[str]:
    most = max(row["waits"], key=lambda name: row["served"].get(name, 0.0))
    others = [name for name in row["waits"] if name != most]

    def minutes(name: str) -> tuple[float, float]:
        return row["waits"][name] / 60, row["took"].get(name, float("nan")) / 60

    def words(pair: tuple[float, float]) -> str:
        return " / ".join("–" if value != value else f"{value:.1f}" for value in pair)

    pairs = [minutes(name) for name in others]
    middle = tuple(statistics.median(pair[i] for pair in pairs) for i in (0, 1))
    worst = tuple(max(pair[i] for pair in pairs) for i in (0, 1))
    return [row["name"], words(minutes(most)), words(middle), words(worst)]


def _asked(row: dict[str, Any]) -> list[str]:
    cells = [row["name"]]
    for what in ("take", "result", "follow", "reaper"):
        ms = f"{row['ms'].get(what, 0):.1f}, {row['database'].get(what, 0):.1f}"
        cells += [f"{row['queries'].get(what, 0):.1f}", ms]
        if what == "take":
            cells.append(f"{row['take']['p50']:.1f}, {row['take']['p95']:.1f} ms")
    return [*cells, f"{row['bells']:.2f}", f"{row['empty']:.2f}"]


def add_arguments(verb: Any) -> None:
    verb.add_argument("--workers", type=int, default=1000, help="of the large fleet")
    verb.add_argument("--scenario", type=int, action="append", choices=range(1, 6), help="only this one")
    verb.add_argument("--database", default="", help="a URL of a PostgreSQL database, which is emptied")
