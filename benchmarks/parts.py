"""The parts of the benchmark by name: each measures one case and gives one JSON-able result."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import foresight, hotspots, memory, quality, references, registry, scaling, throughput
from benchmarks.cases import open_case

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What the command line leaves to a part.

    Attributes:
        device: "cpu" or "cuda".
        size: "small" or "full".
        seconds: for each method of `quality`, for each figure of other parts; None = by size and device.
        methods: names of those measured by `quality`; None = all.
        reference: a file in the place of the case's own, of `quality`.
        variants, compiled, bfloat16: of `throughput`, see there.
    """

    device: str
    size: str = "small"
    seconds: float | None = None
    seed: int = 0
    methods: list[str] | None = None
    reference: Path | None = None
    variants: bool = False
    compiled: bool = False
    bfloat16: bool = True

    @classmethod
    def of(cls, args: argparse.Namespace) -> Options:
        get = vars(args).get
        return cls(
            args.device, args.size, get("seconds"), get("seed") or 0, get("method"), get("reference"),
            bool(get("variants")), bool(get("compiled")), not get("float32"),
        )  # fmt: skip

    def figure(self) -> float:
        """Seconds for a figure of a part about speed."""
        return self.seconds or {"small": 4.0, "full": 20.0}[self.size]


def measure_quality(name: str, options: Options, say: Say) -> dict[str, Any]:
    methods = registry.find(options.methods)
    case = open_case(name, options.device, say)
    seconds = options.seconds or quality.ALLOTMENT[options.size, options.device]
    known = references.load(case, options.reference) if options.reference else None
    return quality.measure(case, methods, seconds, options.seed, say, known)


def measure_throughput(name: str, options: Options, say: Say) -> dict[str, Any]:
    case = open_case(name, options.device, say)
    return throughput.measure(case, options.figure(), say, options.variants, options.compiled, options.bfloat16)


def measure_scaling(name: str, options: Options, say: Say) -> dict[str, Any]:
    case = open_case(name, options.device, say)
    return scaling.measure(case, options.figure(), say)


def measure_memory(name: str, options: Options, say: Say) -> dict[str, Any]:
    return memory.measure(open_case(name, options.device, say), say)


def measure_forecast(name: str, options: Options, say: Say) -> dict[str, Any]:
    return foresight.measure(open_case(name, options.device, say), {"small": 60.0, "full": 600.0}[options.size], say)


def measure_profile(name: str, options: Options, say: Say) -> dict[str, Any]:
    return hotspots.measure(open_case(name, options.device, say), options.figure(), say)


PARTS: dict[str, Callable[[str, Options, Say], dict[str, Any]]] = {
    "quality": measure_quality,
    "throughput": measure_throughput,
    "scaling": measure_scaling,
    "memory": measure_memory,
    "forecast": measure_forecast,
    "profile": measure_profile,
}
# What `all --size small` measures, to end within about 12 minutes on two cores; one part of one case has more time.
BRIEF: dict[str, tuple[str, ...]] = {
    "quality": ("resnet20",),
    "throughput": ("resnet20",),
    "scaling": ("resnet8",),
    "memory": ("stock_tags",),
    "profile": ("resnet20",),
}
BRIEF_SECONDS = 20.0  # for each method of `quality`
NEED_REAL = ("quality", "forecast")  # parts that random weights say nothing about
TIMED = ("quality", "throughput", "scaling", "profile")  # parts that can be told how long
