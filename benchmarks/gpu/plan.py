"""What is measured on a GPU, in the order of what it is worth: steps that each end by themselves, or are ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = (
    "tests/repair_engine/search/test_gpu.py",
    "tests/repair_engine/network/test_units.py",
    "tests/repair_engine/network/test_network_families.py",
)
SPEED = ("resnet20", "squeezenet1_0", "inception_v3", "resnet50", "vit_b_16")
PARTS = ("tests", "throughput", "memory", "profile", "quality", "reference")
_TINY, _SAMPLE = "squeezenet1_1", "stock_tags"  # at size tiny: random weights at 32 px; the sample, with its reference
_REFERENCE = "squeezenet1_0"
_METHODS = ("fast", "authors' loop", "captum ShapleyValueSampling", "shapiq PermutationSamplingSV", "shapiq SVARM")


@dataclass(frozen=True)
class Step:
    """One process.

    Attributes:
        name: its key among the results.
        part: of `PARTS`.
        arguments: of the interpreter.
        most: seconds after which it is ended.
    """

    name: str
    part: str
    arguments: tuple[str, ...]
    most: float


def steps(device: str, size: str, out: Path, done: Mapping[str, Any]) -> list[Step]:
    """All steps, in their order.

    Args:
        done: results so far: the slowest case of `throughput` is the one that is profiled.
    """
    tiny = size == "tiny"
    patience = 3.0 if tiny else 1.0  # a CPU that others use, too
    quick = "0.05" if tiny else "0.5"  # seconds for a figure

    def step(part: str, case: str, most: float, *more: str) -> Step:
        arguments = ("-m", "benchmarks", part, "--case", case, "--device", device, *more)
        return Step(f"{part} {case}", part, arguments, patience * most)

    marked = "device and not slow"
    only = ("-k", "same_bits_twice or shared") if tiny else ()
    pytest = ("-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", "-q", "-rf", "-m", marked, *only)
    pytest += ("--torch-device", device, f"--junitxml={out / 'tests.xml'}", *TESTS)
    tests = Step("tests", "tests", pytest, patience * 110)
    cases = (_TINY,) if tiny else SPEED
    speed = [
        step("throughput", case, 60, "--json", "--variants", "--seconds", quick)
        if tiny or case != "resnet20"
        else step("throughput", case, 100, "--json", "--variants", "--compiled", "--seconds", quick)
        for case in cases
    ]
    memory = [step("memory", case, 40, "--json") for case in ((_TINY,) if tiny else ("squeezenet1_0", "inception_v3"))]
    profile = [step("profile", worst(done, cases), 40, "--json", "--seconds", "0.2" if tiny else "3")]
    known = _SAMPLE if tiny else "resnet20"
    methods = [part for name in (_METHODS[:2] if tiny else _METHODS) for part in ("--method", name)]
    took = "1" if tiny else "10"
    quality = step("quality", known, 120, "--json", "--seconds", took, *methods)
    valued = _SAMPLE if tiny else _REFERENCE
    path = out / f"{valued}.npz"
    reference = step("reference", valued, 150, "--minutes", "0.02" if tiny else "1.5", "--path", str(path))
    against = step("quality", _REFERENCE, 150, "--json", "--seconds", took, "--reference", str(path), *methods)
    return [tests, *speed, *memory, *profile, quality, reference, *([] if tiny else [against])]


def worst(done: Mapping[str, Any], cases: tuple[str, ...]) -> str:
    """The case of the lowest share of the suffix bound, in the best of its variants; the first while none is known."""
    shares = {
        case: max(row["share_of_suffix_bound"] for row in found["results"][0]["variants"])
        for case in cases
        if "results" in (found := done.get(f"throughput {case}", {}))
    }
    return min(shares, key=lambda case: shares[case]) if shares else cases[0]
