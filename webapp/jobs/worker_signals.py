"""What a worker process tells the database about itself, and how it dies."""

from __future__ import annotations

import ctypes
import logging
import os
import secrets
import signal
import socket
import threading

from celery import signals
from django.conf import settings
from django.db import Error, connection

from webapp import sandboxing
from webapp.jobs import leases, receipts, releases

log = logging.getLogger(__name__)
HEARTBEAT = 10.0  # seconds
_stop = threading.Event()


@signals.worker_init.connect
def begin_life(sender: object = None, **_: object) -> None:
    """A worker that is started again under the same name is a new incarnation. Children inherit it."""
    # First what needs no database: Celery swallows all that is raised here but SystemExit.
    sandboxing.begin(str(getattr(sender, "hostname", None) or "worker"))
    if why := releases.refused():
        log.critical("%s", why)
        raise SystemExit(why)
    try:
        receipts.begin()
    except (OSError, ValueError, Error) as error:
        log.error("receipts cannot be signed with %s: %s", settings.SIGNING_KEY, error)
    connection.close()  # children make their own
    os.environ["NR_INCARNATION"] = secrets.token_hex(4)
    os.environ["NR_WORKER_PID"] = str(os.getpid())


@signals.worker_process_init.connect
def die_with_parent(**_: object) -> None:
    """A pool process must not outlive its worker: it would go on computing what nobody collects."""
    prctl_death_signal(signal.SIGKILL)


def prctl_death_signal(number: int) -> None:
    """Linux: send this signal to the calling process when its parent dies."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(1, number, 0, 0, 0):  # 1 = PR_SET_PDEATHSIG
        log.warning("prctl(PR_SET_PDEATHSIG) failed: %s", os.strerror(ctypes.get_errno()))


@signals.worker_ready.connect
def begin_heartbeat(sender: object = None, **_: object) -> None:
    name = sender.hostname
    queues = sorted(queue.name for queue in sender.app.amqp.queues.consume_from.values())
    life = os.environ["NR_INCARNATION"]
    if taken := leases.release_incarnations(name, life):
        log.warning("took back shards %s of an earlier life of this worker", taken)
        _reap()
    threading.Thread(target=_beat, args=(name, life, queues), daemon=True).start()


def _beat(name: str, life: str, queues: list[str]) -> None:
    while True:
        try:
            if why := releases.refused():
                log.critical("%s This worker stops.", why)
                os.kill(int(os.environ["NR_WORKER_PID"]), signal.SIGTERM)
                return
            leases.worker_seen(name=name, incarnation=life, queues=queues, device=socket.gethostname())
        except Error as error:
            log.warning("heartbeat: %s", error)
        finally:
            connection.close()
        if _stop.wait(HEARTBEAT):
            return


@signals.worker_shutting_down.connect
def give_back_shards(sender: str = "", **_: object) -> None:
    """Told to stop: hand the shards back now. Who works on one notices at the next progress report."""
    _stop.set()
    # In a thread, for this runs inside a signal handler, in the middle of whatever the main thread was doing.
    threading.Thread(target=_release, args=(sender,)).start()


def _release(name: str) -> None:
    try:
        leases.release_stopping(name)
        leases.worker_gone(name)
        _reap()
    except Error as error:
        log.warning("could not give shards back: %s", error)
    finally:
        connection.close()


@signals.task_failure.connect
def child_died(sender: object = None, exception: BaseException | None = None, **_: object) -> None:
    """The pool lost the process that ran a shard: take the shard back at once, not when its lease expires."""
    from billiard.exceptions import WorkerLostError

    if not isinstance(exception, WorkerLostError) or not getattr(sender, "name", "").endswith("run_shard"):
        return
    if leases.release_dead(f"{sender.request.hostname}/{os.environ['NR_INCARNATION']}"):
        _reap()


def _reap() -> None:
    from webapp.jobs import reaper

    reaper.reap(force=True)
