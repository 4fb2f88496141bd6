"""The single place where jobs touch the engine. Everything else sees bytes, paths and JSON.

Phases run in order; each is a sequence of rounds, each round a number of blocks. All calls are deterministic
in their arguments, so any worker may make them, again if need be. torch is imported by the calls that need it
and never by the web process.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from django.conf import settings
from django.utils.module_loading import import_string

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
        """Choose k, write back, verify, report. Every file in `out` is a result. {"repaired": bool, …}."""


@lru_cache(maxsize=1)
def get_engine() -> Engine:
    return import_string(settings.ENGINE.replace(":", "."))()
