"""What is kept for how long, said once: beat keeps to it, and `manage.py cleanup` shows it and does it now.

Results are blobs that rows use: they are kept until their owner deletes them.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path

from django.conf import settings
from django.contrib.sessions.models import Session
from django.core.checks import Error, register
from django.db.models import Q, QuerySet

from webapp import clock
from webapp.accounts.models import ApiToken, AttemptCount
from webapp.jobs import removal, storage
from webapp.jobs.models import Delivery, Job
from webapp.library import blobs, resumable
from webapp.library.models import ARRIVING, Blob, ResumableUpload
from webapp.library.store import Begun, get_store

EVERY = 3600.0  # seconds between two looks, of all processes together, at what is not looked at often
AT_ONCE = 20  # things of a kind that the reaper removes in one go, so that nobody waits for it
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Thing:
    """What is due: files, or `count` rows.

    Attributes:
        paths: of this machine.
        names: of files or folders in the store.
        more: bytes of what has no name yet.
    """

    what: str
    remove: Callable[[], object]
    paths: tuple[Path, ...] = ()
    names: tuple[str, ...] = ()
    count: int = 1
    more: Callable[[], int] = int

    @property
    def bytes(self) -> int:
        """Of its files."""
        here = sum(_size(one) for path in self.paths for one in (path, *path.rglob("*")))
        return here + sum(_stored(name) for name in self.names) + self.more()


@dataclass(frozen=True)
class Kind:
    """Attributes:
    keep: how long, unless NR_KEEP_DAYS says otherwise.
    due: what is older than that moment.
    often: looked at by every pass of the reaper, not hourly.
    fixed: people are promised this time; no setting changes it.
    """

    name: str
    what: str
    keep: timedelta
    due: Callable[[datetime], Iterable[Thing]]
    often: bool = False
    fixed: bool = False

    def kept(self, days: float | None = None) -> timedelta:
        """So many days, or as NR_KEEP_DAYS says, or as it is here."""
        days = settings.KEEP_DAYS.get(self.name) if days is None else days
        return self.keep if days is None else timedelta(days=days)

    def things(self, days: float | None = None) -> Iterator[Thing]:
        """What is due now."""
        return iter(self.due(clock.now() - self.kept(days)))


# --- kinds --------------------------------------------------------------------------------------------------


def _deleted_runs(before: datetime) -> Iterator[Thing]:
    for job in Job.objects.filter(deleted_at__lt=before).order_by("deleted_at"):
        results = (Blob(sha256=name).stored_as for name in job.artifacts.values_list("blob", flat=True))
        yield Thing(f"{job.word} {job.pk}", partial(removal.purge, job), names=(_folder_of(job), *results))


def _ended(before: datetime) -> QuerySet[Job]:
    return Job.objects.exclude(state__in=Job.ACTIVE).filter(swept_at=None, finished_at__lt=before)


def _working_files(before: datetime) -> Iterator[Thing]:
    return _folders(_ended(before).exclude(state=Job.State.FAILED, fault="server"))


def _failed(before: datetime) -> Iterator[Thing]:
    return _folders(_ended(before).filter(state=Job.State.FAILED, fault="server"))


def _folders(jobs: QuerySet[Job]) -> Iterator[Thing]:
    for job in jobs:
        folder = _folder_of(job)
        yield Thing(get_store().where(folder), partial(_sweep_folder, job), names=(folder,))


def _folder_of(job: Job) -> str:
    return f"jobs/{job.pk}"


def _sweep_folder(job: Job) -> None:
    get_store().delete_folder(_folder_of(job))
    Job.objects.filter(pk=job.pk).update(swept_at=clock.now())


def _cases(before: datetime) -> Iterator[Thing]:
    return _old((settings.JOB_DIR / "what-if").glob("*"), before)


def _uploads(before: datetime) -> Iterator[Thing]:
    return _old(settings.INCOMING_DIR.glob("up-*"), before)


def _resumable(before: datetime) -> Iterator[Thing]:
    """Of rows that went with the room held for them (`quota.release_stale`)."""
    held = {one.path for one in ResumableUpload.objects.only("pk")}
    return _old((path for path in settings.INCOMING_DIR.glob("tus-*") if path not in held), before)


def _direct(before: datetime) -> Iterator[Thing]:
    """Of uploads that are over, where the store could not be asked to forget them; and of crashes."""
    store = get_store()
    if (direct := store.direct) is None:
        return
    rows = ResumableUpload.objects.filter(expires_at__gt=clock.now()).exclude(begun="")
    held = {one.stored_as: one.begun for one in rows.only("pk", "begun")}
    for one in direct.under_way(ARRIVING):
        if one.at < before.timestamp() and held.get(one.name) != one.id:
            remove = partial(direct.give_up, one.name, one.id)
            yield Thing(f"{store.where(one.name)}, in parts", remove, more=partial(_parts, one))
    for found in store.entries(ARRIVING):
        if found.placed < before.timestamp() and found.name not in held:
            yield Thing(store.where(found.name), partial(store.delete, found.name), names=(found.name,))


def _parts(begun: Begun) -> int:
    """Their bytes."""
    direct = get_store().direct
    try:
        return sum(part.size for part in direct.parts(begun.name, begun.id)) if direct else 0
    except FileNotFoundError:
        return 0


def _leftovers(before: datetime) -> Iterator[Thing]:
    others = (one for one in settings.INCOMING_DIR.glob("*") if not one.name.startswith(("up-", "tus-")))
    yield from _old(others, before)
    if get_store().remote:  # of attempts that were killed; what one leaves that ends is kept under another name
        attempts = [path for what in ("prepare", "finish") for path in settings.JOB_DIR.glob(f"*/{what}-*")]
        yield from _old(attempts, before)
    folders = [path for path in settings.JOB_DIR.glob("*-*-*-*-*") if _ID.fullmatch(path.name)]
    folders = [path for path in folders if _changed(path) < before.timestamp()]
    known = {str(pk) for pk in Job.objects.filter(pk__in=[path.name for path in folders]).values_list("pk", flat=True)}
    for path in folders:
        if path.name not in known:
            yield _path(path)


def _objects(before: datetime) -> Iterator[Thing]:
    """Of an object store, where folders are but the beginnings of names. The data directory's are among `leftovers`."""
    if not get_store().remote:
        return
    newest: dict[str, float] = {}
    for found in get_store().entries("jobs"):
        name = found.name.split("/")[1]
        newest[name] = max(found.placed, newest.get(name, 0.0))
    old = [name for name, placed in newest.items() if _ID.fullmatch(name) and placed < before.timestamp()]
    known = {str(pk) for pk in Job.objects.filter(pk__in=old).values_list("pk", flat=True)}
    for name in (f"jobs/{name}" for name in old if name not in known):
        yield Thing(get_store().where(name), partial(get_store().delete_folder, name), names=(name,))


def _blobs(before: datetime) -> Iterator[Thing]:
    for name in storage.unused(before)[:1000]:
        yield Thing(f"{name}, which nothing uses", partial(blobs.drop, name), names=(Blob(sha256=name).stored_as,))
    for name in storage.without_row(before):
        where = get_store().where(name)
        yield Thing(f"{where}, which has no row: to quarantine/", partial(storage.orphaned, name))


def _quarantined(before: datetime) -> Iterator[Thing]:
    for found in get_store().entries(storage.QUARANTINE):
        if found.placed < before.timestamp():
            remove = partial(get_store().delete, found.name)
            yield Thing(get_store().where(found.name), remove, names=(found.name,))


def _deliveries(before: datetime) -> Iterator[Thing]:
    return _rows("webhook calls", Delivery.objects.exclude(state=Delivery.State.PENDING).filter(created_at__lt=before))


def _tokens(before: datetime) -> Iterator[Thing]:
    return _rows("API tokens", ApiToken.objects.filter(Q(expires_at__lt=before) | Q(revoked_at__lt=before)))


def _sessions(before: datetime) -> Iterator[Thing]:
    return _rows("sign-ins", Session.objects.filter(expire_date__lt=before))


def _attempts(before: datetime) -> Iterator[Thing]:
    return _rows("counters", AttemptCount.objects.filter(until__lt=before))


def _rows(what: str, rows: QuerySet) -> Iterator[Thing]:
    if count := rows.count():
        yield Thing(what, rows.delete, count=count)


def _old(paths: Iterable[Path], before: datetime) -> Iterator[Thing]:
    return (_path(path) for path in sorted(paths) if _changed(path) < before.timestamp())


def _path(path: Path) -> Thing:
    return Thing(str(path), partial(_remove, path), (path,))


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()


def _stored(name: str) -> int:
    """Bytes of a stored file, or of a folder."""
    found = get_store().find(name)
    return found.size if found else sum(one.size for one in get_store().entries(name))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:
        return 0


KINDS = {
    kind.name: kind
    for kind in (
        Kind("deleted", "runs that were deleted, with their results", removal.UNDO, _deleted_runs, True, fixed=True),
        # A worker that has not yet noticed a cancel may still write.
        Kind("working", "working files of runs that have ended", timedelta(minutes=10), _working_files, True),
        Kind("failed", "working files of runs that failed on our side", timedelta(days=7), _failed, True),
        Kind("cases", "what was made ready for other sets of units", timedelta(hours=2), _cases, True),
        Kind(
            "uploads",
            "uploads that were cut off, or are kept for a form",
            timedelta(hours=1),
            _uploads,
            True,
            fixed=True,
        ),
        Kind(
            "resumable", "uploads that were not gone on with, or not used", resumable.KEPT, _resumable, True, fixed=True
        ),
        Kind("direct", "uploads straight to the store that nobody waits for", timedelta(hours=1), _direct, fixed=True),
        Kind("leftovers", "what crashes left in incoming/ and jobs/", timedelta(days=2), _leftovers, True),
        Kind("blobs", "files that no row needs or has", timedelta(days=2), _blobs),
        Kind("objects", "files of runs that are gone, in an object store", timedelta(days=2), _objects),
        Kind("quarantine", "files found where they do not belong", timedelta(days=30), _quarantined),
        Kind("deliveries", "webhook calls that were made or given up", timedelta(days=90), _deliveries),
        Kind("tokens", "API tokens that have expired or were revoked", timedelta(days=90), _tokens),
        Kind("sessions", "sign-ins that have expired", timedelta(0), _sessions),
        Kind("attempts", "counters of tried passwords that have run out", timedelta(0), _attempts),
    )
}


def check_days(days: Mapping[str, float]) -> None:
    """Raises ValueError: a kind is unknown, or is kept as long as people were promised."""
    for name in days:
        if name not in KINDS:
            raise ValueError(f"there is no kind {name!r} to keep; kinds: {', '.join(KINDS)}")
        if KINDS[name].fixed:
            raise ValueError(f"{name}: people are promised {KINDS[name].keep}; no setting changes it")


@register()
def kinds_that_are_kept(**_: object) -> list:
    try:
        check_days(settings.KEEP_DAYS)
    except ValueError as error:
        return [Error(f"NR_KEEP_DAYS: {error}.", hint="Write KIND=DAYS,KIND=DAYS.", id="webapp.E009")]
    return []


# --- doing it -----------------------------------------------------------------------------------------------


def often() -> None:
    """The reaper's part."""
    for kind in KINDS.values():
        if kind.often:
            for thing in islice(kind.things(), AT_ONCE):
                thing.remove()


def sometimes() -> None:
    """The rest: at most once an hour, for it lists all files. A file's time tells all processes when that was."""
    stamp = settings.DATA_DIR / "swept"
    if stamp.exists() and time.time() - stamp.stat().st_mtime < EVERY:
        return
    stamp.touch()
    for kind in KINDS.values():
        if not kind.often:
            for thing in kind.things():
                thing.remove()
