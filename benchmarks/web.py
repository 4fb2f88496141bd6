"""The web application as it is used: server time of every page with many runs, and answers to many who watch.

A data directory of its own on SQLite: `runs` finished runs with reports, one with a table of `units` filters, and one
that works, and others that wait for workers. Pages are asked for in this process, one after the other; who watches asks
a real server, all at once, and so do those who upload.
"""

from __future__ import annotations

import csv
import io
import os
import statistics
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from copy import copy
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks import machine, tables
from benchmarks.uploading import upload
from benchmarks.watchers import INTERVAL, percentile, served, watch

TIMES = 30  # each page is asked for
IMAGES = 100_000  # of the report of one run
UNIT = "features.1:1"  # whose card was opened before
RUNNING = 5  # runs under way, beside the finished ones
PEOPLE = 10  # whose runs wait
TURNS = 20
BESIDE = ("table of runs", "a finished run", "its progress (poll)")  # pages asked for while others upload
TARGET = 0.1  # seconds at the 95th percentile


def web(args: Namespace, say: Callable[[str], None]) -> str:
    """A Markdown document."""
    with tempfile.TemporaryDirectory(prefix="web-") as folder:
        environment = _environment(Path(folder))
        os.environ.update(environment)
        import django
        from django.conf import settings
        from django.core.management import call_command

        django.setup()
        settings.LOGGING_CONFIG = None
        call_command("migrate", verbosity=0)
        say(f"{args.runs} runs, a table of {args.units} units")
        known = _seed(args.runs, args.units, args.queued)
        pages = []
        for name, url in _pages(known).items():
            pages.append(_page(name, known["session"], url))
            say(f"{name}: {1000 * pages[-1]['p95']:.0f} ms")
        turn = _turn()
        addresses = _pages(known)
        with served(environment) as (port, server):
            say(f"{args.watchers} watchers")
            watched = watch(port, server, known, addresses["its progress (poll)"], args.watchers)
            say(f"{args.uploads} uploads")
            seen = {name: addresses[name] for name in BESIDE} | {"is it alive? (/livez)": "/livez"}
            sent = upload(port, server, known, seen, args.uploads, args.megabytes * 10**6) if args.uploads else None
    return _document(args, pages, turn, watched, sent)


def _environment(folder: Path) -> dict[str, str]:
    """Of a data directory and a database that nobody else uses."""
    return {
        "DJANGO_SETTINGS_MODULE": "webapp.settings",
        "NR_DATA_DIR": str(folder),
        "NR_HTTPS": "0",
        "ALLOWED_HOSTS": "localhost,testserver",
        "DATABASE_URL": "",
        "REDIS_URL": "redis://localhost:1/0",  # nobody hears a bell
        "NR_SANDBOX_REQUIRE": "",
        "NR_UPLOADS_AT_ONCE": "1000",
        "NR_USER_QUOTA_BYTES": str(1 << 40),
        "LOG_LEVEL": "ERROR",
    }


# --- what there is -------------------------------------------------------------------------------------------


def _seed(n_runs: int, units: int, queued: int) -> dict[str, Any]:
    from django.test import Client
    from django.utils import timezone

    from tests.webapp.helpers import ready_dataset, ready_model
    from tests.webapp.pages.helpers import at_work, succeed
    from tests.webapp.tiny_engine import effect
    from webapp.accounts import services
    from webapp.jobs import sharing
    from webapp.jobs.models import Artifact, Job, Tag, UnitStudy
    from webapp.library.models import Blob

    user = services.create_user(username="owner", password="correct horse battery")
    user.is_staff = True
    user.save()
    _, token = services.create_token(owner=user, name="bench")
    model, dataset = ready_model(user, b"bench"), ready_dataset(user, b"bench")
    model.num_classes, model.facts = 1000, {"filters": units}
    model.save()
    first = Job.objects.create(owner=user, model=model, dataset=dataset, device="cpu", request={"metric": "accuracy"})
    succeed(first)
    artifacts = list(first.artifacts.all())
    now, jobs = timezone.now(), []
    for i in range(n_runs - 1):
        job = Job(owner=user, model=model, dataset=dataset, device="cpu", name=f"run {i}" if i % 2 else "")
        for field in ("state", "phase", "outcome", "summary", "result", "title", "kind", "budget"):
            setattr(job, field, getattr(first, field))
        job.request, job.seed, job.gain = {**first.request, "seed": i}, i, i / n_runs
        job.gain_lower, job.gain_upper = job.gain - 0.02, job.gain + 0.02
        job.finished_at = now
        jobs.append(job)
    Job.objects.bulk_create(jobs, batch_size=200)
    for i, job in enumerate(jobs):
        Job.objects.filter(pk=job.pk).update(created_at=now - timedelta(minutes=i))
    copies = [
        Artifact(job=job, name=one.name, media_type=one.media_type, blob_id=one.blob_id)
        for job in jobs
        for one in artifacts
    ]
    Artifact.objects.bulk_create(copies, batch_size=500)
    Tag.objects.bulk_create([Tag(job=job, word=f"tag {i % 7}") for i, job in enumerate(jobs)], batch_size=500)
    pictures = _with_images(first)
    large = first.artifacts.get(name="filters.csv")
    large.blob = _blob(_table(units))
    large.save()
    UnitStudy.objects.create(job=first, unit=UNIT, what="effect", result=effect())
    working = [at_work(user, model, dataset).pk for _ in range(RUNNING)]
    if queued:
        _queue(user, model, dataset, queued)
    assert Blob.objects.exists()
    client = Client()
    client.force_login(user)
    return {
        "session": client.cookies["sessionid"].value,
        "token": token,
        "finished": first.pk,
        "pictures": pictures.blob_id[:16],
        "link": sharing.create_link(job=first)[1],
        "other": [job.pk for job in jobs[:3]],
        "working": working[0],
        "model": model.pk,
        "dataset": dataset.pk,
    }


def _queue(user: Any, model: Any, dataset: Any, queued: int) -> None:
    """So many runs that no worker has begun, of `PEOPLE` alike with `user`, as `jobs.services` makes them."""
    from webapp.accounts import services
    from webapp.jobs.models import Job, Shard

    strangers = (
        services.create_user(username=f"person{i}", password="correct horse battery") for i in range(1, PEOPLE)
    )
    for person in (user, *strangers):
        first = Job.objects.create(
            owner=person, made_by=person, model=model, dataset=dataset, device="cpu", request={"metric": "accuracy"}
        )
        jobs = [copy(first) for _ in range(queued // PEOPLE)]
        for job in jobs:
            job.pk = uuid4()
        first.delete()
        Job.objects.bulk_create(jobs, batch_size=200)
        Shard.objects.bulk_create([Shard(job=job, phase="prepare") for job in jobs], batch_size=200)


def _turn() -> float | None:
    """Processor seconds, the median, in which a worker is given the shard whose turn it is."""
    from webapp.jobs import fair
    from webapp.jobs.models import Shard

    if not Shard.objects.filter(state=Shard.State.PENDING).exists():
        return None
    seconds = []
    for i in range(TURNS):
        began = time.thread_time()
        lease = fair.take("cpu", f"worker{i}@bench")
        seconds.append(time.thread_time() - began)
        assert lease is not None
    return statistics.median(seconds)


def _with_images(run: Any) -> Any:
    """Report images with predictions, and the dataset's pictures of them; metadata in three columns."""
    from tests.webapp.pages.pictures import (
        attack_pack,
        pack_of,
        predictions_csv,
        with_attacked,
        with_pictures,
        with_predictions,
    )

    names = [f"class {i % 100:03}/{i:06}.png" for i in range(IMAGES)]
    said = [f"class {i * i % 100:03}" for i in range(IMAGES)]
    rows = [(name, "report", name[:9], one, name[:9], 0.5 + i % 50 / 100, 0.75)
            for i, (name, one) in enumerate(zip(names, said, strict=True))]  # fmt: skip
    with_predictions(run, predictions_csv(rows))
    with_attacked(run, attack_pack())
    columns = {key: [f"{key} {i % n}" for i in range(IMAGES)] for key, n in (("site", 5), ("age", 90), ("sex", 2))}
    return with_pictures(run.dataset, pack_of(names, columns=columns))


def _blob(content: bytes) -> Any:
    from tests.webapp.helpers import blob_of

    return blob_of(content)


def _table(units: int) -> bytes:
    """As large as that of a large network; every tenth unit was sampled on fresh images."""
    from benchmarks.engine import FILTERS_HEADER
    from tests.webapp.pages.helpers import filter_cells

    out = io.StringIO()
    table = csv.DictWriter(out, FILTERS_HEADER, restval="", lineterminator="\n")
    table.writeheader()
    for i in range(units):
        fresh = {"fresh_value": -0.1, "fresh_lower": -0.2, "fresh_upper": 0.0, "fresh_samples": 9, "rank": i + 1}
        table.writerow(filter_cells(i, (i % 977) / 977 - 0.5, **(fresh if i % 10 == 0 else {})))
    return out.getvalue().encode()


# --- pages ---------------------------------------------------------------------------------------------------


def _pages(known: dict[str, Any]) -> dict[str, str]:
    """Address of each page by what it is called in the table."""
    run, working, others = f"/repairs/{known['finished']}/", f"/repairs/{known['working']}/", known["other"]
    several = "&".join(f"run={pk}" for pk in others)
    return {
        "start page": "/",
        "table of runs": "/repairs/",
        "the same, sorted by gain": "/repairs/?sort=-gain",
        "the same, searched": "/repairs/?q=run+9",
        "the same, last page": "/repairs/?page=20",
        "rows that run (poll)": f"/repairs/rows/?run={known['working']}",
        "a run that works": working,
        "its progress (poll)": f"{working}progress/?said=search-10&seen=search-20",
        "a finished run": run,
        "its images (htmx)": f"{run}images/",
        "the same, filtered and ordered (htmx)": f"{run}images/?class=class+017&show=still-right&order=change&page=3",
        "an image": f"{run}images/40000/?show=still-right",
        "a thumbnail": f"/datasets/{known['dataset']}/thumbnails/{known['pictures']}/40000/small/",
        "images changed by an adversary (htmx)": f"{run}images/?of=adversarial",
        "the map of its units": f"{run}map/",
        "a unit's card (htmx)": f"{run}unit/?unit={UNIT}",
        "a finished run with a card": f"{run}?unit={UNIT}",
        "the same by a link": f"/shared/{known['link']}/",
        "the map by a link": f"/shared/{known['link']}/map/",
        "its table of units": f"{run}filters/",
        "the same, sorted and searched": f"{run}filters/?sort=-samples&q=features.3",
        "name and tags": f"{run}edit/",
        "three runs side by side": f"/compare/?{several}",
        "choice of two runs": "/compare/",
        "start a repair": "/repairs/new/",
        "start an attack": "/attacks/new/",
        "models": "/models/",
        "a model": f"/models/{known['model']}/",
        "upload a model": "/models/new/",
        "datasets": "/datasets/",
        "a dataset": f"/datasets/{known['dataset']}/",
        "all its images (htmx)": f"/datasets/{known['dataset']}/images/?all=1",
        "operation": "/operator/",
        "tokens": "/account/tokens/",
        "API: list": "/api/v1/repairs/",
        "API: a run that works": f"/api/v1{working}",
        "API: a finished run": f"/api/v1{run}",
        "API: events": f"/api/v1{working}events/",
    }


def _page(name: str, session: str, url: str) -> dict[str, Any]:
    """Processor time, which others on the machine hardly change. The first answer, which may read files and fill
    caches, is told apart."""
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    client = Client(headers={"HX-Request": "true"} if "(" in name else {})
    client.cookies["sessionid"] = session
    seconds, clock = [], []
    for _ in range(TIMES + 1):
        began, at = time.thread_time(), time.perf_counter()
        answer = client.get(url)
        seconds.append(time.thread_time() - began)
        clock.append(time.perf_counter() - at)
        assert answer.status_code == 200, (name, url, answer.status_code)
    with CaptureQueriesContext(connection) as queries:
        client.get(url)
    first, *rest = seconds
    return {
        "page": name,
        "p50": statistics.median(rest),
        "p95": percentile(rest, 0.95),
        "first": first,
        "clock": statistics.median(clock),
        "queries": len(queries),
        "bytes": len(answer.content),
    }


# --- the table -----------------------------------------------------------------------------------------------


def _document(
    args: Namespace,
    pages: list[dict[str, Any]],
    turn: float | None,
    watched: list[dict[str, Any]],
    sent: dict[str, Any] | None,
) -> str:
    over = [row["page"] for row in pages if row["p95"] > TARGET]
    rows = [
        (row["page"], *(f"{1000 * row[key]:.0f}" for key in ("p50", "p95", "first", "clock")), str(row["queries"]),
         f"{row['bytes'] / 1000:.0f}")
        for row in pages
    ]  # fmt: skip
    polls = [
        (row["what"], row["how"], *(f"{1000 * row[key]:.0f}" for key in ("p50", "p95", "most")), f"{row['busy']:.0%}")
        for row in watched
    ]
    turns = [] if turn is None else [f"A worker is given the shard whose turn it is in {1000 * turn:.0f} ms (p50)."]
    return (
        "\n\n".join(
            [
                "# Pages, and many who watch",
                f"{machine.line(machine.machine('cpu'))}\n\n"
                f"Made by `python -m benchmarks web --runs {args.runs} --units {args.units} --queued {args.queued} "
                f"--watchers {args.watchers} --uploads {args.uploads} --megabytes {args.megabytes}`; "
                "[how to read it](../README.md).",
                f"## Server time, {args.runs} runs, {args.queued:,} that wait, {args.units:,} units, SQLite",
                "Over the target of 100 ms at the 95th percentile: " + (", ".join(over) or "none") + ".",
                *turns,
                "Processor time of one answer; *first*: that which reads files and fills caches; *by the clock*: the "
                "median, with all others who used the machine.",
                tables.grid(("page", "p50, ms", "p95, ms", "first, ms", "by the clock, ms", "queries", "kB"), rows),
                f"## {args.watchers} who watch one run",
                f"Asked by all at the same moment every {INTERVAL:g} s: until the answer is there. Waited for "
                "(`Prefer: wait`): from a worker's write on until all have the answer. *Processor*: of the server, in "
                "percent of one core, while they ask; of those who wait, while nothing changes.",
                tables.grid(
                    ("status of a run that works", "how", "p50, ms", "p95, ms", "most, ms", "processor"), polls
                ),
                *([] if sent is None else _sent(args, sent)),
            ]
        )
        + "\n"
    )


def _sent(args: Namespace, sent: dict[str, Any]) -> list[str]:
    """What is said of many who upload."""
    size = args.uploads * args.megabytes
    rows = [
        (name, when, *(f"{1000 * found[key]:.0f}" for key in ("p50", "p95", "most")), str(found["asked"]))
        for name, both in sent["pages"].items()
        for when, found in zip(("alone", "beside the uploads"), both, strict=True)
    ]
    return [
        f"## {args.uploads} who upload {args.megabytes} MB at once",
        f"In pieces by tus, to one server on this machine, which the senders use as well: {size:,} MB in "
        f"{sent['seconds']:.0f} s, {sent['bytes_per_second'] / 1e6:.0f} MB/s; the last file was there after "
        f"{sent['slowest']:.0f} s. The server used {sent['processor']:.0f} s of processor time, "
        f"{1000 * sent['processor'] / size:.1f} ms a megabyte. What one other person waits for, by the clock:",
        tables.grid(("page", "when", "p50, ms", "p95, ms", "most, ms", "asked"), rows),
    ]
