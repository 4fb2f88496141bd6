"""`/metrics` for Prometheus. All figures are the database's, asked at each scrape: whichever process answers says the
same, and none has to be added up over processes."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Count, Min, Q, Sum
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from repair_engine import __version__
from webapp import clock
from webapp.accounts.models import User
from webapp.celery import app
from webapp.jobs.models import FINISH, PREPARE, Delivery, Job, Shard
from webapp.library.models import Blob, DatasetUpload, ModelUpload
from webapp.monitoring import probes
from webapp.pages import operation

WINDOW = timedelta(minutes=5)  # over which evaluations per second are counted


def view(request: HttpRequest) -> HttpResponse:
    if not _may(request):
        said = "Metrics are for whom NR_METRICS_TOKEN or NR_METRICS_NETWORKS lets in.\n"
        return HttpResponse(said, status=403, content_type="text/plain")
    registry = CollectorRegistry(auto_describe=False)
    registry.register(State())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _may(request: HttpRequest) -> bool:
    word, _, key = request.headers.get("Authorization", "").partition(" ")
    token = settings.METRICS_TOKEN
    if token and word.lower() == "bearer" and constant_time_compare(key.strip(), token):
        return True
    try:
        caller = ipaddress.ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return False
    caller = getattr(caller, "ipv4_mapped", None) or caller
    return any(caller in network for network in settings.METRICS_NETWORKS)


class State:
    """Read anew by each `collect`."""

    def collect(self) -> Iterator[Metric]:
        now = clock.now()
        yield _gauge("info", "The release that answers.", ["version"], {(__version__,): 1})
        ready = probes.lately()()
        yield _gauge(
            "ready", "1: this check of /readyz passes.", ["check"], {(name,): not why for name, why in ready.items()}
        )
        yield from _disk()
        if ready["database"] or ready["migrations"]:
            return
        yield from _jobs(now)
        yield from _queues(now, broker=not ready["broker"])
        yield from _stored()


def _gauge(name: str, what: str, labels: list[str], values: dict[tuple[str, ...], float]) -> Metric:
    family = GaugeMetricFamily(f"neuron_repair_{name}", what, labels=labels)
    for value, number in values.items():
        family.add_metric(list(value), float(number))
    return family


def _one(name: str, what: str, value: float) -> Metric:
    return _gauge(name, what, [], {(): value})


def _age(now: datetime, since: datetime | None) -> float:
    return max((now - since).total_seconds(), 0.0) if since else 0.0


def _jobs(now: datetime) -> Iterator[Metric]:
    rows = Job.objects.filter(deleted_at=None).order_by()
    counts = {(state, kind): n for state, kind, n in rows.values_list("state", "kind").annotate(Count("pk"))}
    for state in Job.State.values:  # a series that comes and goes cannot be watched
        counts.setdefault((state, "repair"), 0)
    yield _gauge("jobs", "Runs that were not deleted.", ["state", "kind"], counts)
    failed = dict(rows.filter(state=Job.State.FAILED).values_list("fault").annotate(Count("pk")))
    failures = {(fault,): failed.get(fault, 0) for fault in ("input", "server")}
    yield _gauge("jobs_failed", "Failed runs by whose fault it was.", ["fault"], failures)
    active = Job.objects.filter(state__in=Job.ACTIVE).order_by()
    oldest = dict(active.values_list("state").annotate(Min("created_at")))
    ages = {(state,): _age(now, oldest.get(state)) for state in Job.ACTIVE}
    yield _gauge("jobs_oldest_age_seconds", "Since the oldest run in this state was asked for.", ["state"], ages)
    yield _one("jobs_held", "Runs that cannot move on just now: a full disk.", active.exclude(held="").count())
    # Found by the few runs they belong to, not by their state, which nearly all shards have.
    lately = Job.objects.filter(Q(state__in=Job.ACTIVE) | Q(finished_at__gt=now - WINDOW)).order_by().values("pk")
    sampled = Shard.objects.filter(job__in=lately, finished_at__gt=now - WINDOW).exclude(phase__in=(PREPARE, FINISH))
    sums = dict(sampled.order_by().values_list("state").annotate(Sum("done")))
    done = sums.get(Shard.State.DONE, 0)
    what = f"Of shards that ended within the last {WINDOW.total_seconds() / 60:g} minutes, all workers together."
    yield _one("evaluations_per_second", what, done / WINDOW.total_seconds())


def _queues(now: datetime, *, broker: bool) -> Iterator[Metric]:
    stations = operation.stations()
    shards = Shard.objects.filter(job__state__in=Job.ACTIVE).order_by()
    counts = dict(shards.values_list("state").annotate(Count("pk")))
    states = {(state,): counts.get(state, 0) for state in Shard.State.values}
    yield _gauge("shards", "Of runs under way.", ["state"], states)
    retries = shards.aggregate(n=Sum("failures"))["n"] or 0
    yield _one("shard_failures", "Attempts that ended badly, of runs under way.", retries)
    since = shards.filter(state=Shard.State.LEASED).aggregate(at=Min("claimed_at"))["at"]
    yield _one("lease_oldest_age_seconds", "Since the oldest shard in work was claimed.", _age(now, since))
    queues = operation.queues(stations)
    waiting = {(one.name,): one.waiting for one in queues}
    yield _gauge("queue_waiting", "What waits for workers of a queue, by the database.", ["queue"], waiting)
    ages = {(one.name,): _age(now, one.since) for one in queues}
    yield _gauge("queue_oldest_age_seconds", "Since the first that waits was asked for.", ["queue"], ages)
    workers = {(one.name,): one.workers for one in queues}
    yield _gauge("workers", "Alive, by the queues that they listen to.", ["queue"], workers)
    if broker:
        messages = {(one.name,): _messages(one.name) for one in queues}
        yield _gauge("broker_messages", "Bells in the broker that nobody has heard yet.", ["queue"], messages)


def _messages(queue: str) -> int:
    with app.connection_for_read() as broker:
        channel = broker.default_channel
        try:
            return channel.queue_declare(queue, passive=True).message_count
        except broker.channel_errors:
            return 0  # nobody has rung there yet


def _stored() -> Iterator[Metric]:
    uploads = {
        (kind, state): n
        for kind, model in (("model", ModelUpload), ("dataset", DatasetUpload))
        for state, n in model.objects.order_by().values_list("state").annotate(Count("pk"))
    }
    yield _gauge("uploads", "Models and datasets.", ["kind", "state"], uploads)
    calls = dict(Delivery.objects.order_by().values_list("state").annotate(Count("pk")))
    deliveries = {(state,): calls.get(state, 0) for state in Delivery.State.values}
    yield _gauge("webhook_deliveries", "Calls of webhooks that are kept.", ["state"], deliveries)
    blobs = Blob.objects.aggregate(n=Count("pk"), size=Sum("size"))
    yield _one("stored_files", "Uploads and results, each content once.", blobs["n"])
    yield _one("stored_bytes", "Uploads and results, each content once.", blobs["size"] or 0)
    yield _one("accounts", "That may sign in.", User.objects.filter(is_active=True).count())


def _disk() -> Iterator[Metric]:
    if (disk := operation.disk()) is not None:
        yield _one("disk_free_bytes", "Of the file system that holds the data directory.", disk.free)
        yield _one("disk_total_bytes", "Of the file system that holds the data directory.", disk.total)
