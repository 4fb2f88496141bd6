"""How an uploaded file reaches the disk: streamed, hashed on the way, capped, within its owner's quota.

Files of a form are read and thrown away (`NoFiles`) unless the address takes uploads and the sender may upload
(`accept`). Whatever the end of the request, what it left is removed (`end`, called by the outermost middleware).
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from django.conf import settings
from django.core.files.uploadedfile import InMemoryUploadedFile, UploadedFile
from django.core.files.uploadhandler import FileUploadHandler, SkipFile
from django.db import DatabaseError
from django.http import HttpRequest

from webapp.accounts.models import User
from webapp.library import incoming, quota
from webapp.library.models import Reservation

log = logging.getLogger(__name__)
SMALL = 1 << 20  # bytes of a class list
_UPLOAD = ("file", "classes_file")  # of a model or a dataset; what is not `file` is small, and kept in memory
_TAKEN = {"model": _UPLOAD, "dataset": _UPLOAD, "patch": ("trigger_file",)}
View = TypeVar("View", bound=Callable)


class StoredUpload(UploadedFile):
    """The uploaded file, with its place under `incoming/`: gone when the request ends, unless a service moved it away.

    Attributes:
        path: None where the quota had no room: the content was hashed and thrown away.
        sha256: of all that was sent.
        reservation: the room that is held for it.
    """

    def __init__(self, arriving: Arriving, *, name: str, content_type: str, sha256: str, cap: int) -> None:
        super().__init__(
            file=arriving.file or io.BytesIO(), name=name, content_type=content_type, size=arriving.received
        )
        self.path, self.reservation = arriving.path, arriving.reservation
        self.sha256, self.cap = sha256, cap

    @property
    def too_large(self) -> bool:
        """The rest was read and thrown away: the sender gets a clear answer, not a broken connection."""
        return self.size > self.cap


@dataclass
class Arriving:
    """What one upload holds while its request lasts."""

    reservation: Reservation | None
    path: Path | None = None
    file: BinaryIO | None = None
    received: int = 0

    def end(self) -> None:
        if self.file is not None:
            try:
                self.file.close()
            except OSError as error:  # a full disk: what was buffered cannot be written
                log.info("upload: %s", error)
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        if self.reservation is not None:
            try:
                quota.release(self.reservation)
            except DatabaseError as error:
                log.warning("upload: the reservation %s lasts until it is stale: %s", self.reservation.pk, error)


class NoFiles(FileUploadHandler):
    """For every request that may not upload: files are skipped, and nothing reaches the disk or stays in memory."""

    def new_file(self, *args, **kwargs) -> None:
        raise SkipFile

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        return None

    def file_complete(self, file_size: int) -> None:
        return None


@dataclass(frozen=True)
class KnownFile:
    """A file that is here already: its owner uploaded it before."""

    name: str
    size: int
    sha256: str
    cap: int = 0
    too_large: bool = False
    path: Path | None = None
    reservation: Reservation | None = None


class StreamToDisk(FileUploadHandler):
    """Writes the form's `file` to `incoming/` while it arrives, and keeps small files beside it in memory.

    Args:
        taken: names of the files that are let in.
    """

    def __init__(self, request: HttpRequest, owner: User, cap: int, taken: tuple[str, ...] = _UPLOAD) -> None:
        super().__init__(request)
        self.owner, self.most, self.taken = owner, cap, taken
        self.seen: set[str] = set()
        self.sent = 0

    def handle_raw_input(self, input_data, META, content_length, boundary, encoding=None) -> None:
        self.sent, self.boundary = content_length, boundary

    def new_file(self, field_name, file_name, content_type, content_length, charset=None, content_type_extra=None):
        if field_name not in self.taken or field_name in self.seen:
            raise SkipFile
        super().new_file(field_name, file_name, content_type, content_length, charset, content_type_extra)
        self.seen.add(field_name)
        self.digest = hashlib.sha256()
        if field_name == "file":
            self.limit = self.most
            self.arriving = Arriving(quota.reserve(self.owner, min(self._at_most(), self.limit)))
            self.request.arriving.append(self.arriving)
            if self.arriving.reservation is not None:
                self.arriving.path, self.arriving.file = incoming.new_file("up-")
        else:
            self.limit = SMALL
            self.arriving = Arriving(None, file=io.BytesIO())

    def _at_most(self) -> int:
        """The file's bytes, of which only the body's are known: without what must stand around the file."""
        around = 2 * (len(self.boundary) + 6) + len('Content-Disposition: form-data; name="file"; filename=""')
        return max(self.sent - around - len(self.file_name), 0)

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        now = self.arriving
        now.received += len(raw_data)
        if now.received > self.limit:
            return
        self.digest.update(raw_data)
        if now.file is not None:
            now.file.write(raw_data)
        if now.reservation is not None:
            quota.touch(now.reservation)

    def file_complete(self, file_size: int) -> UploadedFile:
        now = self.arriving
        if now.file is not None:
            now.file.flush()
            now.file.seek(0)
        if self.field_name != "file":
            size = now.received
            return InMemoryUploadedFile(now.file, self.field_name, self.file_name, self.content_type, size, None)
        return StoredUpload(
            now, name=self.file_name, content_type=self.content_type, sha256=self.digest.hexdigest(), cap=self.limit
        )


def cap_of(kind: str) -> int:
    """The most bytes of a 'model', a 'dataset' or a 'patch'."""
    return settings.MAX_DATASET_BYTES if kind == "dataset" else settings.MAX_MODEL_BYTES


def takes_file(kind: str) -> Callable[[View], View]:
    """Mark a view as one that takes uploads of a kind: 'model', 'dataset' or 'patch'."""

    def mark(view: View) -> View:
        view.takes_file = kind  # type: ignore[attr-defined]
        return view

    return mark


def accept(request: HttpRequest, owner: User, kind: str) -> None:
    """Let this request's file onto the disk. Call it before the body is read; a second call does nothing."""
    if not hasattr(request, "arriving"):
        request.arriving = []  # type: ignore[attr-defined]
        request.upload_handlers = [StreamToDisk(request, owner, cap_of(kind), _TAKEN[kind])]


def end(request: HttpRequest) -> None:
    """Remove what the request left: parts of a file, a file that nobody took, the room that was held for it."""
    for arriving in getattr(request, "arriving", ()):
        arriving.end()
