"""Peak memory by the byte budget that a game is given for the states it keeps."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import inspect
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.cases import IMAGES, BenchCase, describe
from benchmarks.engine import NeuronGame
from benchmarks.flips import rate_of

BUDGETS = (64 << 20, 256 << 20, 1 << 30, 2 << 30)  # bytes
_FLIPS, _RUN = 256, 16  # flips at the most, and how many of them are neighbours
_SECONDS = 60.0  # that the flips of a large network may take at the speed of plain forwards
_STEPS = 8


def measure(case: BenchCase, say: Callable[[str], None]) -> dict[str, Any]:
    """One record per byte budget, smallest first: memory before, the peak while working, and the difference, bytes.

    Resident memory of the process on a CPU, after the allocator gave back what is free (else memory that preparing had
    used would be used again, and no peak be seen); allocated memory on a GPU. The work: a coalition, a walk of 8
    steps, 256 single flips, 32 images.
    """
    if "memory" not in inspect.signature(NeuronGame).parameters:
        raise RuntimeError("NeuronGame takes no byte budget")
    records = []
    flips = _affordable(case)
    for budget in BUDGETS:
        say(f"{case.name}: a budget of {budget >> 20} MiB")
        game = NeuronGame(case.network, case.base.objective, case.base.normalize, IMAGES, memory=budget)
        _give_back()
        before = begin(case.device)
        work(game, flips, np.random.default_rng(0))
        peak = peak_since(case.device)
        records.append(
            {
                "method": f"{budget >> 20} MiB",
                "budget": budget,
                "before": before,
                "peak": peak,
                "added": peak - before,
                "within_budget": peak - before <= budget,
            }
        )
    return {"part": "memory", **describe(case), "images": case.base.batch_size, "flips": flips, "records": records}


def _affordable(case: BenchCase) -> int:
    """Flips, a multiple of `_RUN`."""
    pixels = case.base.images(np.arange(4))
    rate = rate_of(lambda: len(case.network.logits(pixels)), 1.0, warm=True)
    runs = int(rate * _SECONDS / (case.base.batch_size * _RUN))
    return min(case.n, _RUN * min(_FLIPS // _RUN, max(1, runs)))


def work(game: NeuronGame, flips: int, rng: np.random.Generator) -> None:
    """A coalition, a walk and single flips on one batch: runs of neighbours, the first ones and others at random."""
    batch = game.draw_batch(rng)
    coalition = np.ones(game.n_players, dtype=bool)
    coalition[rng.choice(game.n_players, max(1, game.n_players // 20), replace=False)] = False
    rows = np.repeat(coalition[None], _STEPS, axis=0)
    for k, player in enumerate(rng.permutation(np.flatnonzero(coalition))[:_STEPS]):
        rows[k:, player] = False
    game.evaluate(rows, batch)
    game.evaluate(coalition[None], batch)
    starts = [0, *rng.integers(0, max(1, game.n_players - _RUN), flips // _RUN - 1)] if flips >= _RUN else [0]
    for start in starts:
        players = np.arange(start, min(start + _RUN, game.n_players))
        game.differences(coalition[None], players, batch, lambda _: None)


def _give_back() -> None:
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)


def begin(device: str) -> int:
    """Bytes in use now; forgets the peak so far."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM (man 5 proc)
    return _status("VmRSS")


def peak_since(device: str) -> int:
    """The most bytes in use since `begin` (since the process began where the system cannot reset the peak)."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else _status("VmHWM")


def _status(field: str) -> int:
    try:
        for row in Path("/proc/self/status").read_text().splitlines():
            if row.startswith(f"{field}:"):
                return int(row.split()[1]) * 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
