"""How an uploaded file reaches the disk: streamed, hashed on the way, capped."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler

SMALL = 1 << 20  # class lists and whatever is sent to a page that takes no file


class StoredUpload(UploadedFile):
    """A file under `incoming/`, deleted when the request ends unless a service moved it away."""

    def __init__(self, file, *, name: str, content_type: str, size: int, sha256: str, cap: int) -> None:
        super().__init__(file=file, name=name, content_type=content_type, size=size)
        self.path = Path(file.name)
        self.sha256 = sha256
        self.cap = cap

    @property
    def too_large(self) -> bool:
        """The rest was read and thrown away: the sender gets a clear answer, not a broken connection."""
        return self.size > self.cap

    def close(self) -> None:
        super().close()
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class KnownFile:
    """A file that is here already: its owner uploaded it before."""

    name: str
    size: int
    sha256: str
    cap: int = 0
    too_large: bool = False


class StreamToDisk(FileUploadHandler):
    """Writes each file of a form to `incoming/` while it arrives; memory stays flat."""

    def cap(self) -> int:
        """The most bytes this request may store. Only signed-in people may fill the disk."""
        user = getattr(self.request, "user", None)
        if user is None or not user.is_authenticated or self.field_name != "file":
            return SMALL
        return settings.MAX_DATASET_BYTES if "/datasets/" in self.request.path else settings.MAX_MODEL_BYTES

    def new_file(self, *args, **kwargs) -> None:
        super().new_file(*args, **kwargs)
        settings.INCOMING_DIR.mkdir(parents=True, exist_ok=True)
        # Kept open across calls; StoredUpload.close() or upload_interrupted() ends it.
        self.file = tempfile.NamedTemporaryFile(dir=settings.INCOMING_DIR, prefix="up-", delete=False)  # noqa: SIM115
        self.digest = hashlib.sha256()
        self.limit = self.cap()
        self.received = 0

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        self.received += len(raw_data)
        if self.received <= self.limit:
            self.digest.update(raw_data)
            self.file.write(raw_data)

    def file_complete(self, file_size: int) -> StoredUpload:
        self.file.flush()
        self.file.seek(0)
        return StoredUpload(
            self.file,
            name=self.file_name,
            content_type=self.content_type,
            size=self.received,
            sha256=self.digest.hexdigest(),
            cap=self.limit,
        )

    def upload_interrupted(self) -> None:
        if hasattr(self, "file"):
            self.file.close()
            Path(self.file.name).unlink(missing_ok=True)
