"""Throughput: single-unit marginals per second, against the bound that operation counts set.

The bound: a flip of one unit costs at least what comes after it in the network, done at the speed at which the
ordinary torch module (eval mode, same precision, its fastest batch size and memory format) does whole forwards here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from benchmarks import operations
from benchmarks.cases import BenchCase, describe
from benchmarks.engine import Precision, choose, lowered
from benchmarks.masked import MaskedValue, best_rows, fastest
from benchmarks.methods import images_per_draw

IMAGES = 32
CHUNK = 256  # units flipped per call; an estimator asks for all of a draw's at once
_LEAST_CHUNK = 64  # where a whole one would take much longer than a round
BATCHES = {"cpu": (16, 32, 64, 128), "cuda": (64, 256, 1024)}  # of the plain forward, tried
REMOVED = 0.05  # share of the units that is absent
ROUNDS = 3
MARGINALS = "single-unit marginals"
IN_BFLOAT16 = "single-unit marginals, search in bfloat16"


def measure(case: BenchCase, seconds: float, say: Callable[[str], None], bfloat16: bool = True) -> dict[str, Any]:
    """One record per way of evaluating: evaluations per second (one image under one coalition).

    The ways take turns, three rounds of `seconds` each, so that a machine that slows down slows all of them; what first
    calls pay once is in none of the medians. 32 images per coalition, or as few as let a chunk of flips end within
    `seconds`.

    Args:
        bfloat16: whether the search in bfloat16 is measured, too.
    """
    clock = clock_for(case.device)
    say(f"{case.name}: counting operations")
    some = case.base.images(np.arange(min(IMAGES, len(case.base.objective))))
    counted = operations.count(case.module, some[:1], case.network)
    plain, chosen = fastest_plain(case, some)
    per_draw = images_per_draw(IMAGES, CHUNK, 2 * chosen["images_per_second"], seconds, draws=1)
    game = case.game(per_draw)
    batch = game.draw_batch(np.random.default_rng(0))
    size = max(_LEAST_CHUNK, min(CHUNK, int(2 * chosen["images_per_second"] * seconds)))
    flips = Flips(case, game, batch, size)
    rows, _ = best_rows(case, per_draw)
    masked = MaskedValue(case.base, per_draw, rows)
    masked.use(batch)
    full_masks = np.repeat(flips.coalition[None], rows, axis=0)

    def forwards() -> int:
        masked(full_masks)
        return rows * len(batch.indices)

    unasked = Precision("bfloat16", "float32", reason="it was not asked for")
    precision = choose(game, "bfloat16", 0) if bfloat16 else unasked
    low = Flips(case, game.playing(lowered(game.network, precision.used)), batch, size)
    ways: dict[str, Callable[[], int]] = {
        "plain forward of the torch module": plain,
        "full masked forward": forwards,
        "walk": lambda: flips.walk(16),
        MARGINALS: flips.chunk,
    }
    if precision.used != "float32":
        ways[IN_BFLOAT16] = low.chunk
    rates: dict[str, list[float]] = {name: [] for name in ways}
    done = {MARGINALS: flips.done, IN_BFLOAT16: low.done}
    for turn in range(ROUNDS):
        for name, work in ways.items():
            say(f"{case.name}: {name}, round {turn + 1} of {ROUNDS}")
            before = len(done.get(name, ()))
            rate = rate_of(work, seconds, clock=clock)
            if name in done:  # which units were flipped decides what they cost: as many forwards as that is work for
                rate /= counted.bound(counted.after, np.concatenate(done[name][before:]))
            rates[name].append(rate)
    speeds = {name: float(np.median(values)) for name, values in rates.items()}
    base = speeds["plain forward of the torch module"]
    for name in done.keys() & speeds.keys():
        speeds[name] *= counted.bound(counted.after)  # of all units together, which is what a user pays for
    found: list[dict[str, Any]] = [
        {"method": name, "evaluations_per_second": round(v, 2), "ratio_to_plain": round(v / base, 3)}
        for name, v in speeds.items()
        if name != IN_BFLOAT16
    ]
    for kind, of in (("suffix", counted.after), ("dependent", counted.dependent)):
        bound = counted.bound(of)
        found[-1][f"{kind}_bound_ratio"] = round(bound, 3)
        found[-1][f"{kind}_bound_evaluations_per_second"] = round(base * bound, 2)
        found[-1][f"share_of_{kind}_bound"] = round(speeds[MARGINALS] / (base * bound), 4)
    gain = counted.bound(counted.one_channel) / counted.bound(counted.after)
    found[-1]["one_channel_gain"] = round(gain, 3)
    found[-1]["marginals_per_second"] = round(speeds[MARGINALS] / len(batch.indices), 3)
    half: dict[str, Any] = {"method": IN_BFLOAT16, "precision": precision.to_json()}
    if IN_BFLOAT16 in speeds:
        speed = speeds[IN_BFLOAT16]
        half |= {"evaluations_per_second": round(speed, 2), "ratio_to_plain": round(speed / base, 3)}
    else:
        half["cannot"] = precision.reason
    found.append(half)
    return {
        "part": "throughput",
        **describe(case),
        "images": len(batch.indices),
        "gmacs": round(counted.full / 1e9, 4),
        "plain": chosen,
        "records": found,
    }


def fastest_plain(case: BenchCase, images: torch.Tensor) -> tuple[Callable[[], int], dict[str, Any]]:
    """A plain forward at the fastest of a few batch sizes and memory formats, and which that is."""
    found: list[tuple[float, int, torch.memory_format]] = []
    for layout in (torch.contiguous_format, torch.channels_last):

        def rate(size: int, layout: torch.memory_format = layout) -> float:
            return rate_of(_plain(case.module, images, size, layout), 1.0, warm=True)

        size, speed = fastest(BATCHES[case.device], rate, lambda size: size)
        found.append((speed, size, layout))
    speed, size, layout = max(found, key=lambda f: f[0])
    chosen = {"batch": size, "memory_format": str(layout).removeprefix("torch."), "images_per_second": round(speed, 3)}
    return _plain(case.module, images, size, layout), chosen


def _plain(module: torch.nn.Module, images: torch.Tensor, size: int, layout: torch.memory_format) -> Callable[[], int]:
    batch = images.repeat(-(-size // len(images)), 1, 1, 1)[:size].contiguous(memory_format=layout)

    def forward() -> int:
        module.to(memory_format=layout)  # free where it already is
        with torch.inference_mode():
            module(batch).argmax(-1).cpu()
        return len(batch)

    return forward


class Flips:
    """Single flips and walks at one coalition on one batch, as estimators ask for them.

    Chunks of neighbouring units come in random order, so that any number of them is a sample of all.
    """

    def __init__(self, case: BenchCase, game: Any, batch: Any, size: int = CHUNK) -> None:
        self.game, self.batch = game, batch
        self.rng = np.random.default_rng(1)
        self.coalition = np.ones(case.n, dtype=bool)
        self.coalition[self.rng.choice(case.n, max(1, int(case.n * REMOVED)), replace=False)] = False
        self.size = max(game.lookahead, size)
        self.done: list[np.ndarray] = []
        self._chunks = self._endless()

    def _endless(self) -> Iterator[np.ndarray]:
        starts = np.arange(0, self.game.n_players, self.size)
        while True:
            for start in self.rng.permutation(starts):
                yield np.arange(start, min(start + self.size, self.game.n_players))

    def chunk(self) -> int:
        """Flips one chunk; evaluations."""
        players = next(self._chunks)
        self.game.differences(self.coalition[None], players, self.batch, lambda _: None)
        self.done.append(players)
        return len(players) * len(self.batch.indices)

    def walk(self, steps: int) -> int:
        """Removes `steps` more units one by one; evaluations."""
        order = self.rng.permutation(np.flatnonzero(self.coalition))[:steps]
        rows = np.repeat(self.coalition[None], len(order), axis=0)
        for k, player in enumerate(order):
            rows[k:, player] = False
        self.game.evaluate(rows, self.batch)
        return len(order) * len(self.batch.indices)


def clock_for(device: str) -> Callable[[], float]:
    """Processor time where one thread computes on a CPU: then others on the machine hardly count. Else wall time."""
    return time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter


def rate_of(
    work: Callable[[], int], seconds: float, warm: bool = False, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Evaluations per second; answers are on the CPU when `work` returns, so nothing is still under way.

    Args:
        warm: begin anew after the first call, unless it alone took that long.
    """
    began, done = clock(), 0
    while (spent := clock() - began) < seconds or not done:
        done += work()
        if warm and clock() - began < seconds:
            warm, began, done = False, clock(), 0
    return done / max(spent, clock() - began)
