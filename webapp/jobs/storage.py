"""The store as it is against the rows: what a crash left, and what is wrong, is found and mended.

Nothing that may be good is deleted: what does not belong where it lies is moved to `quarantine/`, as NAME--WHY, from
where it returns if a row is found to need it, and is removed after a month (`cleanup`).
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from webapp.jobs.models import Artifact, Job, Shard
from webapp.library import blobs
from webapp.library.models import Blob, DatasetUpload, ModelUpload, Thumbnails
from webapp.library.store import Entry, get_store

log = logging.getLogger(__name__)
_NAME = re.compile(r"[0-9a-f]{64}")
UNDER_WAY = 3600.0  # seconds in which a file without a row may belong to a transaction that has not ended
QUARANTINE = "quarantine"


def quarantine(name: str, why: str) -> str:
    """Move it there, where its month begins; said for the operator."""
    target = f"{QUARANTINE}/{_last(name)}--{why}"
    get_store().move(name, target)
    return get_store().where(target)


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _is_blob(name: str) -> bool:
    return _NAME.fullmatch(_last(name)) is not None and name == Blob(sha256=_last(name)).stored_as


# --- what nothing needs -------------------------------------------------------------------------------------


def unused(before: datetime) -> QuerySet:
    """Names of blobs that were stored before that moment and that nothing uses."""
    rows = Blob.objects.filter(created_at__lt=before)
    for relation in Blob._meta.get_fields(include_hidden=True):
        if relation.one_to_many:
            users = relation.related_model.objects.filter(**{relation.field.name: OuterRef("pk")})
            rows = rows.filter(~Exists(users))
    return rows.values_list("pk", flat=True)


def without_row(before: datetime) -> Iterator[str]:
    """Names of files that got them before that moment and have no row."""
    known = set(Blob.objects.values_list("pk", flat=True))
    # An empty database beside a full store is a wrong DATABASE_URL, not a thousand crashes.
    if known and not blobs.backup_under_way():
        for found in get_store().entries("blobs"):
            if _is_blob(found.name) and _last(found.name) not in known and found.placed < before.timestamp():
                yield found.name


def orphaned(name: str) -> str:
    """Move a file that has no row away; returns where it is then, for the operator. "": it has a row, or is gone."""
    if Blob.objects.filter(pk=_last(name)).exists():
        return ""
    with blobs.held(_last(name)) as row:
        if row is not None or not get_store().exists(name):
            return ""
        target = quarantine(name, "orphan")
    log.warning("%s has no row: moved to %s", get_store().where(name), target)
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

    where: str
    wrong: str
    done: str = ""
    mended: bool = False


def check(*, repair: bool = False) -> Iterator[Finding]:
    """Read every blob and every working file, and compare with their names and with the rows."""
    store = get_store()
    for found in store.entries("blobs"):
        if not _is_blob(found.name):
            done = f"moved to {quarantine(found.name, 'stray')}" if repair else ""
            yield Finding(store.where(found.name), "is no blob's name", done, repair)
        elif (finding := _check_file(found, repair)) is not None:
            yield finding
    for blob in Blob.objects.order_by("pk").iterator():
        if not blob.is_there and Blob.objects.filter(pk=blob.pk).exists():
            yield _missing(blob, repair)
    yield from _check_working_files(repair)


def _check_file(seen: Entry, repair: bool) -> Finding | None:
    name, where = _last(seen.name), get_store().where(seen.name)
    try:
        actual = get_store().digest(seen.name)
    except FileNotFoundError:
        return None  # deleted meanwhile
    row = Blob.objects.filter(pk=name).first()
    if actual != name:
        return _wrong_content(seen, actual, repair)
    if row is None:
        if time.time() - seen.placed < UNDER_WAY:
            return None
        moved = orphaned(seen.name) if repair else ""
        return Finding(where, "has no row: nobody can reach it", f"moved to {moved}" if moved else "", bool(moved))
    if row.size != seen.size:
        if repair:
            Blob.objects.filter(pk=row.pk).update(size=seen.size)
        wrong = f"has {seen.size:,} bytes, its row says {row.size:,}"
        return Finding(where, wrong, "the row was set right" if repair else "", repair)
    return None


def _wrong_content(seen: Entry, actual: str, repair: bool) -> Finding | None:
    """Move it away, so that nobody is given it and the right content may return. It may be another row's lost file."""
    name, where = _last(seen.name), get_store().where(seen.name)
    wrong = f"holds other content (SHA-256 {actual}); used by {_users(name)}"
    if not repair:
        return Finding(where, wrong)
    with blobs.held(name) as row:
        now = get_store().find(seen.name)
        if now is None or now.mark != seen.mark:
            return None  # replaced while it was read
        target = quarantine(seen.name, actual)
    lost = "" if row is None else ". Whoever has the right file uploads it again, and it is stored anew"
    return Finding(where, wrong, f"moved to {target}{lost}", row is None)


def _missing(blob: Blob, repair: bool) -> Finding:
    store = get_store()
    where, wrong = store.where(blob.stored_as), f"is missing; used by {_users(blob.pk)}"
    for kept in [one.name for one in store.entries(QUARANTINE) if blob.pk in _last(one.name).split("--")]:
        if store.digest(kept) != blob.pk:
            continue
        if not repair:
            return Finding(where, f"{wrong}; {store.where(kept)} holds it")
        copy = _copied(kept, blob.pk)  # the original stays until the month is over
        with transaction.atomic():
            if Blob.objects.select_for_update().filter(pk=blob.pk).exists():
                blobs.put(copy)
        copy.path.unlink(missing_ok=True)
        return Finding(where, wrong, f"put back from {store.where(kept)}", True)
    return Finding(where, wrong, "nothing: whoever has the file uploads it again" if repair else "")


def _copied(name: str, sha256: str) -> blobs.Ready:
    store = get_store()
    return blobs.ready(store.checked(name, sha256)) if store.remote else blobs.ready_copy(store.at(name))


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
    store = get_store()
    for job in Job.objects.filter(state__in=Job.ACTIVE):
        parts = f"jobs/{job.pk}/parts"
        for found in store.entries(parts):
            try:
                if not _NAME.fullmatch(_last(found.name)) or store.digest(found.name) == _last(found.name):
                    continue
            except FileNotFoundError:
                continue
            done = f"moved to {quarantine(found.name, f'of-{job.pk}')}" if repair else ""
            wrong = f"holds other content; used by {job.word} {job.pk} of {job.home}"
            yield Finding(store.where(found.name), wrong, done)
        shards = Shard.objects.filter(job=job, phase=job.phase, round=job.round, state=Shard.State.DONE)
        for name in shards.exclude(result="").values_list("result", flat=True):
            moved_on = not Job.objects.filter(pk=job.pk, phase=job.phase, round=job.round, state=job.state).exists()
            if not store.exists(f"{parts}/{name}") and not moved_on:
                wrong = f"is missing; used by {job.word} {job.pk} of {job.home}"
                yield Finding(store.where(f"{parts}/{name}"), wrong)
