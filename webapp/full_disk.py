"""Is this error a full disk's, or a store's that is away? Files, SQLite and PostgreSQL say it each in their own way."""

from __future__ import annotations

import errno
import shutil
import sqlite3

from django.conf import settings
from django.db import DatabaseError

from webapp.steady import NO_STORE, waits_for

DETAIL = "The server's disk is full."
MEND = "Ask the operator to make room; nothing was lost."
# With no room left SQLite may also fail to open or to grow a file of its journal.
_PERHAPS = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)


AWAY = "The object store cannot be used just now."
AWAY_MEND = "Try again in a moment; nothing was lost."


def answer(error: BaseException | None) -> tuple[int, str, str] | None:
    """Status, problem and what mends it, of an error that is the machine's and passes; None: it is another one."""
    if is_full(error):
        return 507, DETAIL, MEND
    return (503, AWAY, AWAY_MEND) if error is not None and waits_for(error) == NO_STORE else None


def is_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if isinstance(error, DatabaseError) and _database_is(error.__cause__):
            return True
        error = error.__cause__ or error.__context__
    return False


def _database_is(cause: BaseException | None) -> bool:
    if getattr(cause, "sqlstate", None) == "53100":  # PostgreSQL: disk_full
        return True
    code = (getattr(cause, "sqlite_errorcode", None) or 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return True
    return code in _PERHAPS and shutil.disk_usage(settings.DATA_DIR).free < 1 << 20
