"""Temporary folders that outlive no run, and short steps that a signal may not cut in two.

A run that is stopped removes its folders itself. One that is killed (SIGKILL, out of memory) cannot. So each folder
holds a file that its process keeps locked: where the lock can be had, nobody works there any more, and the next run
removes the folder.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = "neuron-repair-"
_LOCK = ".in-use"
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def scratch(what: str) -> Iterator[Path]:
    """A new folder under the system's temporary one, gone at the end however that comes about.

    Args:
        what: goes into its name.

    Raises:
        OSError: it cannot be made.
    """
    _sweep()
    folder: Path | None = None
    lock = None
    try:
        with unbroken():  # a signal that came between making it and knowing its name would leave it
            folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{what}-"))
            lock = _locked(folder)
        yield folder
    finally:
        with unbroken():
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            if lock is not None:
                os.close(lock)


@contextmanager
def unbroken() -> Iterator[None]:
    """What is done here is finished first; a signal that stops the program takes effect after it.

    Signals reach a process's main thread only; elsewhere there is nothing to put off.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    late: list[int] = []
    found = {number: signal.getsignal(number) for number in STOPPING}
    before = {number: handler for number, handler in found.items() if handler not in (None, signal.SIG_IGN)}
    for number in before:
        signal.signal(number, lambda number, frame: late.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for again in dict.fromkeys(late):
            signal.raise_signal(again)


def _locked(folder: Path) -> int | None:
    """The lock's file descriptor; None where the file system has no locks. It gets its name only once it is locked."""
    new = folder / f"{_LOCK}.new"
    handle = os.open(new, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:
        os.close(handle)
        new.unlink(missing_ok=True)
        return None
    new.rename(folder / _LOCK)
    return handle


def _sweep() -> None:
    """Removes the folders of this user's processes that were killed."""
    for lock in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_LOCK}"):
        try:
            if lock.stat().st_uid != os.getuid():
                continue
            handle = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # another's, or gone just now
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
        except OSError:
            pass  # in use
        finally:
            os.close(handle)
