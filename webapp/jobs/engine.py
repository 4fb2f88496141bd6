"""The single place where jobs touch the engine. Everything else sees bytes, paths and JSON.

Phases run in order; each is a sequence of rounds, each round a number of blocks. All calls are deterministic
in their arguments, so any worker may make them, again if need be. torch is imported by the calls that need it
and never by the web process.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from django.conf import settings
from django.utils.module_loading import import_string

from webapp.jobs.files import ATTACK

Note = Callable[..., None]  # note("choosing k"): says what is done now; may raise to stop
Count = Callable[[int], None]  # count(512): so many more evaluations are done; may raise to stop


class Engine(Protocol):
    """What a job needs of the engine."""

    phases: tuple[str, ...]

    def prepare(self, request: dict, work: Path, note: Note) -> dict:
        """Check the input, capture the network, write what the others need to `work`. May raise BadInput."""

    def start(self, work: Path, phase: str, earlier: dict[str, bytes]) -> bytes:
        """The state before the first round of a phase, given the final states of the earlier ones."""

    def next_round(self, work: Path, phase: str, state: bytes) -> list[dict]:
        """The blocks of the next round, each with its cost: {"evaluations": …}. Empty: the phase is over."""

    def run_block(self, work: Path, phase: str, state: bytes, task: dict, count: Count) -> bytes:
        """The only heavy call: draw and evaluate one block."""

    def merge(self, work: Path, phase: str, state: bytes, blocks: list[bytes]) -> bytes:
        """The state after the round, from all its blocks in order."""

    def snapshot(self, work: Path, phase: str, state: bytes) -> dict:
        """For the live chart: {evaluations, budget, half_width, leaders: [{id, value, lower, upper}]}."""

    def finish(self, work: Path, states: dict[str, bytes], out: Path, note: Note) -> dict:
        """Choose k, write back, verify, report; or explain. Every file in `out` is a result. {"repaired": bool, …}."""

    def what_if(self, request: dict, work: Path, units: list[str], note: Note) -> dict:
        """Figures of *select* with these units ablated (`repair_engine.documents.choosing.steps`).

        `work` is the run's own for such questions: what the first of them wrote there serves the next.
        """

    def study(self, request: dict, work: Path, unit: str, what: str, note: Note) -> dict:
        """Of one unit its "effect" when it alone is ablated, or a "picture" made for it; JSON. `work`: as there."""

    def baseline(self, request: dict, work: Path, note: Note, told: Callable[[dict], None]) -> dict:
        """Look at a model before a run: the figures are `told` (`documents.baseline`), the speed comes back."""


@lru_cache(maxsize=1)
def get_engine() -> Engine:
    return import_string(settings.ENGINE.replace(":", "."))()


class RepairEngine:
    """The real one: `repair_engine.verbs.pipeline`, driven block by block."""

    phases = ("search", "confirm")

    def prepare(self, request: dict, work: Path, note: Note) -> dict:
        from repair_engine.question.verb import Verb
        from repair_engine.verbs import pipeline
        from webapp.jobs import attacking, translation

        _use_threads(request["threads"])
        if request.get("kind") == "attack":
            return attacking.prepare(request, work)
        asked = translation.repair_request(request, work)
        job = pipeline.prepare_job(asked, work, note)
        network = job.case.subject.network
        notes = {
            "threads": request["threads"],
            "filters": [network.filter_id(player) for player in range(network.n_filters)],
            # the leaders: culprits, or most critical first
            "culprit_sign": asked.metric.culprit_sign if asked.purpose is Verb.REPAIR else 1,
            "verb": asked.purpose,
            "prepared_in": str(work),
        }
        (work / NOTES).write_text(json.dumps(notes))
        _opened.put(work, job)
        return translation.summary(job.summary())

    def start(self, work: Path, phase: str, earlier: dict[str, bytes]) -> bytes:
        import shapley
        from repair_engine.verbs import pipeline

        if _attacks(work):
            return b""  # an attack samples nothing
        search = _read(earlier["search"])[1] if earlier.get("search") else None
        settings = pipeline.phase_settings(_open(work), phase, search)
        return _write(settings, shapley.start(settings)) if settings is not None else b""

    def next_round(self, work: Path, phase: str, state: bytes) -> list[dict]:
        import shapley

        if not state:
            return []
        settings, now = _read(state)
        tasks = shapley.next_round(now, settings)
        # A pilot walk's length is not known before: as if it went all the way.
        cost = shapley.draw_cost(now, settings) if now.depth is not None else settings.n_players * settings.batch_size
        return [{**json.loads(task.to_json()), "evaluations": task.draws * cost} for task in tasks]

    def run_block(self, work: Path, phase: str, state: bytes, task: dict, count: Count) -> bytes:
        import shapley

        _use_threads(_notes(work)["threads"])
        settings, now = _read(state)
        block = shapley.BlockTask(task["round"], task["block"], task["draws"])
        return shapley.run_block(_open(work).playing(settings), settings, now, block, count).to_bytes()

    def merge(self, work: Path, phase: str, state: bytes, blocks: list[bytes]) -> bytes:
        import shapley
        from repair_engine.question.verb import Verb
        from repair_engine.verbs import pipeline

        settings, now = _read(state)
        results = [shapley.BlockResult.from_bytes(block) for block in blocks]
        return _write(settings, pipeline.merge(settings, now, results, _verb(work) or Verb.REPAIR))

    def snapshot(self, work: Path, phase: str, state: bytes) -> dict:
        from webapp.jobs import translation

        if not state:
            return {}
        settings, now = _read(state)
        notes = _notes(work)
        return translation.snapshot(settings, now, notes["filters"], notes["culprit_sign"])

    def finish(self, work: Path, states: dict[str, bytes], out: Path, note: Note) -> dict:
        from repair_engine.models import hf_archive
        from repair_engine.support.outputs import HUGGING_FACE
        from repair_engine.verbs import running
        from webapp.jobs import attacking, translation

        if _attacks(work):
            _use_threads(attacking.threads(work))
            return attacking.finish(work, out, note)
        _use_threads(_notes(work)["threads"])
        last = {phase: _read(state)[1] for phase, state in states.items() if state}
        job = _open(work)
        document = running.finish(job, last.get("search"), last.get("confirm"), out, note)
        if document["verb"] == "repair" and job.case.question.adversary:
            attacking.picture(job.case, out)
        if (folder := out / HUGGING_FACE).is_dir():  # results are files: it comes back as it was sent
            hf_archive.pack(folder, out / f"{HUGGING_FACE}{hf_archive.SUFFIX}")
            shutil.rmtree(folder)
        return translation.headline(document)

    def what_if(self, request: dict, work: Path, units: list[str], note: Note) -> dict:
        from repair_engine.documents.choosing import steps
        from repair_engine.verbs import choices

        with _one_question:
            case = _case(request, work, note)
            found = choices.what_if(case, units, note)
            return steps(found, case.settings.limits, case.settings.metric.forgets)[1]

    def study(self, request: dict, work: Path, unit: str, what: str, note: Note) -> dict:
        from repair_engine.documents import unit_card

        with _one_question:
            case = _case(request, work, note)
            make = unit_card.picture if what == "picture" else unit_card.effect
            return dict(make(case, unit, note))

    def baseline(self, request: dict, work: Path, note: Note, told: Callable[[dict], None]) -> dict:
        from repair_engine.verbs.baseline import baseline
        from webapp.jobs import translation

        with _one_question:
            _use_threads(request["threads"])
            return dict(baseline(translation.repair_request(request, work), work, note, lambda found: told({**found})))


def _case(request: dict, work: Path, note: Note) -> Any:
    """A finished run's case, at hand for questions about it."""
    _use_threads(request["threads"])
    case = _cases.get(work, lambda: _anew(request, work, note))
    os.utime(work)  # it is in use
    return case


def _anew(request: dict, work: Path, note: Note) -> Any:
    """Made anew from the uploads unless another worker has done that. One at a time prepares it."""
    from repair_engine.case.preparing import open_case, prepare
    from webapp.jobs import translation
    from webapp.jobs.requests import place_of

    work.mkdir(parents=True, exist_ok=True)
    with (work / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ready = work / "ready"
        if not ready.exists():
            for left in work.iterdir():  # by a worker that was killed
                if left.name != ".lock":
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
            prepare(translation.repair_request(request, work), work, note)
            ready.touch()
    return open_case(work, place_of)


def _attacks(work: Path) -> bool:
    return (work / ATTACK).exists()


NOTES = "webapp.json"  # in the work directory: what the engine's own files do not say


class _Opened:
    """What this process has at hand, a prepared job or a case: loading one takes seconds, and it is used for hours."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.work: Path | None = None
        self.job: Any = None

    def get(self, work: Path, load: Callable[[], Any]) -> Any:
        with self.lock:
            if self.work != work or not work.exists():
                self.work, self.job = None, None  # first let go of the old one: there may not be room for two
                self.job, self.work = load(), work
            return self.job

    def put(self, work: Path, job: Any) -> None:
        with self.lock:
            self.work, self.job = work, job


_opened, _cases = _Opened(), _Opened()
_one_question = threading.Lock()  # at a time: light workers have threads, and a network is no two threads' at once


def _open(work: Path) -> Any:
    from repair_engine.verbs import pipeline

    _use_threads(_notes(work)["threads"])
    return _opened.get(work, lambda: pipeline.open_job(work, _verb(work), _moved(work)))


def _moved(work: Path) -> Callable[[str], str]:
    """Where a file is now of which a request says where it was on the machine that prepared it."""
    from webapp.jobs.requests import place_of

    then = Path(_notes(work).get("prepared_in", work))  # an earlier version left it where it was made

    def at(path: str) -> str:
        within = Path(path).is_relative_to(then)
        return str(work / Path(path).relative_to(then)) if within else place_of(path)

    return at


@lru_cache(maxsize=8)
def _notes(work: Path) -> dict:
    return json.loads((work / NOTES).read_text())


def _verb(work: Path) -> Any:
    from repair_engine.question.verb import Verb

    notes = _notes(work)
    if "verb" in notes:
        return Verb(notes["verb"])
    return Verb.SCORE if notes["scores"] else None  # prepared by an earlier version: the request says which


def _use_threads(count: int) -> None:
    """The same number for every worker of a job: it is part of what makes the bits repeat."""
    import torch

    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


def _write(settings: Any, state: Any) -> bytes:
    """A phase's settings travel with its state."""
    head = settings.to_json().encode()
    return len(head).to_bytes(8, "little") + head + state.to_bytes()


def _read(content: bytes) -> tuple[Any, Any]:
    import shapley

    length = int.from_bytes(content[:8], "little")
    settings = shapley.Settings.from_json(content[8 : 8 + length].decode())
    return settings, shapley.State.from_bytes(content[8 + length :])
