"""Files named by their content. A row's file is there before the row can be seen, and goes after the row has.

They lie in the data directory or in an object store (`library.store`). Storing and dropping the same content cannot
interleave: each holds the name in the database while it touches the file (`held`), by the row's lock or, where there is
no row, by the unique key (SQLite: by the IMMEDIATE transaction).
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from webapp.library import incoming
from webapp.library.errors import Miswritten
from webapp.library.models import Blob
from webapp.library.store import CHUNK, get_store

HOLDS = "holds"  # where an object says that a backup reads the others
HELD = 24 * 3600.0  # seconds, at most: it may have been killed


@dataclass(frozen=True)
class Ready:
    """A file that may get a blob's name: its hash was computed from what is on the disk."""

    path: Path
    sha256: str
    size: int  # bytes


def ready(path: Path, sha256: str | None = None, *, there: tuple[str, str] | None = None) -> Ready:
    """Bring a file to the disk, read it again, and send it to the store. Outside of a transaction: it may take long.

    Who then does not `put` it says so (`or_given_up`).

    Args:
        sha256: of what was to be written, where it was computed on the way in.
        there: name and mark of an object of the store that has this content: it is copied there, not sent.

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
    _to_store(path, Blob(sha256=written).stored_as, there)
    return Ready(path, written, size)


def _to_store(path: Path, name: str, there: tuple[str, str] | None) -> None:
    store = get_store()
    if there and store.direct:
        with suppress(FileNotFoundError):  # the store has lost it; it is here
            store.direct.copy(*there, name)
            return
    store.send(path, name)


@contextmanager
def or_given_up(*files: Ready | None) -> Iterator[None]:
    """Where it ends in an error, nobody put them: objects that were sent for them alone go. The files stay."""
    try:
        yield
    except BaseException:
        give_up(*files)
        raise


def give_up(*files: Ready | None) -> None:
    """They are not put after all."""
    if get_store().remote:  # a folder has nothing of them yet
        for file in filter(None, files):
            _delete_unless_stored(file.sha256)


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
    get_store().place(file.path, Blob(sha256=file.sha256).stored_as)


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
    transaction.on_commit(partial(_delete_unless_stored, sha256), robust=True)
    return True


def _delete_unless_stored(sha256: str) -> None:
    """After the commit somebody may have stored the same content anew."""
    with held(sha256) as row:
        if row is None and not backup_under_way():
            get_store().delete(Blob(sha256=sha256).stored_as)


def backup_under_way() -> bool:
    """Then it stays in the object store, and the hourly cleanup finds it."""
    if not get_store().remote:
        return False  # a backup has a link to it
    return any(time.time() - found.placed < HELD for found in get_store().entries(HOLDS))


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
