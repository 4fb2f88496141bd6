"""Throughput: single-filter marginals per second, against the bound that operation counts set.

The bound: a flip of one filter costs at least what comes after it in the network, done at the speed at which the
ordinary torch module (eval mode, same precision, its fastest batch size and memory format) does whole forwards here.
What comes after is counted in operations, and measured as a share of a forward's time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks import operations, variants
from benchmarks.cases import BenchCase, describe
from benchmarks.engine import Precision, choose, lowered
from benchmarks.flips import CHUNK, Flips, Timed, clock_for, rate_of, share_of_bound, time_after
from benchmarks.masked import MaskedValue, best_rows, fastest
from benchmarks.methods import images_per_draw

IMAGES = 32
BATCHES = {"cpu": (1, 4, 16, 32, 64, 128), "cuda": (64, 256, 1024)}  # of the plain forward, tried
ROUNDS = 3
PLAIN = "plain forward of the torch module"
MARGINALS = "single-filter marginals"
IN_BFLOAT16 = "single-filter marginals, search in bfloat16"


def measure(
    case: BenchCase,
    seconds: float,
    say: Callable[[str], None],
    more: bool = False,
    compiled: bool = False,
    bfloat16: bool = True,
) -> dict[str, Any]:
    """One record per way of evaluating: evaluations per second (one image under one coalition).

    The ways take turns, three rounds of `seconds` each (see `clock_for`), so that a machine that slows down slows all
    of them. 32 images per coalition, or as few as let a chunk of flips end within `seconds`.

    Args:
        more: also precisions and memory layouts (`benchmarks.variants`), as "variants"; `compiled` as there.
        bfloat16: also a search in bfloat16. Whether its predictions agree is hundreds of forwards.
    """
    say(f"{case.name}: counting operations, trying sizes of batches")
    some = case.base.images(np.arange(min(IMAGES, len(case.base.objective))))
    counted = operations.count(case.module, some[:1], case.network)
    plain, chosen = fastest_plain(case, some, min(seconds, 1.0))
    by_time = counted.full * time_after(case, _repeated(some, chosen["batch"]), ROUNDS)
    per_draw = images_per_draw(IMAGES, CHUNK, 2 * chosen["images_per_second"], seconds, draws=1)
    game = case.game(per_draw)
    batch = game.draw_batch(np.random.default_rng(0))
    flips = Flips(case, game, batch)
    rows, _ = best_rows(case, per_draw)
    masked = MaskedValue(case.base, per_draw, rows)
    masked.use(batch)
    full_masks = np.repeat(flips.coalition[None], rows, axis=0)

    def forwards() -> int:
        masked(full_masks)
        return rows * len(batch.indices)

    unasked = Precision("bfloat16", "float32", reason="it was not asked for")
    precision = choose(game, "bfloat16", 0) if bfloat16 else unasked
    low = Flips(case, game.playing(lowered(game.network, precision.used)), batch)
    ways: dict[str, Callable[[], int]] = {
        PLAIN: plain,
        "full masked forward": forwards,
        "walk": lambda: flips.walk(16),
    }
    flipping = {MARGINALS: flips} | ({IN_BFLOAT16: low} if precision.used != "float32" else {})
    for work in (*ways.values(), *(one.chunk for one in flipping.values())):
        work()
    rates: dict[str, list[float]] = {name: [] for name in ways}
    timed: dict[str, list[Timed]] = {name: [] for name in flipping}
    for turn in range(ROUNDS):
        say(f"{case.name}: round {turn + 1} of {ROUNDS}")
        for name in reversed(ways):  # the plain forward last, beside the flips that are held against it
            rates[name].append(rate_of(ways[name], seconds, clock=clock_for(case.device)))
        for name, one in flipping.items():
            timed[name].append(one.timed(seconds, rates[PLAIN][-1]))
    speeds = {name: float(np.median(values)) for name, values in rates.items()}
    base, bound = speeds[PLAIN], counted.bound(counted.after)
    shares = {name: share_of_bound(rounds, counted, counted.after) for name, rounds in timed.items()}
    # Which filters were flipped decides what they cost; all together are what a user pays for.
    speeds |= {name: share * base * bound for name, share in shares.items()}
    found: list[dict[str, Any]] = [
        {"method": name, "evaluations_per_second": round(v, 2), "ratio_to_plain": round(v / base, 3)}
        for name, v in speeds.items()
        if name != IN_BFLOAT16
    ]
    for kind, of in (("suffix", counted.after), ("dependent", counted.dependent), ("timed", by_time)):
        found[-1][f"{kind}_bound_ratio"] = round(counted.bound(of), 3)
        found[-1][f"{kind}_bound_evaluations_per_second"] = round(base * counted.bound(of), 2)
        found[-1][f"share_of_{kind}_bound"] = round(share_of_bound(timed[MARGINALS], counted, of), 4)
    of_rounds = [share_of_bound([one], counted, counted.after) for one in timed[MARGINALS]]
    found[-1]["share_of_suffix_bound_by_round"] = [round(share, 4) for share in of_rounds]
    found[-1]["one_channel_gain"] = round(counted.bound(counted.one_channel) / bound, 3)
    found[-1]["marginals_per_second"] = round(speeds[MARGINALS] / len(batch.indices), 3)
    half: dict[str, Any] = {"method": IN_BFLOAT16, "precision": precision.to_json()}
    if IN_BFLOAT16 in speeds:
        speed = speeds[IN_BFLOAT16]
        half |= {"evaluations_per_second": round(speed, 2), "ratio_to_plain": round(speed / base, 3)}
    else:
        half["cannot"] = precision.reason
    found.append(half)
    result = {
        "part": "throughput",
        **describe(case),
        "images": len(batch.indices),
        "gmacs": round(counted.full / 1e9, 4),
        "plain": chosen,
        "records": found,
    }
    if more:
        runs = precision.agreement is not None  # whether it agrees as well is another figure
        result["variants"] = variants.measure(case, game, batch, counted, chosen["batch"], runs, compiled, seconds, say)
    return result


def fastest_plain(
    case: BenchCase, images: torch.Tensor, seconds: float = 1.0
) -> tuple[Callable[[], int], dict[str, Any]]:
    """A plain forward at the fastest of a few batch sizes and memory formats, and which that is; `seconds` for each."""
    found: list[tuple[float, int, torch.memory_format]] = []
    for layout in (torch.contiguous_format, torch.channels_last):

        def rate(size: int, layout: torch.memory_format = layout) -> float:
            return rate_of(_plain(case.module, images, size, layout), seconds, True, clock_for(case.device))

        size, speed = fastest(BATCHES[case.device], rate, lambda size: size)
        found.append((speed, size, layout))
    speed, size, layout = max(found, key=lambda f: f[0])
    chosen = {"batch": size, "memory_format": str(layout).removeprefix("torch."), "images_per_second": round(speed, 3)}
    return _plain(case.module, images, size, layout), chosen


def _plain(module: torch.nn.Module, images: torch.Tensor, size: int, layout: torch.memory_format) -> Callable[[], int]:
    batch = _repeated(images, size).contiguous(memory_format=layout)

    def forward() -> int:
        module.to(memory_format=layout)  # free where it already is
        with torch.inference_mode():
            module(batch).argmax(-1).cpu()
        return len(batch)

    return forward


def _repeated(images: torch.Tensor, size: int) -> torch.Tensor:
    return images.repeat(-(-size // len(images)), 1, 1, 1)[:size]
