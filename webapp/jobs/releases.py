"""One release works on a database at a time: the one that `migrate` was last run of."""

from __future__ import annotations

import logging
import time

from django.db import Error, connection

from repair_engine import __version__
from webapp.jobs.models import Release
from webapp.steady import steadily

log = logging.getLogger(__name__)
FRESH = 5.0  # seconds for which an answer is believed
_known: tuple[float, str] = (float("-inf"), "")


def record(**_: object) -> None:
    """After `migrate`."""
    if Release._meta.db_table in connection.introspection.table_names():
        Release.objects.update_or_create(pk=1, defaults={"version": __version__})


def refused() -> str:
    """Why this program may not work on this database, naming both releases; empty: it may."""
    global _known
    if time.monotonic() - _known[0] > FRESH:
        try:
            version = steadily(lambda: Release.objects.values_list("version", flat=True).first())
        except Error as error:
            log.warning("the database's release is not known: %s", error)
            return ""
        _known = (time.monotonic(), version or __version__)
    if _known[1] == __version__:
        return ""
    return (
        f"This program is of release {__version__}; the database is of release {_known[1]}. Start the programs of "
        f"release {_known[1]}, or run `manage.py migrate` of release {__version__} once all others have stopped."
    )
