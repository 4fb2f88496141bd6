"""`/livez`: this process answers. `/readyz`: what it needs to be of use is there; 503 says what is not.

Asked by load balancers, orchestrators and people; so reasons say what is wrong and nothing of where things are.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import socket
import time
from collections.abc import Callable
from functools import cache
from threading import Lock

from django.conf import settings
from django.db import Error, connection
from django.http import HttpRequest, HttpResponse, JsonResponse

from repair_engine.support.words import byte_size, first_line
from webapp import migrated
from webapp.celery import app
from webapp.jobs import releases
from webapp.jobs.leases import SILENT
from webapp.jobs.selectors import live_workers
from webapp.library import incoming
from webapp.library.store import Damaged, get_store
from webapp.steady import LITTLE, StoreAway

log = logging.getLogger(__name__)
FRESH = 2.0  # seconds for which an answer is given again: nobody makes work here by asking often
PATIENCE = 3  # seconds for the broker


class _Not(Exception):
    """Why it is not there, for everybody."""


def _database() -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error as error:
        connection.close()
        raise _Not("the database cannot be reached") from error


def _migrations() -> None:
    if waiting := migrated.unapplied():
        raise _Not(f"{len(waiting)} migration(s) are not applied, from {waiting[0]} on: manage.py migrate")


def _release() -> None:
    if why := releases.refused():
        raise _Not(why)


def _broker() -> None:
    try:
        with app.connection_for_write() as broker:
            broker.ensure_connection(max_retries=1, timeout=PATIENCE)
    except Exception as error:  # each transport has its own
        raise _Not("the broker cannot be reached: what waits is found by polling, later") from error


def _storage() -> None:
    try:
        path, file = incoming.new_file("probe-")
        try:
            with file:
                file.write(b"ready")
        finally:
            path.unlink()
        free = shutil.disk_usage(settings.DATA_DIR).free
    except OSError as error:
        raise _Not("the data directory cannot be written") from error
    if free < LITTLE:
        raise _Not(f"the disk of the data directory is full: {byte_size(free)} are free")
    if get_store().remote:
        _object_store()


def _object_store() -> None:
    """What is put is there and what it was."""
    path, file = incoming.new_file("probe-")
    try:
        with file:
            file.write(path.name.encode())
        name = f"probes/{socket.gethostname()}-{os.getpid()}"
        get_store().send(path, name)
        path.unlink()
        path = get_store().checked(name, hashlib.sha256(path.name.encode()).hexdigest())
        get_store().delete(name)
    except StoreAway as error:
        raise _Not("the object store cannot be used") from error
    except Damaged as error:
        raise _Not("the object store gives other content than was put") from error
    finally:
        path.unlink(missing_ok=True)


def _worker() -> None:
    if not live_workers():
        raise _Not(f"no worker was heard of within {SILENT.total_seconds():g} seconds")


CHECKS: dict[str, Callable[[], None]] = {
    "database": _database,
    "migrations": _migrations,
    "release": _release,
    "broker": _broker,
    "storage": _storage,
    "worker": _worker,
}
_ASK_THE_DATABASE = ("migrations", "release", "worker")


def look() -> dict[str, str]:
    """Each check with what is wrong; empty where nothing is."""
    found: dict[str, str] = {}
    for name, check in CHECKS.items():
        if name in _ASK_THE_DATABASE and found["database"]:
            found[name] = "not known: " + found["database"]
            continue
        try:
            check()
            found[name] = ""
        except _Not as why:
            found[name] = str(why)
            _say_once(name, str(why), why.__cause__)
        except Error as error:  # it went away in between
            found[name] = "the database does not answer"
            _say_once(name, found[name], error)
        else:
            _said.pop(name, None)
    return found


_said: dict[str, str] = {}


def _say_once(name: str, why: str, error: BaseException | None) -> None:
    """With the error, which is for the operator alone; not at each look."""
    if _said.get(name) != why:
        _said[name] = why
        log.warning("not ready: %s%s", why, f" ({first_line(error)})" if error else "")


class _Lately:
    """The last look, for a moment; of all threads one looks."""

    def __init__(self) -> None:
        self.lock, self.at, self.found = Lock(), float("-inf"), {}

    def __call__(self) -> dict[str, str]:
        with self.lock:
            if time.monotonic() - self.at > FRESH:
                self.found, self.at = look(), time.monotonic()
            return self.found


@cache
def lately() -> _Lately:
    return _Lately()


def livez(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok\n", content_type="text/plain")


def readyz(request: HttpRequest) -> HttpResponse:
    """`?exclude=worker` (also several): not asked for; pages work without workers."""
    left_out = {word for value in request.GET.getlist("exclude") for word in value.split(",")}
    if unknown := left_out - set(CHECKS):
        said = f"There is no check {min(unknown)!r}; there are {', '.join(CHECKS)}."
        return JsonResponse({"ready": False, "reason": said}, status=400)
    checks = {name: why for name, why in lately()().items() if name not in left_out}
    wrong = [why for why in checks.values() if why]
    answer = {"ready": not wrong, "reason": "; ".join(wrong), "checks": {n: w or "ok" for n, w in checks.items()}}
    return JsonResponse(answer, status=503 if wrong else 200)
