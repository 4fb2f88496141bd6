"""The store as it is on the disk against the rows: what a crash left, and what is wrong, is found and mended.

Nothing that may be good is deleted: what does not belong where it lies is moved to `quarantine/`, as NAME--WHY, from
where it returns if a row is found to need it, and is removed after a month (`cleanup`).
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from repair_engine.support.outputs import sha256
from webapp.jobs.models import Artifact, Job, Shard
from webapp.library import blobs
from webapp.library.models import Blob, DatasetUpload, ModelUpload, Thumbnails

log = logging.getLogger(__name__)
_NAME = re.compile(r"[0-9a-f]{64}")
UNDER_WAY = 3600.0  # seconds in which a file without a row may belong to a transaction that has not ended


def quarantine_folder() -> Path:
    return settings.DATA_DIR / "quarantine"


def quarantine(path: Path, why: str) -> Path:
    quarantine_folder().mkdir(parents=True, exist_ok=True, mode=0o700)
    target = quarantine_folder() / f"{path.name}--{why}"
    os.replace(path, target)
    os.utime(target)  # the month begins
    return target


def _files() -> Iterator[Path]:
    return (path for path in sorted(settings.BLOB_DIR.glob("*/*")) if path.is_file())


def _placed(path: Path) -> float:
    """When the file got its name: renaming sets the change time, and nobody can set it back."""
    try:
        return path.stat().st_ctime
    except FileNotFoundError:
        return time.time()


def _is_blob(path: Path) -> bool:
    return _NAME.fullmatch(path.name) is not None and path == Blob(sha256=path.name).path


# --- what nothing needs -------------------------------------------------------------------------------------


def unused(before: datetime) -> QuerySet:
    """Names of blobs that were stored before that moment and that nothing uses."""
    rows = Blob.objects.filter(created_at__lt=before)
    for relation in Blob._meta.get_fields(include_hidden=True):
        if relation.one_to_many:
            users = relation.related_model.objects.filter(**{relation.field.name: OuterRef("pk")})
            rows = rows.filter(~Exists(users))
    return rows.values_list("pk", flat=True)


def without_row(before: datetime) -> Iterator[Path]:
    """Files that got their name before that moment and have no row."""
    known = set(Blob.objects.values_list("pk", flat=True))
    if known:  # an empty database beside a full store is a wrong DATABASE_URL, not a thousand crashes
        for path in _files():
            if _is_blob(path) and path.name not in known and _placed(path) < before.timestamp():
                yield path


def orphaned(path: Path) -> Path | None:
    """Move a file that has no row away. None: it has one."""
    if Blob.objects.filter(pk=path.name).exists():
        return None
    with blobs.held(path.name) as row:
        if row is not None or not path.exists():
            return None
        target = quarantine(path, "orphan")
    log.warning("%s has no row: moved to %s", path, target)
    return target


# --- the check ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """Attributes:
    where: the file.
    wrong: what is wrong with it, and who uses it.
    done: what was done about it; empty without `repair`, or where nothing can be.
    mended: nothing is wrong any more.
    """

    where: Path
    wrong: str
    done: str = ""
    mended: bool = False


def check(*, repair: bool = False) -> Iterator[Finding]:
    """Read every blob and every working file, and compare with their names and with the rows."""
    for path in _files():
        if not _is_blob(path):
            done = f"moved to {quarantine(path, 'stray')}" if repair else ""
            yield Finding(path, "is no blob's name", done, repair)
        elif (finding := _check_file(path, repair)) is not None:
            yield finding
    for blob in Blob.objects.order_by("pk").iterator():
        if not blob.path.exists() and Blob.objects.filter(pk=blob.pk).exists():
            yield _missing(blob, repair)
    yield from _check_working_files(repair)


def _check_file(path: Path, repair: bool) -> Finding | None:
    try:
        seen = path.stat()
        actual = sha256(path)
    except FileNotFoundError:
        return None  # deleted meanwhile
    row = Blob.objects.filter(pk=path.name).first()
    if actual != path.name:
        return _wrong_content(path, seen, actual, repair)
    if row is None:
        if time.time() - seen.st_ctime < UNDER_WAY:
            return None
        moved = orphaned(path) if repair else None
        return Finding(path, "has no row: nobody can reach it", f"moved to {moved}" if moved else "", moved is not None)
    if row.size != seen.st_size:
        if repair:
            Blob.objects.filter(pk=row.pk).update(size=seen.st_size)
        wrong = f"has {seen.st_size:,} bytes, its row says {row.size:,}"
        return Finding(path, wrong, "the row was set right" if repair else "", repair)
    return None


def _wrong_content(path: Path, seen: os.stat_result, actual: str, repair: bool) -> Finding | None:
    """Move it away, so that nobody is given it and the right content may return. It may be another row's lost file."""
    wrong = f"holds other content (SHA-256 {actual}); used by {_users(path.name)}"
    if not repair:
        return Finding(path, wrong)
    with blobs.held(path.name) as row:
        now = path.stat() if path.exists() else None
        if now is None or (now.st_ino, now.st_mtime_ns) != (seen.st_ino, seen.st_mtime_ns):
            return None  # replaced while it was read
        target = quarantine(path, actual)
    lost = "" if row is None else ". Whoever has the right file uploads it again, and it is stored anew"
    return Finding(path, wrong, f"moved to {target}{lost}", row is None)


def _missing(blob: Blob, repair: bool) -> Finding:
    wrong = f"is missing; used by {_users(blob.pk)}"
    folder = quarantine_folder()
    for kept in [*folder.glob(f"*--{blob.pk}"), *folder.glob(f"{blob.pk}--*")]:
        if sha256(kept) != blob.pk:
            continue
        if not repair:
            return Finding(blob.path, f"{wrong}; {kept} holds it")
        copy = blobs.ready_copy(kept)  # the original stays until the month is over
        with transaction.atomic():
            if Blob.objects.select_for_update().filter(pk=blob.pk).exists():
                blobs.put(copy)
        copy.path.unlink(missing_ok=True)
        return Finding(blob.path, wrong, f"put back from {kept}", True)
    return Finding(blob.path, wrong, "nothing: whoever has the file uploads it again" if repair else "")


def _users(sha256: str) -> str:
    """Who has lost something, for the operator to tell."""
    found = [
        f"{kind._meta.verbose_name} {one.pk} of {one.home}"
        for kind in (ModelUpload, DatasetUpload)
        for one in kind.objects.filter(blob=sha256).select_related("owner", "team")[:20]
    ]
    pictures = Thumbnails.objects.filter(blob=sha256).select_related("dataset__owner", "dataset__team")[:20]
    found += [f"thumbnails of {one.dataset.name} of {one.dataset.home}" for one in pictures]
    results = Artifact.objects.filter(blob=sha256).select_related("job__owner", "job__team")[:20]
    found += [f"{one.name} of {one.job.word} {one.job_id} of {one.job.home}" for one in results]
    return "; ".join(found) or "nothing"


def _check_working_files(repair: bool) -> Iterator[Finding]:
    """States and block results of runs that have not ended."""
    for job in Job.objects.filter(state__in=Job.ACTIVE):
        parts = job.directory / "parts"
        for path in sorted(parts.glob("*")):
            try:
                if not _NAME.fullmatch(path.name) or sha256(path) == path.name:
                    continue
            except FileNotFoundError:
                continue
            done = f"moved to {quarantine(path, f'of-{job.pk}')}" if repair else ""
            yield Finding(path, f"holds other content; used by {job.word} {job.pk} of {job.home}", done)
        shards = Shard.objects.filter(job=job, phase=job.phase, round=job.round, state=Shard.State.DONE)
        for name in shards.exclude(result="").values_list("result", flat=True):
            moved_on = not Job.objects.filter(pk=job.pk, phase=job.phase, round=job.round, state=job.state).exists()
            if not (parts / name).exists() and not moved_on:
                yield Finding(parts / name, f"is missing; used by {job.word} {job.pk} of {job.home}")
