"""Files that are not yet what they shall be: `incoming/`, on the same disk as what they become."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import BinaryIO

from django.conf import settings


def new_file(prefix: str) -> tuple[Path, BinaryIO]:
    """A file that nobody else has, open for writing and reading.

    The data directory is shared by containers, which do not share process ids: 128 random bits from the system, and
    O_EXCL. So random that a name is never used again either: who removes a file that was moved on removes no one's.
    """
    settings.INCOMING_DIR.mkdir(parents=True, exist_ok=True, mode=0o750)
    path = settings.INCOMING_DIR / f"{prefix}{secrets.token_hex(16)}"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    return path, os.fdopen(handle, "w+b")


def write_whole(path: Path, content: bytes) -> None:
    """Whole under its name, or not there, whoever writes it at the same moment."""
    name, file = new_file("new-")
    try:
        with file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        name.unlink(missing_ok=True)
        raise
