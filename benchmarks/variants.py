"""Ways to compute the same network: precisions and memory layouts, and what launching kernels costs.

Each way's marginals stand beside the bound at the fastest plain forward in the same precision.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmarks.cases import BenchCase
from benchmarks.flips import Flips, clock_for, rate_of, share_of_bound
from benchmarks.operations import Operations

LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
EAGER, GRAPH, COMPILED = "eager", "CUDA graph", "torch.compile"
_WARM = 3  # forwards before a CUDA graph is captured: libraries choose their kernels


def precisions(device: str, bfloat16: bool) -> tuple[str, ...]:
    """What is measured on "cpu" or "cuda"."""
    return ("float32", *(["TF32"] if device == "cuda" else []), *(["bfloat16"] if bfloat16 else []))


def measure(
    case: BenchCase, game: Any, batch: Any, counted: Operations, plain_batch: int, bfloat16: bool, compiled: bool,
    seconds: float, say: Callable[[str], None],
) -> list[dict[str, Any]]:  # fmt: skip
    """One record per precision and layout: plain forwards by each form, and single flips, evaluations per second.

    Args:
        game, batch: that is flipped in, and on what images.
        plain_batch: images of a plain forward.
        bfloat16: the network runs in it, here.
        compiled: measure torch.compile's forward, too: compiling takes up to a minute.
        seconds: for each figure.
    """
    pixels = case.base.images(np.arange(min(plain_batch, len(case.base.objective))))
    found, clock = [], clock_for(case.device)
    for precision in precisions(case.device, bfloat16):
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        rows: list[dict[str, Any]] = []
        for name, layout in LAYOUTS.items():
            say(f"{case.name}: {precision}, {name}")
            images = pixels.repeat(-(-plain_batch // len(pixels)), 1, 1, 1)[:plain_batch].to(dtype)
            images = images.contiguous(memory_format=layout)
            module = copy.deepcopy(case.module).to(dtype).to(memory_format=layout)
            with tf32(precision == "TF32"):
                plain = {form: rate_of(work, seconds, True, clock) for form, work in _forms(module, images, compiled)}
                flips = Flips(case, game.playing(case.network.lowered(dtype, layout)), batch)
                flips.chunk()
                timed = flips.timed(seconds, max(plain.values()))
            rows.append({"precision": precision, "layout": name, "plain": plain, "timed": timed})
        best = max(rate for row in rows for rate in row["plain"].values())
        for row in rows:
            share = share_of_bound([replace(row.pop("timed"), plain=best)], counted, counted.after)
            speed = share * best * counted.bound(counted.after)  # of all filters, whichever were flipped
            found.append(row | {"marginals": speed, "share_of_suffix_bound": share})
    return found


@contextmanager
def tf32(on: bool) -> Iterator[None]:
    """Within, convolutions and matrix products of a GPU may round float32 to TF32, or may not."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = on
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def _forms(module: torch.nn.Module, images: torch.Tensor, compiled: bool) -> Iterator[tuple[str, Callable[[], int]]]:
    def forward(run: Callable[[torch.Tensor], torch.Tensor] = module) -> int:
        with torch.inference_mode():
            run(images).argmax(-1).cpu()
        return len(images)

    yield EAGER, forward
    if images.is_cuda:
        graph, logits = _captured(module, images)

        def replay() -> int:
            graph.replay()
            logits.argmax(-1).cpu()
            return len(images)

        yield GRAPH, replay
    if compiled:
        made = torch.compile(module)
        yield COMPILED, lambda: forward(made)


def _captured(module: torch.nn.Module, images: torch.Tensor) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
    """A forward of these images as one graph of kernels, and where its logits lie."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.no_grad(), torch.cuda.stream(stream):
        for _ in range(_WARM):
            module(images)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        logits = module(images)
    return graph, logits
