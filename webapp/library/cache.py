"""What this machine keeps of an object store: at the store's own names in its data directory, up to NR_CACHE_BYTES.

Entries are files and whole folders (`jobs/ID/HASH`). Each appears whole, by one rename, after its content was checked.
Who works with entries says so (`in_use`) and holds a shared lock on each (flock, which ends with its process); what was
used longest ago goes first, and nothing goes that is locked or was asked for a moment ago. Then the cache is larger.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from django.conf import settings

from webapp.steady import LITTLE

log = logging.getLogger(__name__)
FRESH = 120.0  # seconds after it was asked for in which an entry stays: who asked opens it
_HASH = re.compile(r"[0-9a-f]{64}")
AGAIN = 60.0  # seconds
_mine = threading.local()
_looked = (float("-inf"), 0.0)  # when all entries were looked at, and how many bytes may come until it is done again


@contextmanager
def in_use() -> Iterator[None]:
    """What this thread fetches until the end stays where it is."""
    outer: list[int] | None = getattr(_mine, "held", None)
    _mine.held = []
    try:
        yield
    finally:
        for handle in _mine.held:
            os.close(handle)
        _mine.held = outer


def have(path: Path) -> bool:
    """It is here. Then it is in use, as far as anybody said `in_use`, and was used last of all."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    keep = False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        if os.fstat(handle).st_ino != os.stat(path).st_ino:
            return False  # another one, a moment ago
        os.utime(path)
        keep = getattr(_mine, "held", None) is not None
    except FileNotFoundError:
        return False
    finally:
        if keep:
            _mine.held.append(handle)
        else:
            os.close(handle)
    return True


def bring(path: Path, size: int, load: Callable[[], Path]) -> Path:
    """The entry `path`, made by `load` where it is not here: by one of several processes, the others wait.

    Args:
        load: makes a file or folder on the same disk; it is moved to `path`.
    """
    while not have(path):
        with _alone(path):
            if not path.exists():
                make_room(size)  # before it is written
                _name(load(), path)
    return path


def put(new: Path, path: Path, size: int) -> None:
    """A whole file or folder of this disk becomes the entry `path`."""
    make_room(size)
    _name(new, path)


def _name(new: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    try:
        os.replace(new, path)
    except OSError:
        if not path.is_dir():
            raise
        shutil.rmtree(new, ignore_errors=True)  # somebody was faster; it has the same name, so the same content


def drop(path: Path) -> None:
    """Whoever has it open goes on with it."""
    if path.is_dir():
        gone = settings.INCOMING_DIR / f"gone-{secrets.token_hex(16)}"
        gone.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        with suppress(FileNotFoundError):
            os.rename(path, gone)
        shutil.rmtree(gone, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def make_room(size: int) -> None:
    """Let go of entries until `size` more bytes are within the bound, and on the disk.

    All are looked at once a minute, or where what was free then may be used up.
    """
    global _looked
    free = shutil.disk_usage(settings.DATA_DIR).free
    when, left = _looked
    if time.monotonic() - when < AGAIN and size < left and size + LITTLE < free:
        _looked = when, left - size
        return
    found = [(path, *_looked_at(path)) for path in entries()]
    total = sum(bytes_ for _, bytes_, _ in found)
    _looked = time.monotonic(), (settings.CACHE_BYTES - total - size) / 4  # others fill it, too
    excess = max(total + size - settings.CACHE_BYTES, size + LITTLE - free)
    for path, bytes_, used in sorted(found, key=lambda one: one[2]):
        if excess <= 0 or used > time.time() - FRESH:
            return
        if _let_go(path):
            excess -= bytes_


def entries() -> Iterator[Path]:
    yield from (path for path in settings.BLOB_DIR.glob("*/*") if _HASH.fullmatch(path.name))
    yield from (path for path in settings.JOB_DIR.glob("*/parts/*") if _HASH.fullmatch(path.name))
    yield from (path for path in settings.JOB_DIR.glob("*/*") if _HASH.fullmatch(path.name))


def _looked_at(path: Path) -> tuple[int, float]:
    """Its bytes, and when it was last used."""
    try:
        used = path.stat().st_mtime
        return sum(one.stat().st_size for one in (path, *path.rglob("*")) if one.is_file()), used
    except FileNotFoundError:
        return 0, time.time()


def _let_go(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        drop(path)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Of all processes on this machine one; some names share a lock, which costs waiting and nothing else."""
    folder = settings.DATA_DIR / "fetching"
    folder.mkdir(parents=True, exist_ok=True, mode=0o750)
    with (folder / path.name[:2]).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
