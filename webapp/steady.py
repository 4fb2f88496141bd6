"""What is waited out instead of failing: a database connection that was cut, a disk that is full, a store that is away.

A write that is tried again must be safe to make twice: after a cut nobody knows whether it was committed.
"""

from __future__ import annotations

import errno
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection

log = logging.getLogger(__name__)
T = TypeVar("T")
AWAY = (OperationalError, InterfaceError)  # a cut connection may raise either; InterfaceError is no DatabaseError
PAUSES = (0.1, 0.4, 1, 2, 4, 8, 15, 15, 15)  # seconds between two tries: a database that restarts is back by then
FULL_PAUSES = 40  # more pauses of 15 s, where the disk is full: somebody has to make room
NO_ROOM = "The disk of the server is full: the work waits for room and goes on by itself; nothing is lost."
NO_STORE = "The object store cannot be used just now: the work waits for it and goes on by itself; nothing is lost."
LITTLE = 1 << 20  # bytes: with less than this, the next write fails
_FULL_WORDS = ("disk is full", "no space left on device", "disk quota exceeded")


class StoreAway(Exception):
    """The object store cannot be reached, is too slow, has no room or refuses us; its cause says which."""


def waits_for(error: BaseException) -> str:
    """What has to come back before the same can be tried again, for people; empty: it is an error like others."""
    if is_full(error):
        return NO_ROOM
    return NO_STORE if any(isinstance(one, StoreAway) for one in _causes(error)) else ""


def is_full(error: BaseException) -> bool:
    """The disk is full: said by the system, or by the database."""
    for one in _causes(error):
        if isinstance(one, OSError) and one.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if isinstance(one, (OSError, RuntimeError, *AWAY)) and any(words in str(one).lower() for words in _FULL_WORDS):
            return True
    return False


def is_away(error: BaseException) -> bool:
    """The database could not be reached, or would not answer."""
    return any(isinstance(one, AWAY) for one in _causes(error))


def no_room_left() -> bool:
    """The disk is full at this moment. Asked of the disk: a full one may not let us write it down."""
    try:
        return shutil.disk_usage(settings.DATA_DIR).free < LITTLE
    except OSError:
        return False


def steadily(action: Callable[[], T]) -> T:
    """`action`, again on a fresh connection when the database was away. Not inside a transaction: that is lost."""
    tries = 0
    while True:
        try:
            return action()
        except AWAY as error:
            if connection.in_atomic_block:
                raise
            connection.close()
            if tries >= len(PAUSES) + (FULL_PAUSES if is_full(error) else 0):
                raise
            log.warning("the database: %s; trying again", str(error).strip())
            time.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
            tries += 1


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
