"""Where the time of single flips goes, by kind of operator, against what operations and bytes alone would take."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks import operations
from benchmarks.cases import BenchCase, describe
from benchmarks.flips import CHUNK, Flips, rate_of
from benchmarks.methods import images_per_draw
from benchmarks.throughput import IMAGES, fastest_plain

# Kinds by names of torch's operators, the first that matches; an operator's time is its own, without those it calls.
KINDS = (
    ("convolutions", r"conv"),
    ("matrix products", r"linear|mm\b|matmul|dot_product"),
    ("pooling", r"pool|aten::mean|aten::sum"),
    ("norms", r"norm"),
    ("masks and sums (multiply, add)", r"addcmul|aten::mul|aten::add|aten::sub|lerp|where"),
    ("activations", r"relu|clamp|threshold|silu|swish|sigmoid|gelu|tanh"),
    ("copies, concatenations, gathering", r"copy|clone|cat\b|index|gather|contiguous|aten::to\b|fill|repeat|expand"),
)
REST = "other operators"
OUTSIDE = "outside of operators (Python, launches, waiting)"
_COPY_BYTES = 256 << 20
_COPIES = 5


def measure(case: BenchCase, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """One record per kind of operator: seconds and share of the wall time of some seconds' flips under the profiler.

    Beside them two floors for the same flips: the multiply-accumulates after each flipped filter at the speed of the
    ordinary module's fastest forward, and the float32 numbers that its convolutions and matrix products read and
    write, each once, at the speed of copying memory.
    """
    say(f"{case.name}: counting operations")
    some = case.base.images(np.arange(min(IMAGES, len(case.base.objective))))
    counted = operations.count(case.module, some[:1], case.network)
    plain, chosen = fastest_plain(case, some, min(seconds, 1.0))
    game = case.game(images_per_draw(IMAGES, CHUNK, 2 * chosen["images_per_second"], seconds, draws=1))
    flips = Flips(case, game, game.draw_batch(np.random.default_rng(0)))
    flips.chunk()
    flips.done.clear()
    speed = rate_of(plain, seconds)
    bandwidth = copy_speed(case.network.device)
    say(f"{case.name}: profiling")
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if case.device == "cuda" else [])
    with profile(activities=activities, acc_events=True) as profiler:
        began, evaluations = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            evaluations += flips.chunk()
        wall = time.perf_counter() - began
    spent = by_kind(profiler.key_averages(), case.device)
    spent[OUTSIDE] = max(0.0, wall - sum(spent.values()))
    flipped = np.concatenate(flips.done)
    images = len(flips.batch.indices)
    return {
        "part": "profile",
        **describe(case),
        "images": images,
        "evaluations": evaluations,
        "seconds": wall,
        "records": [
            {"method": kind, "seconds": round(took, 4), "share": round(took / wall, 4)}
            for kind, took in sorted(spent.items(), key=lambda item: -item[1])
        ],
        "floor_operations": images * float(counted.after[flipped].sum()) / (speed * counted.full),
        "floor_bytes": images * float(counted.traffic[flipped].sum()) / bandwidth,
        "bytes_per_second": bandwidth,
    }


def by_kind(events: Any, device: str) -> dict[str, float]:
    """Seconds by kind: of operators on a CPU, of the kernels that they launch on a GPU."""
    spent: dict[str, float] = defaultdict(float)
    for event in events:
        micros = event.self_device_time_total if device == "cuda" else event.self_cpu_time_total
        if device == "cuda" and not event.key.startswith(("aten::", "mkldnn::")):
            continue  # kernels by their own names: counted with the operator already
        spent[kind_of(event.key)] += micros / 1e6
    return {kind: took for kind, took in spent.items() if took}


def kind_of(operator: str) -> str:
    """The kind of an operator by its name, such as "aten::relu_"."""
    return next((kind for kind, pattern in KINDS if re.search(pattern, operator)), REST)


def copy_speed(device: torch.device) -> float:
    """Bytes per second, read and written, of copying memory: the fastest of a few."""
    source = torch.ones(_COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)
    best = np.inf
    for _ in range(_COPIES):
        _wait(device)
        began = time.perf_counter()
        target.copy_(source)
        _wait(device)
        best = min(best, time.perf_counter() - began)
    return 2 * _COPY_BYTES / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
