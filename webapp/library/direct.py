"""Uploads that go straight to the object store, part by part, at addresses that it is asked to sign.

The row and the room in the quota are those of `library.resumable`. What arrives is one multipart upload at
`arriving/ID` of the store, a name that only this process makes. Once it is finished nobody can add to it; then it is
read back here and compared with the size and the SHA-256 that were announced, and only what passes is `received`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from django.conf import settings

from webapp.accounts.models import User
from webapp.library import cache, resumable
from webapp.library.errors import Refused
from webapp.library.models import ResumableUpload
from webapp.library.store import Direct, Part, get_store

PART = 16 << 20  # bytes, at least, of all parts but the last; S3 wants 5 MiB
MOST_PARTS = 1000  # S3 takes 10,000, and lists so many at a time
AT_ONCE = 16  # parts whose addresses are given in one answer
READING = threading.BoundedSemaphore(2)  # files that are read back at once, of Django's few threads


@dataclass(frozen=True)
class Address:
    """Where a part goes: bytes `start` to `start + size` of the file, by PUT, as the whole body."""

    number: int
    start: int
    size: int
    url: str


@dataclass(frozen=True)
class Missing:
    """Attributes:
    there: bytes that the store has.
    parts: the next that it does not have; none: all are there.
    """

    there: int
    parts: list[Address]


def create(*, owner: User, size: int, name: str, sha256: str, kind: str = "") -> ResumableUpload:
    """Announce a file, as `resumable.create` does.

    Raises:
        Refused: as there; or uploads straight to the store are not offered here (409).
    """
    direct, pk = _direct(), uuid4()
    draft = ResumableUpload(pk=pk)
    draft.begun = direct.begin(draft.stored_as)
    try:  # what a crash leaves in between has no row: the cleanup finds it
        return resumable.create(
            owner=owner, size=size, name=name, kind=kind, sha256=sha256, pk=pk, begun=draft.begun
        )  # fmt: skip
    except BaseException:
        resumable.forget(draft)
        raise


def missing(upload: ResumableUpload) -> Missing:
    """What the store has not, and where to put it. Its two days begin anew.

    Raises Refused: more is there than was announced (413, and all of it is gone); or it is not there any more (404).
    """
    direct = _direct()
    there = [] if upload.is_whole else _parts(direct, upload)
    resumable.put_off(upload)
    if there is None or upload.is_whole:  # finished, to be read back
        return Missing(upload.size, [])
    have = {part.number for part in there}
    numbers = [number for number in range(1, _count(upload) + 1) if number not in have][:AT_ONCE]
    return Missing(sum(part.size for part in there), [_address(direct, upload, number) for number in numbers])


def complete(upload: ResumableUpload) -> None:
    """Read back what has arrived. It may be said again after whatever went wrong.

    Raises:
        Refused: parts are missing (409); more is there than was announced (413) or it is not the file that was (422),
            and all of it is gone; it, or two others, are being read back (423); it is not there any more (404).
        OSError: the disk is full; what the store has stays.
    """
    direct = _direct()
    with _alone(upload) as file:
        if upload.is_whole:
            return
        if (there := _parts(direct, upload)) is not None:
            if len(there) < _count(upload):
                raise Refused(
                    f"Of {upload.file_name} {len(there)} of {_count(upload)} parts are in the store.",
                    "Ask for the addresses of the others and send them.",
                    status=409,
                )
            with suppress(FileNotFoundError):  # somebody was faster
                direct.finish(upload.stored_as, upload.begun, there)
        found = get_store().find(upload.stored_as)
        if found is None:
            resumable.remove(upload)
            raise resumable.gone()
        if found.size != upload.size:
            raise _other_size(upload, found.size)
        cache.make_room(upload.size)
        try:
            digest = _read_back(direct, upload, found.mark, file)
        except FileNotFoundError:  # given up meanwhile, at another machine
            resumable.remove(upload)
            raise resumable.gone() from None
        if digest != upload.sha256:
            resumable.remove(upload)
            raise resumable.other_content(upload, digest)
        upload.mark = found.mark
        try:
            resumable.count(upload, upload.size, digest)
        except Refused:  # given up meanwhile, at another machine
            resumable.forget(upload)
            raise
        os.replace(_own(upload), upload.path)  # where it is not, `received` brings it


def terminate(upload: ResumableUpload) -> None:
    """Give it up. Raises Refused (423): it is being read back."""
    try:
        with _alone(upload):
            resumable.remove(upload)
    except Refused as refused:
        if refused.status == 423:
            raise


def _direct() -> Direct:
    direct = get_store().direct
    if direct is None or not direct.offered:
        raise Refused(
            "Uploads straight to the store are not offered here.", "Send it by tus: POST /api/v1/uploads/.", status=409
        )
    return direct


def part_size(upload: ResumableUpload) -> int:
    mib = 1 << 20
    return max(PART, -(-upload.size // (MOST_PARTS * mib)) * mib)


def _count(upload: ResumableUpload) -> int:
    return -(-upload.size // part_size(upload))


def _size(upload: ResumableUpload, number: int) -> int:
    """Bytes of a part; none of one that is none."""
    return max(0, min(part_size(upload), upload.size - (number - 1) * part_size(upload)))


def _address(direct: Direct, upload: ResumableUpload, number: int) -> Address:
    size = _size(upload, number)
    url = direct.address(upload.stored_as, upload.begun, number, size)
    return Address(number, (number - 1) * part_size(upload), size, url)


def _parts(direct: Direct, upload: ResumableUpload) -> list[Part] | None:
    """Those that are there whole. None: they were made one object already. Raises Refused (404, 413)."""
    try:
        found = direct.parts(upload.stored_as, upload.begun)
    except FileNotFoundError:
        if get_store().exists(upload.stored_as):
            return None
        resumable.remove(upload)
        raise resumable.gone() from None
    # Stores check the length that was signed. One that does not may have more.
    if any(part.size > _size(upload, part.number) for part in found):
        raise _other_size(upload, sum(part.size for part in found))
    return [part for part in found if part.size == _size(upload, part.number)]


def _other_size(upload: ResumableUpload, size: int) -> Refused:
    resumable.remove(upload)
    return Refused(
        f"{upload.file_name} was announced with {upload.size:,} bytes, and the store was sent {size:,}, or a part that "
        "is larger than its address was for. Nothing of it was kept.",
        "Announce it anew, and send each part as it is asked for.",
        status=413,
    )


def _read_back(direct: Direct, upload: ResumableUpload, mark: str, file: BinaryIO) -> str:
    """The content, here. Returns its SHA-256."""
    if not READING.acquire(blocking=False):
        raise _busy("Other files are being read back.")
    try:
        digest = hashlib.sha256()
        file.truncate(0)
        for chunk in direct.read(upload.stored_as, mark):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        return digest.hexdigest()
    finally:
        READING.release()


def _own(upload: ResumableUpload) -> Path:
    return settings.INCOMING_DIR / f"direct-{upload.pk}"


@contextmanager
def _alone(upload: ResumableUpload) -> Iterator[BinaryIO]:
    """A file of this machine's for it, while nobody else here reads it back; the row as it is then."""
    settings.INCOMING_DIR.mkdir(parents=True, exist_ok=True, mode=0o750)
    path = _own(upload)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "r+b") as file:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(handle).st_ino != os.stat(path).st_ino:
                raise FileNotFoundError
        except (BlockingIOError, FileNotFoundError):
            raise _busy(f"{upload.file_name} is being read back.") from None
        try:
            row = ResumableUpload.objects.filter(pk=upload.pk).values_list("offset", flat=True).first()
            if row is None:
                raise resumable.gone()
            upload.offset = row
            yield file
        finally:
            path.unlink(missing_ok=True)


def _busy(why: str) -> Refused:
    return Refused(why, "Ask again in a moment.", status=423)
