"""The engine's own methods, as snapshots over time."""

from __future__ import annotations

import numpy as np

from benchmarks.cases import IMAGES, BenchCase
from benchmarks.engine import affordable, asked, choose, lowered
from benchmarks.masked import forward_rate
from benchmarks.methods import Cannot, Recorder, Snapshot, images_per_draw
from shapley import Settings, estimate, merge_round, next_round, run, run_block, start
from shapley.base import EstimatorName

TOP_K = 50
_UNLIMITED = 1 << 60  # evaluations; time is what runs out
_DRAWS = 10  # that should fit into the allotment


def sampler(estimator: EstimatorName, case: BenchCase, seconds: float, seed: int) -> list[Snapshot]:
    """Rounds of one draw each of `tmab` or `cmcs`, from the pilot on, until the time is up (or it has converged).

    Images per draw: 32, or as few as lets ten draws fit.
    """
    coalitions = case.n if estimator == "cmcs" else case.n / 8
    rate = forward_rate(case, IMAGES, 1)
    game = case.game(images_per_draw(IMAGES, coalitions, rate, seconds, _DRAWS))
    settings = Settings(
        estimator=estimator,
        n_players=game.n_players,
        batch_size=game.batch_size,
        budget=_UNLIMITED,
        seed=seed,
        top_k=TOP_K if game.n_players > 2 * TOP_K else max(1, game.n_players // 4),
        side="both",
        tol=1e-4 if estimator == "tmab" else 0.0,
        resolution=game.plan.resolution,
        draws_per_block=1,
        blocks_per_round=1,
    )
    recorder = Recorder(seconds)
    state = start(settings)
    while recorder.time_left or not state.moments.count.any():
        tasks = next_round(state, settings)
        if not tasks:
            break
        state = merge_round(state, settings, [run_block(game, settings, state, task) for task in tasks])
        if state.moments.count.any():
            now = state
            recorder.offer(lambda now=now: _snapshot(recorder, now, settings))
    recorder.offer(lambda: _snapshot(recorder, state, settings), last=True)
    return recorder.snapshots


def fast(precision: str, case: BenchCase, seconds: float, seed: int) -> list[Snapshot]:
    """`fast` as `score --top-k 50 --side both --precision PRECISION` runs it, afresh for doubling budgets.

    Each run is a snapshot. The first budget is about a 64th of the allotment's worth; as for others that run once per
    budget, a snapshot's time is its own run's (comparing predictions in bfloat16 included), and the runs together take
    about twice the allotment. The game that is valued is float32's, and so is the reference.

    Raises:
        Cannot: too few predictions of the network in bfloat16 are float32's.
    """
    rate = forward_rate(case, IMAGES, 1)
    top_k = TOP_K if case.n > 2 * TOP_K else max(1, case.n // 4)
    request = asked(seed=seed, estimator="fast", side="both", top_k=top_k)
    snapshots: list[Snapshot] = []
    budget, total = rate * seconds / 32, Recorder(seconds)
    while not snapshots or (snapshots[-1].seconds < 0.7 * seconds and total.seconds < 2 * seconds):
        recorder = Recorder(seconds)
        chosen = choose(case.base, precision, seed)
        if chosen.used != precision:
            raise Cannot(chosen.note())
        base = case.base.playing(lowered(case.network, precision))
        game, settings = affordable(request, base.resized, int(budget))
        if settings is not None:
            found, _ = run(game, settings)
            assert found.best is not None
            snapshots.append(Snapshot(recorder.seconds, found.evaluations, found.best.copy()))
        budget *= 2
    return snapshots


def _snapshot(recorder: Recorder, state, settings: Settings) -> Snapshot:
    found = estimate(state, settings)
    return Snapshot(
        recorder.seconds,
        found.evaluations,
        found.values[0].copy(),
        found.std_errors[0].copy(),
        np.array(found.samples),
    )
