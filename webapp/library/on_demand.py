"""What a worker makes when somebody first wants to see it: rung for by who looks, begun once, tried again, given up.

Whoever looks, rings: a lost message or a dead worker costs as long as a lease.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import Error, connection, transaction
from django.db.models import QuerySet

from repair_engine.errors import BadInput
from webapp import clock
from webapp.library import cache
from webapp.library.errors import Refused
from webapp.library.models import OnDemand
from webapp.steady import waits_for

log = logging.getLogger(__name__)


def missing(rows: QuerySet) -> QuerySet:
    """Those that are not made and have not failed."""
    return rows.filter(error="", **{f"{rows.model.made}__isnull": True})


def ring(row: OnDemand, send: Callable[[], None]) -> None:
    """Ask a worker for it, unless that was done a moment ago. After some attempts it has failed.

    Args:
        send: the message, with the row's key and its `attempts`.
    """
    now = clock.now()
    if row.rung_at and (now - row.rung_at).total_seconds() < settings.LEASE_SECONDS:
        return
    here = missing(type(row)._default_manager.filter(pk=row.pk, attempts=row.attempts, rung_at=row.rung_at))
    if row.attempts >= settings.MAX_ATTEMPTS:
        error, mend = row.given_up
        here.update(error=error, mend=mend)
        row.refresh_from_db()
    elif here.update(rung_at=now):
        transaction.on_commit(send)


def again(rows: QuerySet) -> None:
    """Those that have failed are wanted once more."""
    rows.exclude(error="").update(error="", mend="", detail="", attempts=0, rung_at=None)


def run(rows: QuerySet, attempt: int, make: Callable[[QuerySet], None]) -> None:
    """In a worker: make what is missing of one row, or say why it cannot be.

    Args:
        attempt: how many had begun when it was asked for: of many messages one acts.
        make: raises BadInput, Refused, or DoesNotExist of the row where it was deleted meanwhile.
    """
    asked = missing(rows)
    if not asked.filter(attempts=attempt).update(attempts=attempt + 1, rung_at=clock.now()):
        return
    try:
        with alive(asked), cache.in_use():
            make(asked)
    except rows.model.DoesNotExist:
        log.info("%s: deleted meanwhile", rows.model.words)
    except (BadInput, Refused) as error:
        asked.update(error=error.whole if isinstance(error, BadInput) else error.problem, mend=error.mend)
    except Exception as error:
        log.exception("making %s failed", rows.model.words)
        detail = traceback.format_exc()
        again = {"attempts": attempt} if waits_for(error) else {"rung_at": None}
        asked.update(detail=detail, **again)  # rung again by who looks; for room on the disk after a while


@contextmanager
def alive(asked: QuerySet) -> Iterator[None]:
    """Say every few seconds that the work goes on, so that nobody rings for it again.

    A thread, because the work may wait for a child process, which has a time limit of its own.
    """
    stop = threading.Event()

    def say() -> None:
        try:
            while not stop.wait(settings.LEASE_SECONDS / 6):
                asked.update(rung_at=clock.now())
        except Error as error:
            log.warning("cannot say that the work goes on: %s", error)
        finally:
            connection.close()

    thread = threading.Thread(target=say, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
