"""How far runs are. Everything about a run that works comes in the one query that reads its row (`watched`): hundreds
of people may look at once. `version` names what they see, so that who has seen it can wait for the next."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Case, F, Func, IntegerField, JSONField, Q, QuerySet, Subquery, Sum, When
from django.db.models.expressions import OuterRef
from django.db.models.functions import JSONObject

from webapp import clock
from webapp.jobs import fair
from webapp.jobs.leases import SILENT
from webapp.jobs.models import FINISH, PREPARE, Event, Job, PhaseState, Shard, Tag, Worker
from webapp.jobs.selectors import recent
from webapp.prepared import UUIDS, Prepared
from webapp.steady import NO_ROOM, no_room_left

HEAVY = ("summary", "result", "warnings", "detail")  # of a whole report: who watches needs none of it
BETWEEN = 5.0  # seconds between a round and the next in which nobody is said to wait
SHARES = {PREPARE: (0, 5), "search": (5, 65), "confirm": (65, 90), FINISH: (90, 100)}  # percent of the whole
_ATTACK = {PREPARE: (0, 5), FINISH: (5, 100)}
_ONE_PHASE = {PREPARE: (0, 5), "search": (5, 90), "confirm": (5, 90), FINISH: (90, 100)}


class _Rows(Subquery):
    """A query of one JSON column named `item`, as a JSON list."""

    output_field = JSONField()
    template = "(SELECT JSON_GROUP_ARRAY(JSON(item)) FROM (%(subquery)s) listed)"

    def as_postgresql(self, compiler: Any, connection: Any) -> Any:
        aggregated = "(SELECT COALESCE(JSONB_AGG(item), '[]'::jsonb) FROM (%(subquery)s) listed)"
        return self.as_sql(compiler, connection, template=aggregated)


class _Count(Subquery):
    output_field = IntegerField()
    template = "(SELECT COUNT(*) FROM (%(subquery)s) counted)"


class _WithoutLeaders(Func):
    output_field = JSONField()
    template = "JSON_REMOVE(%(expressions)s, '$.leaders')"

    def as_postgresql(self, compiler: Any, connection: Any) -> Any:
        return self.as_sql(compiler, connection, template="(%(expressions)s - 'leaders')")


class _Json(Func):
    """A JSON column as JSON: SQLite keeps it as a text."""

    output_field = JSONField()
    function = "JSON"

    def as_postgresql(self, compiler: Any, connection: Any) -> Any:
        return self.as_sql(compiler, connection, template="%(expressions)s")


def _items(rows: QuerySet, **fields: Any) -> QuerySet:
    return rows.annotate(item=JSONObject(**fields)).values("item")


@cache
def watched(*, charts: bool = False) -> QuerySet[Job]:
    """Runs, to be filtered, with what `progress` and the API need of each; `charts`: and what `series` does.

    Made once: putting the query together takes longer than the database does to answer it.
    """
    shards = Shard.objects.filter(job=OuterRef("pk")).order_by("pk")
    here = shards.filter(phase=OuterRef("phase"), round=OuterRef("round"))
    states = PhaseState.objects.filter(job=OuterRef("pk"))
    goes_on = Job.objects.filter(parent=OuterRef("pk"), deleted_at=None).order_by("-created_at")
    tags = Tag.objects.filter(job=OuterRef("pk")).order_by("word")
    own = Job.objects.filter(share=OuterRef("share"), state=Job.State.STARTING, paused_at=None)
    first = Q(priority__gt=OuterRef("priority"))
    before = own.filter(first | Q(priority=OuterRef("priority"), created_at__lt=OuterRef("created_at")))
    begun = Job.objects.filter(fair.RUNNING, share__user=OuterRef("share__user"))
    rows = Job.objects.annotate(
        live_shards=_Rows(
            _items(here, state="state", done="done", saved="saved", total="total", note="note", held="held",
                   claimed="claimed_at")
        ),
        live_recent=_Rows(_items(recent(shards), done="done", claimed="claimed_at", finished="finished_at")),
        live_done=Subquery(_sum(shards.filter(phase=OuterRef("phase")), "done")),
        live_retries=Subquery(_sum(shards, "failures")),
        live_snapshot=Subquery(states.order_by("-pk").values("snapshot")[:1]),
        live_state=Subquery(states.order_by("-pk").values("pk")[:1]),
        live_event=Subquery(Event.objects.filter(job=OuterRef("pk")).order_by("-pk").values("pk")[:1]),
        live_workers=_Rows(_items(Worker.objects.order_by("name"), queues=_Json("queues"), seen="seen_at")),
        live_followups=_Rows(_items(goes_on, id="pk", owner="owner", team="team")),
        live_maker=F("made_by__username"),
        live_tags=_Rows(_items(tags, word="word")),
        live_ahead=_Count(before.values("pk")),
        live_begun=Case(When(admitted_at=None, then=_Count(begun.values("pk"))), default=0),
        live_most=F("share__user__allowance__running"),
    )  # fmt: skip
    if charts:
        points = _items(states.order_by("pk"), phase="phase", round="round", point=_WithoutLeaders("snapshot"))
        rows = rows.annotate(live_series=_Rows(points)).defer(*HEAVY)
    return rows


def _sum(rows: QuerySet, field: str) -> QuerySet:
    return rows.order_by().values("job").annotate(found=Sum(field)).values("found")


def seen(job: Job, *, charts: bool = False) -> Job:
    """The job as `watched` reads it, unless it was."""
    if hasattr(job, "live_series" if charts else "live_shards"):
        return job
    return watched(charts=charts).get(pk=job.pk)


PARTS = tuple(2**i for i in range(len(UUIDS).bit_length()))  # how many runs are asked for at once


def in_parts(pks: Iterable[UUID]) -> Iterator[list[UUID]]:
    """Filled up with the last one to a number of PARTS: each such number is a query that is written once."""
    left = list(dict.fromkeys(pks))
    while left:
        part, left = left[: PARTS[-1]], left[PARTS[-1] :]
        size = next(size for size in PARTS if size >= len(part))
        yield part + part[-1:] * (size - len(part))


@cache
def _anybodys(size: int) -> Prepared[Job]:
    return Prepared(lambda *pks: watched().filter(pk__in=pks, deleted_at=None).defer(*HEAVY), *UUIDS[:size])


def read(pks: Iterable[UUID]) -> list[Job]:
    """These runs as `watched` reads them, without HEAVY. One query of up to 64: nobody's rights are asked."""
    return [job for part in in_parts(pks) for job in _anybodys(len(part))(*part)]


_OF_TIME = ("eta_seconds", "eta_total_seconds", "elapsed_seconds")  # differ at every look
_OF_ROW = (
    "name", "state", "phase", "round", "outcome", "error", "mend", "held", "revision", "owner_id", "team_id",
    "archived_at", "started_at", "phase_started_at", "finished_at", "live_event", "live_state", "live_tags",
    "live_followups",
)  # fmt: skip


def version(job: Job) -> str:
    """Of a job that `watched` has read, all that can change of what is shown of it, as a short name; the passing of
    time changes nothing."""
    if name := getattr(job, "live_version", ""):
        return name
    shown = {name: getattr(job, name) for name in _OF_ROW} | vars(progress(job))
    for name in _OF_TIME:
        del shown[name]
    job.live_version = hashlib.sha256(json.dumps(shown, sort_keys=True, default=str).encode()).hexdigest()[:16]
    return job.live_version


def versions(pks: Iterable[UUID]) -> dict[UUID, str]:
    """By run; those that are not there are left out."""
    return {job.pk: version(job) for job in read(pks)}


@dataclass(frozen=True)
class Progress:
    """Where a job is. What pages, API and client show.

    Attributes:
        state: starting, processing, succeeded, failed, canceled.
        phase: prepare, the engine's phases, finish.
        note: what is being done now, in words; empty while sampling.
        evaluations, evaluations_total: done in this phase, and at most.
        percent: of the whole job, 0 to 100, never falling.
        eta_seconds: until the phase's evaluations are used up at the present pace; it may end sooner.
        eta_total_seconds: until the job has ended, roughly: later phases are taken to last as long as usual.
        workers: how many work on the job now.
        held: why work waits that could go on: a full disk, a pause after a failed attempt; empty else.
        paused: somebody paused it; it goes on when it is resumed.
        behind: of a job that is not begun because its person runs as many as they may, how many those are; 0 else.
        waiting: True when work is there and no worker has taken any of it.
        queue_position: of a job that no worker has begun, its place among its person's own that wait for the same
            kind of device, from 1; people take turns.
        worker_alive: False when no worker for this kind of device has been heard of lately.
        retries: attempts that failed and were repeated so far.
    """

    state: str
    phase: str
    note: str
    round: int
    evaluations: int
    evaluations_total: int
    percent: float
    eta_seconds: float | None
    eta_total_seconds: float | None
    workers: int
    held: str
    paused: bool
    behind: int
    waiting: bool
    queue_position: int | None
    worker_alive: bool
    retries: int
    elapsed_seconds: float | None

    def to_json(self) -> dict:
        return asdict(self)


def progress(job: Job) -> Progress:
    """Of a job that `watched` has read without a further query, once."""
    job = seen(job)
    if not hasattr(job, "live_progress"):
        job.live_progress = _progress(job)
    return job.live_progress


def _progress(job: Job) -> Progress:
    now, shards = clock.now(), job.live_shards
    leased = [shard for shard in shards if shard["state"] == Shard.State.LEASED]
    pending = [shard for shard in shards if shard["state"] == Shard.State.PENDING]
    sampling = job.phase not in (PREPARE, FINISH)
    done = job.live_done or 0
    # The latest snapshot is of the present phase, or there is none of it.
    total = max((job.live_snapshot or {}).get("budget") or sum(shard["total"] for shard in shards), done)
    part = done / total if total and sampling else 0.0
    left = _left(job, leased, total - done, now) if sampling and not (job.ended or job.paused) else None
    begun = job.state != Job.State.STARTING
    return Progress(
        state=job.state,
        phase=job.phase,
        note="" if job.ended else _note(job, leased, pending),
        round=job.round,
        evaluations=done if sampling else 0,
        evaluations_total=total if sampling else 0,
        percent=_percent(job, part),
        eta_seconds=_rounded(left),
        eta_total_seconds=_rounded(_whole(job, left, part, now)),
        workers=len(leased),
        held=_held(job, pending),
        paused=job.paused,
        behind=_behind(job),
        waiting=not job.paused and bool(pending) and not leased and (not begun or _idle(job, now) > BETWEEN),
        queue_position=None if begun or job.paused else job.live_ahead + 1,
        worker_alive=job.ended or _worker_alive(job, now),
        retries=job.live_retries or 0,
        elapsed_seconds=_elapsed(job),
    )


def _behind(job: Job) -> int:
    most = settings.USER_RUNNING if job.live_most is None else job.live_most
    waits = not job.ended and not job.paused and job.admitted_at is None
    return job.live_begun if waits and 0 < most <= job.live_begun else 0


def _worker_alive(job: Job, now: datetime) -> bool:
    return any(job.queue in one["queues"] and _time(one["seen"]) > now - SILENT for one in job.live_workers)


def _note(job: Job, leased: list[dict], pending: list[dict]) -> str:
    """What is done now; between two rounds there are no shards to say it."""
    if note := next((shard["note"] for shard in leased if shard["note"]), ""):
        return note
    return "" if leased or pending else "putting together what the workers found"


def _idle(job: Job, now: datetime) -> float:
    """Seconds since something was finished for the job."""
    ends = [_time(row["finished"]) for row in job.live_recent]
    last = max([*ends, *(at for at in (job.phase_started_at, job.started_at) if at)], default=job.created_at)
    return (now - last).total_seconds()


def _left(job: Job, leased: list[dict], evaluations: int, now: datetime) -> float | None:
    """Seconds until so many evaluations are done, at the pace of those who work now, or of one; None before it is
    known."""
    count, seconds = 0, 0.0
    for row in job.live_recent:
        count += row["done"]
        seconds += (_time(row["finished"]) - _time(row["claimed"])).total_seconds()
    if not count:  # the first shards say it while they run
        for row in leased:
            count += row["done"] - row["saved"]
            seconds += (now - _time(row["claimed"])).total_seconds()
    return evaluations * seconds / count / max(1, len(leased)) if count > 0 and seconds > 0 else None


def _shares(job: Job) -> Mapping[str, tuple[int, int]]:
    return _ATTACK if job.attacks else _ONE_PHASE if job.scores or not job.searches else SHARES


def _whole(job: Job, left: float | None, part: float, now: datetime) -> float | None:
    """Seconds until the job ends: what is left of the phase, and of the later ones what their shares say."""
    if job.ended or job.paused or job.phase == PREPARE or job.attacks:
        return None
    low, high = _shares(job).get(job.phase, (5, 90))
    if left is not None and part < 1:
        return left + left / (1 - part) * (100 - high) / (high - low)
    if job.phase == FINISH and job.started_at and job.phase_started_at:
        sampled = (job.phase_started_at - job.started_at).total_seconds()
        rest = sampled * (high - low) / low - (now - job.phase_started_at).total_seconds()
        return rest if rest > 0 else None
    return None


def _held(job: Job, pending: list[dict]) -> str:
    if job.ended:
        return ""
    return NO_ROOM if no_room_left() else job.held or next((shard["held"] for shard in pending if shard["held"]), "")


def _percent(job: Job, part: float) -> float:
    if job.state == Job.State.SUCCEEDED:
        return 100.0
    low, high = _shares(job).get(job.phase, (5, 90))
    return round(low + (high - low) * min(part, 1.0), 1)


def _elapsed(job: Job) -> float | None:
    if job.started_at is None:
        return None
    return _rounded(((job.finished_at or clock.now()) - job.started_at).total_seconds())


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def _time(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)  # SQLite keeps UTC without saying so


def series(job: Job) -> list[dict]:
    """The convergence chart: one point per merged round, without the leaders."""
    rows = seen(job, charts=True).live_series
    return [{"phase": row["phase"], "round": row["round"], **row["point"]} for row in rows]


def leaders(job: Job) -> list[dict]:
    """The present top culprits with their intervals, from the latest merged round."""
    return (seen(job).live_snapshot or {}).get("leaders", [])
