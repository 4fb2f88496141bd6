"""A backdoor's trigger: the patch that came with a request is a file of its run; triggered images are an upload."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from repair_engine.errors import BadInput
from webapp.jobs.models import Artifact, Job
from webapp.jobs.results import media_type
from webapp.library import blobs, incoming

MOST_BYTES = 1 << 20
MOST_TEXT = 4 * -(-MOST_BYTES // 3)  # characters of base 64
_STARTS = {b"\x89PNG\r\n\x1a\n": "trigger.png", b"\xff\xd8\xff": "trigger.jpg", b"RIFF": "trigger.webp"}
NAMES = tuple(_STARTS.values())


@dataclass(frozen=True)
class Patch:
    """What was sent; what is in it only a worker's child process looks at."""

    content: bytes
    name: str

    @classmethod
    def of(cls, content: bytes, size: int = 0) -> Patch:
        """Raises BadInput: it is too large, or begins as no image does.

        Args:
            size: bytes that were sent, where what is too many was thrown away.
        """
        if max(len(content), size) > MOST_BYTES:
            raise BadInput(f"The patch is larger than {MOST_BYTES >> 20} MiB.", "It is no patch.", "trigger")
        name = next((name for start, name in _STARTS.items() if content.startswith(start)), None)
        if name is None:
            raise BadInput("The patch is not a JPEG, PNG or WebP image.", "", "trigger")
        return cls(content, name)

    @classmethod
    def of_text(cls, text: str) -> Patch:
        """From base 64. Raises BadInput, see `of`."""
        try:
            return cls.of(base64.b64decode(text, validate=True))
        except binascii.Error:
            raise BadInput("The patch is not base 64.", "base64 -w0 patch.png writes it.", "trigger") from None

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def ready(self) -> blobs.Ready:
        """Outside of a transaction."""
        path, file = incoming.new_file("trigger-")
        with file:
            file.write(self.content)
            file.flush()
        return blobs.ready(path, self.sha256)

    def keep(self, job: Job, ready: blobs.Ready) -> None:
        """In the transaction that makes the job."""
        Artifact.objects.create(job=job, name=self.name, media_type=media_type(self.name), blob=blobs.put(ready))


def file_of(job: Job) -> Artifact | None:
    """The patch that came with a run."""
    return job.artifacts.select_related("blob").filter(name__in=NAMES).first()


def patch_of(job: Job) -> Patch | None:
    found = file_of(job)
    return None if found is None else Patch(found.blob.path.read_bytes(), found.name)
