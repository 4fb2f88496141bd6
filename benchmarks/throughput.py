"""Throughput: single-filter marginals per second, against the bound that operation counts set.

The bound: a flip of one filter costs at least what comes after it in the network, done at the speed at which the
ordinary torch module (eval mode, same precision, its fastest batch size and memory format) does whole forwards here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks import operations, variants
from benchmarks.cases import BenchCase, describe
from benchmarks.engine import choose, lowered
from benchmarks.flips import CHUNK, Flips, rate_of
from benchmarks.masked import MaskedValue, best_rows, fastest
from benchmarks.methods import images_per_draw

IMAGES = 32
BATCHES = {"cpu": (16, 32, 64, 128), "cuda": (64, 256, 1024)}  # of the plain forward, tried
ROUNDS = 3
MARGINALS = "single-filter marginals"
IN_BFLOAT16 = "single-filter marginals, search in bfloat16"


def measure(
    case: BenchCase, seconds: float, say: Callable[[str], None], more: bool = False, compiled: bool = False
) -> dict[str, Any]:
    """One record per way of evaluating: evaluations per second (one image under one coalition).

    The ways take turns, three rounds of `seconds` each, so that a machine that slows down slows all of them. 32 images
    per coalition, or as few as let a chunk of flips end within `seconds`.

    Args:
        more: also precisions and memory layouts (`benchmarks.variants`), as "variants"; `compiled` as there.
    """
    say(f"{case.name}: counting operations")
    some = case.base.images(np.arange(min(IMAGES, len(case.base.objective))))
    counted = operations.count(case.module, some[:1], case.network)
    plain, chosen = fastest_plain(case, some, min(seconds, 1.0))
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

    precision = choose(game, "bfloat16", 0)
    low = Flips(case, game.playing(lowered(game.network, precision.used)), batch)
    ways: dict[str, Callable[[], int]] = {
        "plain forward of the torch module": plain,
        "full masked forward": forwards,
        "walk": lambda: flips.walk(16),
        MARGINALS: flips.chunk,
    }
    if precision.used != "float32":
        ways[IN_BFLOAT16] = low.chunk
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for work in ways.values():
        work()
    flips.done.clear()
    low.done.clear()
    for turn in range(ROUNDS):
        for name, work in ways.items():
            say(f"{case.name}: {name}, round {turn + 1} of {ROUNDS}")
            rates[name].append(rate_of(work, seconds))
    speeds = {name: float(np.median(values)) for name, values in rates.items()}
    base = speeds["plain forward of the torch module"]
    flipped = np.concatenate(flips.done)
    found: list[dict[str, Any]] = [
        {"method": name, "evaluations_per_second": round(v, 2), "ratio_to_plain": round(v / base, 3)}
        for name, v in speeds.items()
        if name != IN_BFLOAT16
    ]
    # Which filters were flipped decides what the bound is for them; all filters together are what a user pays for.
    for kind, of in (("suffix", counted.after), ("dependent", counted.dependent)):
        share = speeds[MARGINALS] / (base * counted.bound(of, flipped))
        found[-1][f"{kind}_bound_ratio"] = round(counted.bound(of), 3)
        found[-1][f"{kind}_bound_evaluations_per_second"] = round(base * counted.bound(of), 2)
        found[-1][f"share_of_{kind}_bound"] = round(share, 4)
    gain = counted.bound(counted.one_channel) / counted.bound(counted.after)
    found[-1]["one_channel_gain"] = round(gain, 3)
    share = found[-1]["share_of_suffix_bound"]
    found[-1]["marginals_per_second"] = round(share * base * counted.bound(counted.after) / len(batch.indices), 3)
    half: dict[str, Any] = {"method": IN_BFLOAT16, "precision": precision.to_json()}
    if IN_BFLOAT16 in speeds:
        # As many of the same kind of flips as in float32: so much faster, whichever filters were drawn.
        speed = speeds[IN_BFLOAT16] * counted.bound(counted.after, flipped)
        speed /= counted.bound(counted.after, np.concatenate(low.done))
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
            return rate_of(_plain(case.module, images, size, layout), seconds, warm=True)

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
