"""How well a search foretells when it will have reached the asked quality: told after its first sampled round."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.cases import BenchCase, describe
from benchmarks.engine import Foresight, affordable, asked
from benchmarks.masked import forward_rate
from shapley import merge_round, next_round, run_block, start

ASKED = ((20, 0.7), (50, 0.7), (50, 0.8))  # K, overlap: as in `score --quality K,OVERLAP`
SEEDS = (0, 1)


def measure(case: BenchCase, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """One record per quality and seed; a search that is not there after `seconds` (about) is cut off, and says so."""
    budget = int(forward_rate(case, 32, 1) * 3 * seconds)
    records = []
    for k, overlap in ASKED:
        for seed in SEEDS:
            say(f"{case.name}: {k} at {overlap:g}, seed {seed}")
            if 2 * k < case.n:
                records.append(_one(case, k, overlap, seed, budget))
    return {"part": "forecast", **describe(case), "budget": budget, "records": records}


def _one(case: BenchCase, k: int, overlap: float, seed: int, budget: int) -> dict[str, Any]:
    request = asked(seed=seed, estimator="fast", side="bottom", quality=f"{k},{overlap}")
    record: dict[str, Any] = {"method": f"{k}, {overlap:g}, seed {seed}", "k": k, "overlap": overlap, "seed": seed}
    game, settings = affordable(request, case.base.resized, budget)
    if settings is None:
        return record | {"cannot": f"a budget of {budget:,} evaluations buys no draw"}
    foresight, began = Foresight(settings), time.perf_counter()
    state, told_at = start(settings), 0.0
    while tasks := next_round(state, settings):
        state = merge_round(state, settings, [run_block(game, settings, state, task) for task in tasks])
        foresight.after_round(state)
        if foresight.first is not None and not told_at:
            told_at = time.perf_counter() - began
    spent, first = time.perf_counter() - began, foresight.first
    assert first is not None
    foretold = told_at + first.seconds
    return record | {
        "told_after_evaluations": first.after,
        "foretold_evaluations": first.after + first.evaluations,
        "evaluations": state.evaluations,
        "foretold_seconds": foretold,
        "seconds": spent,
        "ratio": foretold / spent,
        "reached": state.stopped == "converged",
    }
