"""Uploads that go on where they were cut off, as tus 1.0 has them (`api.resumable` speaks the protocol).

The row says how many bytes count; they lie in a file under `incoming/`. What a crash has written beyond them is
overwritten. The file's room is held in the quota from the announcement until it is used, given up, or expires.

Looked at first: django-tus (last release 2020, for Django 3.1) and drf-tus (2018) are no longer kept; asgi-tus,
tuspyserver (for FastAPI) and resumable-upload bring stores of their own, and know neither owners nor a quota.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol
from uuid import UUID, uuid4

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction

from webapp import clock
from webapp.accounts.models import User
from webapp.library import cache, quota
from webapp.library.errors import Refused, TooLarge
from webapp.library.models import Reservation, ResumableUpload
from webapp.library.store import Damaged, get_store
from webapp.library.uploads import cap_of
from webapp.steady import StoreAway

log = logging.getLogger(__name__)
KEPT = timedelta(days=2)  # since the last byte came: a laptop that is closed over a night, or over a day at home
MOST = 100  # of one account: rows cost something, too
CHUNK = 1 << 20
CHECKSUMS = ("sha1", "sha256")


class Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Mismatch(Refused):
    """tus's own status: the bytes of one request are not those of its Upload-Checksum."""

    def __init__(self) -> None:
        super().__init__(
            "What arrived does not have the checksum that was sent with it; it was thrown away.",
            "Send this part again.",
            status=460,
        )


@dataclass(frozen=True)
class Received:
    """A file that has arrived whole, for a form or the API: it stays until a model or a dataset is made of it."""

    pk: UUID
    name: str
    size: int
    sha256: str
    cap: int
    path: Path
    reservation: Reservation
    there: tuple[str, str] | None = None  # name and mark of an object of the store that has the same content

    @property
    def too_large(self) -> bool:
        return self.size > self.cap


def create(
    *, owner: User, size: int, name: str, kind: str = "", sha256: str = "", metadata: str = "", pk: UUID | None = None,
    begun: str = "",
) -> ResumableUpload:  # fmt: skip
    """Announce a file: its room is held, or there is none.

    Args:
        size: bytes.
        kind: 'model' or 'dataset', whose limit holds; '': not said yet.
        sha256: what the whole file must have; '': not said.
        metadata: as it was sent, to be given back.
        pk, begun: of one that goes straight to the store (`library.direct`): its id, and the store's.

    Raises:
        Refused: more than is accepted, than the account may keep (413) or than the disk has room for (507); or too many
            that were begun and not used (429).
    """
    cap = cap_of(kind) if kind else max(map(cap_of, ResumableUpload.Kind.values))
    if size > cap:
        raise TooLarge(name, size, cap)
    settings.INCOMING_DIR.mkdir(parents=True, exist_ok=True, mode=0o750)
    if size > shutil.disk_usage(settings.INCOMING_DIR).free:
        raise Refused("The server's disk is too full for this file.", "Ask the operator to make room.", status=507)
    until = clock.now() + KEPT
    with transaction.atomic():
        quota.lock(owner)
        if ResumableUpload.objects.filter(owner=owner).count() >= MOST:
            raise Refused(
                f"{MOST} uploads of yours were begun and not used.", "Use or delete some of them.", status=429
            )
        quota.check(owner, size, name)
        held = Reservation.objects.create(owner=owner, size=size, touched_at=_held_until(until))
        upload = ResumableUpload.objects.create(
            pk=pk or uuid4(), owner=owner, reservation=held, size=size, file_name=name, kind=kind, sha256=sha256,
            metadata=metadata, begun=begun, expires_at=until,
        )  # fmt: skip
        if not begun:
            os.close(os.open(upload.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    return upload


def append(upload: ResumableUpload, offset: int, body: Source, *, checksum: tuple[str, bytes] | None = None) -> None:
    """Add what comes to what is there, and look at the whole once it is. A body that breaks off counts as far as it
    came.

    Args:
        offset: bytes that the sender takes to be there.
        checksum: algorithm and digest of this body, which then counts whole or not at all.

    Raises:
        Refused: the offset is another (409), somebody else is writing (423), more came than was announced (413), the
            body is not what its checksum says (460) or the file not what was announced (422, and it is gone), or the
            upload is not there any more (404).
        OSError: the disk is full; what was there before stays.
    """
    with _alone(upload) as file:
        if offset != upload.offset:
            raise Refused(
                f"{upload.offset:,} bytes of {upload.file_name} are here, not {offset:,}.",
                "Ask where to go on (HEAD) and send from there.",
                status=409,
            )
        try:
            arrived = _write(upload, file, body, checksum)
            digest = _digest(file) if offset < arrived == upload.size else upload.sha256
        except BaseException:
            file.truncate(upload.offset)
            raise
        if digest != upload.sha256 and upload.sha256:
            remove(upload)
            raise other_content(upload, digest)
        if arrived > offset:
            count(upload, arrived, digest)


def _write(upload: ResumableUpload, file: BinaryIO, body: Source, checksum: tuple[str, bytes] | None) -> int:
    """Returns how many bytes there are then."""
    file.truncate(upload.offset)
    file.seek(upload.offset)
    summed = hashlib.new(checksum[0], usedforsecurity=False) if checksum else None
    while chunk := _read(body, whole=checksum is not None):
        if file.tell() + len(chunk) > upload.size:
            raise Refused(
                f"More came than the {upload.size:,} bytes that were announced.", "Announce it anew.", status=413
            )
        if summed:
            summed.update(chunk)
        file.write(chunk)
    if checksum and summed and summed.digest() != checksum[1]:
        raise Mismatch
    file.flush()
    os.fsync(file.fileno())
    return file.tell()


def _read(body: Source, *, whole: bool) -> bytes:
    try:
        return body.read(CHUNK)
    except OSError:  # the sender is gone
        if whole:
            raise Mismatch from None
        return b""


def _digest(file: BinaryIO) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def count(upload: ResumableUpload, arrived: int, digest: str) -> None:
    """So many bytes are here. Raises Refused (404): it was given up, or expired, meanwhile."""
    upload.offset, upload.sha256 = arrived, digest
    put_off(upload, offset=arrived, sha256=digest, mark=upload.mark)


def put_off(upload: ResumableUpload, **more: object) -> None:
    """Its two days begin now. Raises: see `count`."""
    upload.expires_at = clock.now() + KEPT
    with transaction.atomic():
        if not ResumableUpload.objects.filter(pk=upload.pk).update(expires_at=upload.expires_at, **more):
            raise gone()
        Reservation.objects.filter(pk=upload.reservation_id).update(touched_at=_held_until(upload.expires_at))


def other_content(upload: ResumableUpload, digest: str) -> Refused:
    return Refused(
        f"{upload.file_name} was announced with the SHA-256 {upload.sha256}, and what arrived has {digest}. "
        "Nothing of it was kept.",
        "It was changed while it was sent, or damaged on the way: send it again.",
        status=422,
    )


def terminate(upload: ResumableUpload) -> None:
    """Give it up. Raises Refused (423): somebody is writing."""
    try:
        with _alone(upload):
            remove(upload)
    except Refused as refused:
        if refused.status == 423:
            raise


@contextmanager
def _alone(upload: ResumableUpload) -> Iterator[BinaryIO]:
    """The file, while nobody else writes to it; the row as it is then. A lock of the system's: who dies has none."""
    try:
        handle = os.open(upload.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        remove(upload)
        raise gone() from None
    with os.fdopen(handle, "r+b") as file:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(
                f"{upload.file_name} is being written to.", "Ask in a moment where to go on (HEAD).", status=423
            ) from None
        row = ResumableUpload.objects.filter(pk=upload.pk).values_list("offset", flat=True).first()
        if row is None:
            raise gone()
        if os.fstat(handle).st_size < row:  # the disk has lost it
            remove(upload)
            raise gone()
        upload.offset = row
        yield file


def remove(upload: ResumableUpload) -> None:
    """With all that came of it."""
    quota.release(upload.reservation)  # and the row with it
    upload.path.unlink(missing_ok=True)
    if upload.begun:
        forget(upload)


def forget(upload: ResumableUpload) -> None:
    """What the store has of it. Where that cannot be asked the hourly cleanup does it: there is no row any more."""
    store = get_store()
    try:
        if store.direct:
            store.direct.give_up(upload.stored_as, upload.begun)
        store.delete(upload.stored_as)
    except StoreAway as error:
        log.warning("%s stays in the store until the next cleanup: %s", upload.stored_as, error)


def gone() -> Refused:
    return Refused("This upload is not here any more.", "Begin it anew.", status=404)


def received(owner: User, pk: UUID | str, kind: str, name: str = "") -> Received:
    """A file of the owner's that has arrived, to make a 'model' or a 'dataset' of.

    Raises Refused: there is none (404), or not all of it is here (409).
    """
    rows = ResumableUpload.objects.filter(owner=owner, expires_at__gt=clock.now()).select_related("reservation")
    try:
        upload = rows.filter(pk=pk).first()
    except ValidationError:  # no id at all
        upload = None
    if upload is not None and upload.begun and upload.is_whole and not upload.path.is_file():
        _fetch(upload)  # another machine read it back
    if upload is None or not (upload.begun or upload.path.is_file()):
        raise Refused(
            "You have no upload with this id.", "It is kept for two days, and used once: send it anew.", status=404
        )
    if not upload.is_whole and upload.begun:
        raise Refused(f"{upload.file_name} is not all here, or was not completed.", "Complete it first.", status=409)
    if not upload.is_whole:
        raise Refused(
            f"Of {upload.file_name} {upload.offset:,} of {upload.size:,} bytes are here.", "Send the rest.", status=409
        )
    return Received(
        pk=upload.pk, name=name or upload.file_name, size=upload.size, sha256=upload.sha256, cap=cap_of(kind),
        path=upload.path, reservation=upload.reservation,
        there=(upload.stored_as, upload.mark) if upload.begun else None,
    )  # fmt: skip


def _fetch(upload: ResumableUpload) -> None:
    """Raises Refused (404): the store has lost it."""
    cache.make_room(upload.size)
    try:
        os.replace(get_store().checked(upload.stored_as, upload.sha256), upload.path)
    except Damaged:
        remove(upload)
        raise gone() from None


def claim(file: Received) -> None:
    """For this transaction's model or dataset: of two requests that name it one has it. Raises Refused."""
    if ResumableUpload.objects.select_for_update().filter(pk=file.pk).first() is None:
        raise gone()
    quota.release(file.reservation)
    if file.there:
        transaction.on_commit(partial(get_store().delete, file.there[0]), robust=True)


def _held_until(when: datetime) -> datetime:
    """The `touched_at` of a reservation that goes stale at that moment."""
    return when - quota.STALE
