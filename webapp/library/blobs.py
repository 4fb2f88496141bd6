"""Files on disk named by their content. A row's file is there before the row can be seen, and goes after the row has.

Storing and dropping the same content cannot interleave: each holds the name in the database while it touches the file
(`held`), by the row's lock or, where there is no row, by the unique key (SQLite: by the IMMEDIATE transaction).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from webapp.library import incoming
from webapp.library.errors import Miswritten
from webapp.library.models import Blob

CHUNK = 1 << 20


@dataclass(frozen=True)
class Ready:
    """A file that may get a blob's name: its hash was computed from what is on the disk."""

    path: Path
    sha256: str
    size: int  # bytes


def ready(path: Path, sha256: str | None = None) -> Ready:
    """Bring a file to the disk and read it again. It may take long: call it outside of a transaction.

    Args:
        sha256: of what was to be written, where it was computed on the way in.

    Raises:
        Miswritten: the file does not hold that.
    """
    with path.open("rb") as file:
        os.fsync(file.fileno())
        written = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    if sha256 not in (None, written):
        raise Miswritten(path.name)
    path.chmod(0o640)
    return Ready(path, written, size)


def ready_copy(path: Path) -> Ready:
    """The same for a copy of a file that stays where it is."""
    digest = hashlib.sha256()
    target, copy = incoming.new_file("copy-")
    try:
        with path.open("rb") as source, copy:
            while chunk := source.read(CHUNK):
                digest.update(chunk)
                copy.write(chunk)
        return ready(target, digest.hexdigest())
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def put(file: Ready) -> Blob:
    """Give the file its name. Call it in the transaction that makes the row which uses the blob.

    It replaces what has the name already: that is the same content, or was damaged.
    """
    with transaction.atomic():
        blob = _locked_row(file)
        place(file)
    return blob


def place(file: Ready) -> None:
    """The file alone: for who makes its row afterwards, and for nobody else meanwhile."""
    target = Blob(sha256=file.sha256).path
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    os.replace(file.path, target)
    _sync(target.parent)


def store(path: Path, *, sha256: str | None = None) -> Blob:
    """Move a file into the store."""
    return put(ready(path, sha256))


def _locked_row(file: Ready) -> Blob:
    while True:  # PostgreSQL: the row that was seen may be dropped while its lock is waited for
        try:
            Blob.objects.get_or_create(sha256=file.sha256, defaults={"size": file.size})
        except IntegrityError:
            continue  # it was there when it was to be made, and gone when it was looked for again
        blob = Blob.objects.select_for_update().filter(pk=file.sha256).first()
        if blob is None:
            continue
        if blob.size != file.size:
            blob.size = file.size
            blob.save(update_fields=["size"])
        return blob


def _sync(folder: Path) -> None:
    """A name is on the disk when its folder is."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@transaction.atomic
def drop(sha256: str) -> bool:
    """Delete the blob if nothing uses it any more. The file goes once that is committed, not before.

    A crash in between leaves a file without a row, which the hourly cleanup finds (`jobs.cleanup`).
    """
    blob = Blob.objects.select_for_update().filter(pk=sha256).first()
    if blob is None:
        return False
    try:
        with transaction.atomic():
            blob.delete()
    except ProtectedError:
        return False
    transaction.on_commit(partial(_unlink_unless_stored, sha256), robust=True)
    return True


def _unlink_unless_stored(sha256: str) -> None:
    """After the commit somebody may have stored the same content anew."""
    with held(sha256) as row:
        if row is None:
            Blob(sha256=sha256).path.unlink(missing_ok=True)


@contextmanager
def held(sha256: str) -> Iterator[Blob | None]:
    """Nobody stores or drops this content meanwhile. Gives its row, if it has one.

    A name without a row is held by inserting the row and taking that back: who wants to insert it too has to wait.
    """
    with transaction.atomic(durable=True):
        while (row := Blob.objects.select_for_update().filter(pk=sha256).first()) is None:
            try:
                with transaction.atomic():
                    Blob.objects.create(sha256=sha256, size=0)
            except IntegrityError:
                continue  # stored a moment ago
            break
        yield row
        if row is None:
            transaction.set_rollback(True)
