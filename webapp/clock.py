"""The time by the database's clock: machines that share one may differ by minutes, and a lease's end concerns all."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from threading import Lock

from django.db import connection
from django.utils import timezone

from webapp.steady import AWAY, steadily

FRESH = 60.0  # seconds after which the database is asked again
_lock = Lock()
_asked: tuple[float, datetime] | None = None  # when that was, by a clock that nobody sets, and what it said


def now() -> datetime:
    """SQLite has no clock of its own, and one machine."""
    if connection.vendor != "postgresql":
        return timezone.now()
    global _asked
    with _lock:
        if _asked is None:
            _asked = steadily(_ask)
        elif time.monotonic() - _asked[0] > FRESH:
            try:
                _asked = _ask()
            except AWAY:  # who goes on to write waits for it; the time is as good as before
                if not connection.in_atomic_block:
                    connection.close()
        at, said = _asked
    return said + timedelta(seconds=time.monotonic() - at)


def _ask() -> tuple[float, datetime]:
    began = time.monotonic()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        said = cursor.fetchone()[0]
    return (began + time.monotonic()) / 2, said
