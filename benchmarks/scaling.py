"""How cost grows: with the filters valued, the images per draw, the coalitions per batch, and the workers."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.cases import IMAGES, BenchCase, describe, open_case
from benchmarks.masked import forward_rate
from benchmarks.methods import images_per_draw
from shapley import BlockTask, Settings, run_block, start

SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)  # of the filters
IMAGE_COUNTS = (1, 2, 4, 8, 16, 32, 64)
CHUNKS = {"cpu": (32, 64, 128, 256, 512), "cuda": (256, 1024, 4096, 16384)}  # images per forward, K·B
REMOVED = 0.05  # share of the filters that is absent
WORKERS = (1, 2)
_MOST = 10.0  # times the seconds of a point that it may take, at the rate of full forwards
_WORKER_BLOCKS = 8
_DEPTH_SHARE = 0.05


def measure(case: BenchCase, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """One record per point: what was varied, its size, seconds per draw and evaluations per second.

    A draw is one coalition with single flips of the filters, as in cmcs. Each point gets about
    `seconds`, or one draw; what would take more than ten times that is left out.
    """
    records: list[dict[str, Any]] = []
    rng = np.random.default_rng(0)
    rate = forward_rate(case, 1, 8)
    images = images_per_draw(IMAGES, SHARES[0] * case.n, rate, seconds, draws=2)
    for share in SHARES:
        players = np.sort(rng.choice(case.n, max(1, int(case.n * share)), replace=False))
        if share == SHARES[0] or len(players) * images < _MOST * rate * seconds:
            say(f"{case.name}: {len(players)} filters")
            records.append(_point("filters", len(players), *_draws(case, images, players, seconds)))
    players = np.sort(rng.choice(case.n, min(case.n, 256), replace=False))
    for count in IMAGE_COUNTS:
        fits = len(players) * count < _MOST * rate * seconds
        if count <= len(case.base.objective) and (count == IMAGE_COUNTS[0] or fits):
            say(f"{case.name}: {count} images")
            records.append(_point("images", count, *_draws(case, count, players, seconds)))
    game = case.game(images)
    if hasattr(game, "chunk"):
        usual = game.chunk
        for chunk in CHUNKS[case.device]:
            say(f"{case.name}: {chunk} images per forward")
            game.chunk = chunk
            records.append(_point("images per forward", chunk, *_draws(case, images, players, seconds)))
        game.chunk = usual
    return {
        "part": "scaling",
        **describe(case),
        "images": images,
        "records": records,
        "workers": workers(case.name, case.device, min(images, 8), min(128, max(8, int(rate * seconds))), say),
    }


def _point(varied: str, size: int, seconds: float, evaluations: int) -> dict[str, Any]:
    return {
        "method": f"{varied} = {size}",
        "varied": varied,
        "size": size,
        "seconds_per_draw": float(f"{seconds:.4g}"),
        "evaluations_per_draw": evaluations,
        "evaluations_per_second": float(f"{evaluations / seconds:.4g}"),
    }


def _draws(case: BenchCase, images: int, players: np.ndarray, seconds: float) -> tuple[float, int]:
    """Median seconds of a draw over `players`, and its evaluations. One draw at least, and one more to warm up."""
    game = case.game(images)
    rng = np.random.default_rng(1)
    size = max(game.lookahead, 64)
    spent: list[float] = []
    began = time.perf_counter()
    while not spent or time.perf_counter() - began < seconds:
        coalition = np.ones(case.n, dtype=bool)
        coalition[rng.choice(case.n, max(1, int(case.n * REMOVED)), replace=False)] = False
        batch = game.draw_batch(rng)
        start_of_draw = time.perf_counter()
        game.evaluate(coalition[None], batch)
        for first in range(0, len(players), size):
            game.differences(coalition[None], players[first : first + size], batch, lambda _: None)
        spent.append(time.perf_counter() - start_of_draw)
    # The first draw warms up where there is a second one.
    return float(np.median(spent[1:] or spent)), (1 + len(players)) * game.batch_size


# Workers --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Share:
    """What one worker process is to do."""

    case: str
    device: str
    images: int
    filters: int
    blocks: tuple[int, ...]


def workers(name: str, device: str, images: int, filters: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Seconds of one round of blocks with one and with two one-thread processes, and whether the bits are the same.

    Args:
        images: per draw.
        filters: valued by a block.
    """
    context = multiprocessing.get_context("spawn")
    found: dict[int, tuple[float, dict[int, str]]] = {}
    for count in WORKERS:
        say(f"{name}: {count} worker{'s' * (count > 1)} of one thread")
        barrier, answers = context.Barrier(count), context.Queue()
        shares = [_Share(name, device, images, filters, tuple(range(w, _WORKER_BLOCKS, count))) for w in range(count)]
        processes = [context.Process(target=_work, args=(share, barrier, answers)) for share in shares]
        threads = {key: os.environ.get(key) for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        os.environ.update(dict.fromkeys(threads, "1"))  # read by the children when they import torch
        try:
            for process in processes:
                process.start()
        finally:
            for key, value in threads.items():
                if value is None:
                    del os.environ[key]
                else:
                    os.environ[key] = value
        parts = [_answer(answers, processes) for _ in processes]
        for process in processes:
            process.join()
        found[count] = max(seconds for seconds, _ in parts), {k: v for _, bits in parts for k, v in bits.items()}
    one, two = found[1], found[2]
    return {
        "blocks": _WORKER_BLOCKS,
        "images": images,
        "filters": filters,
        "seconds_one": round(one[0], 3),
        "seconds_two": round(two[0], 3),
        "ratio": round(one[0] / two[0], 3),
        "same_bits": one[1] == two[1],
    }


def _answer(answers: Any, processes: list[Any]) -> tuple[float, dict[int, str]]:
    """The next answer. Raises RuntimeError if a worker died."""
    while True:
        try:
            return answers.get(timeout=2.0)
        except queue.Empty:
            if any(process.exitcode not in (None, 0) for process in processes):
                for process in processes:
                    process.terminate()
                raise RuntimeError("a worker process died; its error is above") from None


def block_settings(n_players: int, batch_size: int, resolution: float, filters: int) -> Settings:
    """A round of blocks of one cmcs draw over evenly spaced filters at a fixed depth."""
    players = np.unique(np.linspace(0, n_players - 1, min(n_players, filters)).astype(int))
    return Settings(
        estimator="cmcs",
        n_players=n_players,
        batch_size=batch_size,
        budget=1 << 60,
        seed=0,
        tol=0.0,
        depth=max(1, int(n_players * _DEPTH_SHARE)),
        players=tuple(int(p) for p in players),
        resolution=resolution,
        draws_per_block=1,
        blocks_per_round=_WORKER_BLOCKS,
    )


def _work(share: _Share, barrier: Any, answers: Any) -> None:
    """In a worker process: opens the case, waits for the others, runs its blocks."""
    torch.set_num_threads(1)
    try:
        game = open_case(share.case, share.device).game(share.images)
        settings = block_settings(game.n_players, game.batch_size, game.plan.resolution, share.filters)
        state = start(settings)
        run_block(game, settings, state, BlockTask(0, _WORKER_BLOCKS, 1))  # not one of the round's: it warms up
        barrier.wait()
        began = time.perf_counter()
        results = {block: run_block(game, settings, state, BlockTask(0, block, 1)) for block in share.blocks}
        seconds = time.perf_counter() - began
        bits = {block: hashlib.sha256(result.to_bytes()).hexdigest() for block, result in results.items()}
    except BaseException:
        barrier.abort()
        raise
    answers.put((seconds, bits))
