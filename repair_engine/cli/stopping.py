"""How the command line ends before its time: by a signal, or for want of room, memory or rights."""

from __future__ import annotations

import errno
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from repair_engine.support.scratch import STOPPING

# What a user can mend without us; anything else is an error of ours and comes with its traceback.
_OF_THE_MACHINE = {
    errno.ENOSPC: "There is no space left on the device",
    errno.EDQUOT: "The disk quota is used up",
    errno.EFBIG: "A file would be larger than is allowed here",
    errno.EROFS: "The file system is read-only",
    errno.EACCES: "Permission is denied",
    errno.EMFILE: "Too many files are open",
    errno.ENFILE: "Too many files are open",
}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Stopped(KeyboardInterrupt):
    """By a signal; goes the way of Ctrl-C, past every `except Exception`, so that all folders are cleaned up."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP raise `Stopped`, unless they are ignored (nohup). In the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOPPING}
    mine = [number for number, handler in before.items() if handler not in (None, signal.SIG_IGN)]
    for number in mine:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, before[number])


def _stop(number: int, frame: object) -> None:
    raise Stopped(number)


def stopped_by(error: KeyboardInterrupt) -> tuple[int, str]:
    """Exit code (128 + the signal's number) and what to say."""
    number = error.number if isinstance(error, Stopped) else int(signal.SIGINT)
    return 128 + number, f"Stopped by {signal.Signals(number).name}. Results are written at the end, all or none."


def machine_problem(error: BaseException) -> tuple[str, str] | None:
    """Problem and mending where the machine has no room, memory or rights; None where the error is ours."""
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error) or "CUDA out of memory" in str(error):
        return f"There is not enough memory: {error or 'an allocation failed'}.".replace("..", "."), _LESS_MEMORY
    if not isinstance(error, OSError) or error.errno not in _OF_THE_MACHINE:
        return None
    where = f": {error.filename}" if error.filename else ""
    return f"{_OF_THE_MACHINE[error.errno]}{where}.", _MORE_ROOM if error.errno in _FULL else ""


_MORE_ROOM = "Make room there, or point --out or the environment variable TMPDIR (for working files) to another disk."
_LESS_MEMORY = "Give a smaller --memory, fewer or smaller images, or run it where there is more memory."
