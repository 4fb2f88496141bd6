"""Moves a job on: prepare -> rounds of each phase -> finish -> ended.

`advance` may be called by anyone, any number of times, at the same time: it looks at the database, computes
what follows (deterministic: the same states and shards whoever computes them) and writes it in one
transaction that begins with a conditional UPDATE of (phase, round). Who comes second matches no row.
"""

from __future__ import annotations

import logging
import traceback
from contextlib import suppress
from dataclasses import dataclass, field

from django.db import Error, transaction

from repair_engine.errors import BadInput
from webapp import clock
from webapp.jobs import bells, files, leases, results, sharding, webhooks
from webapp.jobs.engine import Engine, get_engine
from webapp.jobs.models import FINISH, PREPARE, Event, Job, PhaseState, Shard
from webapp.library import cache
from webapp.steady import waits_for

log = logging.getLogger(__name__)
TRY_AGAIN = "Try again: it goes on from what is done. If that does not help, give the operator the repair's id."


def advance(job_id: str) -> None:
    """Take the job as far as it can go now. Safe to call at any time, from any process."""
    while True:
        job = Job.objects.filter(pk=job_id, state__in=Job.ACTIVE).first()
        if job is None:
            return
        try:
            with cache.in_use():
                moved = _step(job)
            if not moved:
                return
        except Error:
            raise  # busy or away: the reaper rings again
        except Exception as error:
            if held := waits_for(error):
                _hold(job, held, error)
                return  # the reaper rings again
            if _elsewhere(job):
                continue  # somebody else was faster and has tidied up what we were reading
            _fail_because(job, error)
            return


def _hold(job: Job, held: str, error: Exception) -> None:
    """Say what it waits for, where the database itself has room to."""
    log.warning("job %s waits: %s (%s)", job.pk, held, error)
    with suppress(Error):
        Job.objects.filter(pk=job.pk, state__in=Job.ACTIVE).update(held=held)


def _elsewhere(job: Job) -> bool:
    """The job is no longer where it was when it was read."""
    return not Job.objects.filter(pk=job.pk, state__in=Job.ACTIVE, phase=job.phase, round=job.round).exists()


def _fail_because(job: Job, error: Exception) -> None:
    if isinstance(error, BadInput):
        end(job, Job.State.FAILED, fault="input", error=error.whole, mend=error.mend)
        return
    log.error("job %s cannot go on", job.pk, exc_info=error)
    end(
        job,
        Job.State.FAILED,
        fault="server",
        error=f"An internal error stopped the {job.word} while it was {stage_words(job.phase)}.",
        mend=TRY_AGAIN,
        detail="".join(traceback.format_exception(error)),
    )


def stage_words(phase: str) -> str:
    """For people: 'The worker failed while it was …'."""
    words = {PREPARE: "preparing", FINISH: "finishing", "search": "searching", "confirm": "confirming"}
    return words.get(phase, f"in phase {phase}")


def _step(job: Job) -> bool:
    """One transition, if one is due. True: look again."""
    here = job.shards.filter(phase=job.phase, round=job.round)
    # Each asked by its index: of a round of thousands, whoever ends one shard does not read all others.
    failed = here.filter(state=Shard.State.FAILED).order_by("first_block").first()
    if failed is not None:
        _fail_with(job, failed)
        return False
    if any(here.filter(state=state).exists() for state in (Shard.State.PENDING, Shard.State.LEASED)):
        return False
    shards = list(here.order_by("first_block"))
    if not shards or any(shard.state != Shard.State.DONE for shard in shards):
        return False
    if job.phase == FINISH:
        return results.succeed(job, shards[0])
    engine = get_engine()
    if job.phase == PREPARE:
        prepared = files.get_json(job, shards[0].result)
        job.work = prepared["work"]
        phase = engine.phases[0]
        move = _follow(engine, job, phase, 0, engine.start(results.work_directory(job), phase, {}))
        move.job_changes = {
            "work": prepared["work"],
            "summary": prepared["summary"],
            "warnings": prepared["summary"].get("warnings", []),
            "budget": job.request.get("budget") or prepared["summary"].get("budget"),
        }
        return _commit(job, move)
    blocks = [part for shard in shards for part in files.unpack(files.get(job, shard.result))]
    before = _state(job, job.phase, job.round)
    merged = engine.merge(results.work_directory(job), job.phase, before, blocks)
    return _commit(job, _follow(engine, job, job.phase, job.round + 1, merged))


@dataclass
class Move:
    """What follows: where the job goes, the states it passes on the way, the work it then waits for."""

    phase: str = FINISH
    round: int = 0
    states: list[PhaseState] = field(default_factory=list)
    shards: list[Shard] = field(default_factory=list)
    job_changes: dict = field(default_factory=dict)


def _follow(engine: Engine, job: Job, phase: str, round_: int, state: bytes) -> Move:
    """From a state to the next round with work in it, through phases that have none, or to finishing."""
    move, work, ends = Move(), results.work_directory(job), _final_states(job)
    while True:
        snapshot = engine.snapshot(work, phase, state)
        move.states.append(
            PhaseState(job=job, phase=phase, round=round_, sha256=files.put(job, state), snapshot=snapshot)
        )
        if tasks := engine.next_round(work, phase, state):
            move.phase, move.round = phase, round_
            move.shards = sharding.cut(job, phase, round_, tasks)
            return move
        ends[phase] = state
        following = engine.phases[engine.phases.index(phase) + 1 :]
        if not following:
            move.shards = [Shard(job=job, phase=FINISH)]
            return move
        phase, round_ = following[0], 0
        state = engine.start(work, phase, ends)


def _state(job: Job, phase: str, round_: int) -> bytes:
    row = PhaseState.objects.get(job=job, phase=phase, round=round_)
    return files.get(job, row.sha256)


def _final_states(job: Job) -> dict[str, bytes]:
    """The last state of each phase that has begun, by phase."""
    last = {row.phase: row.sha256 for row in job.states.order_by("round")}
    return {phase: files.get(job, sha256) for phase, sha256 in last.items()}


def _commit(job: Job, move: Move) -> bool:
    """Write the move unless somebody else has, or the job was cancelled meanwhile."""
    now = clock.now()
    changes = {**move.job_changes, "phase": move.phase, "round": move.round, "held": ""}
    if move.phase != job.phase:
        changes["phase_started_at"] = now
    with transaction.atomic():
        here = Job.objects.filter(pk=job.pk, state__in=Job.ACTIVE, phase=job.phase, round=job.round)
        if not here.update(**changes):
            return True
        PhaseState.objects.bulk_create(move.states)
        for shard in move.shards:
            shard.rung_at = now
        Shard.objects.bulk_create(move.shards)
        if move.phase != job.phase:
            Event.objects.create(job=job, kind="phase", data={"phase": move.phase})
        bells.ring_on_commit(job.queue, len(move.shards))
    _tidy(job)
    return False


def _tidy(job: Job) -> None:
    """Remove what the merged round no longer needs: block results, and its state unless it was the last."""
    merged: list[str] = []
    for result, parts in job.shards.filter(phase=job.phase, round=job.round).values_list("result", "parts"):
        merged += [result, *parts]
    states = job.states.filter(phase=job.phase)
    last = states.order_by("-round").values_list("sha256", flat=True).first()
    old = set(states.filter(round=job.round).values_list("sha256", flat=True)) - {last}
    files.discard(job, {*merged, *old})


def _fail_with(job: Job, shard: Shard) -> None:
    """A shard's last attempt failed. Bad input has said what is wrong; anything else is for the operator."""
    if shard.fault:
        end(job, Job.State.FAILED, fault=shard.fault, error=shard.problem, mend=shard.mend, detail=shard.error)
        return
    end(
        job,
        Job.State.FAILED,
        fault="server",
        error=f"The worker failed {max(shard.fruitless, shard.lost)} times in a row while it was "
        f"{stage_words(shard.phase)}{_where(shard)}: "
        f"{leases.last_line(shard.error)}",
        mend=TRY_AGAIN,
        detail=shard.error,
    )


def _where(shard: Shard) -> str:
    """Which block it never got past."""
    return f" block {shard.first_block + len(shard.parts)} of round {shard.round}" if shard.tasks else ""


def end(job: Job, state: str, *, fault: str = "", error: str = "", mend: str = "", detail: str = "") -> bool:
    """End the job in failure or cancellation. False: it had ended before."""
    with transaction.atomic():
        won = Job.objects.filter(pk=job.pk, state__in=Job.ACTIVE).update(
            state=state, fault=fault, error=error, mend=mend, detail=detail, held="", finished_at=clock.now()
        )
        if not won:
            return False
        # Taking the leases away is what tells the workers to stop: their next renewal matches no row.
        Shard.objects.filter(job=job, state__in=(Shard.State.PENDING, Shard.State.LEASED)).update(
            state=Shard.State.CANCELED, lease_expires=None, finished_at=clock.now()
        )
        Event.objects.create(job=job, kind=state, data={"fault": fault, "error": error} if error else {})
        bells.ring_on_commit(job.queue)  # another of the person's runs may begin in its place
        webhooks.announce(job, "repair.finished")
    return True
