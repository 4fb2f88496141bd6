"""What fits into the memory that a run may take: one option for stored states, forwards, gradients and curves.

Sizes of batches follow from it. They decide how long things take and not what comes out: every image's figures are
its own, and what is summed over images is summed in the same order.
"""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass

from repair_engine.errors import BadInput
from repair_engine.support.progress import BATCH
from repair_engine.support.words import byte_size

DEFAULT = 2 << 30  # bytes, on a CPU
PROGRAM = 1000 << 20  # Python, torch, its compiler and the scratch of its kernels, whatever the images
_PER_WEIGHT = 3  # the checkpoint's tensors, the module's, the graph's
# × what tensors hold at once: kernels' scratch and pieces that the allocator keeps. Measured on SqueezeNet, Swin-T,
# ConvNeXt-Tiny and ViT-B/16 at 224 px; benchmarks/tables/memory-*.md hold it against the process.
KERNELS = 2.2
_REDUCED = 2.5  # × the largest state: its output in float64
_BACKWARD = 1.6  # × what a backward holds
# Shares of what the program leaves. The allocator keeps what is freed, so pieces of several kinds stand side by side.
_OF_GAME, _OF_FORWARD, _OF_BACKWARD = 0.4, 0.4, 0.25
_LEAST_IMAGES = 2  # convolutions of a single image are computed another way, and rounded otherwise
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_memory(text: str) -> int:
    """Bytes of `2G`, `1500M` or a plain number. Raises BadInput."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", text, re.IGNORECASE)
    if found is None:
        raise BadInput(f"{text!r} is no size.", "Give for example 2G or 1500M.", "memory")
    return check_memory(int(float(found[1]) * _UNITS[found[2].upper()]))


def check_memory(size: int) -> int:
    """The size, if a run can begin with it. Raises BadInput."""
    if size < PROGRAM:
        raise BadInput(
            f"It is {byte_size(size)}; the program itself takes {byte_size(PROGRAM)}.", "Give 2G or more.", "memory"
        )
    return size


@dataclass(frozen=True)
class Footprint:
    """Bytes of one image.

    Attributes:
        states: before each segment.
        forward: of all tensors that live at once, at most, where a site is masked and the next segment runs.
        backward: the same where the masks' gradients are taken of the whole network.
    """

    states: tuple[int, ...]
    forward: int
    backward: int

    @property
    def largest(self) -> int:
        return max(self.states)


@dataclass(frozen=True)
class Room:
    """How much at once.

    Attributes:
        game: bytes for `NeuronGame`; None = its own default.
        plain: images of a plain forward.
        reducing: images of a forward of which every site's output is reduced in float64.
        along: images whose states are stored while filters are removed one after the other, and bytes for these.
        backward: images of a forward with its backward.
    """

    game: int | None
    plain: int
    reducing: int
    along: int
    stored: int
    backward: int

    @classmethod
    def of(cls, memory: int | None, on_cpu: bool, weights: int, one: Footprint) -> Room:
        """
        Args:
            memory: bytes for the whole process (on a GPU: for what lies there); None = 2 GiB on a CPU, and on a GPU a
                quarter of it.
            weights: bytes of the network's.
            one: of one image.

        Raises:
            BadInput: not even two images fit.
        """
        if memory is None and not on_cpu:
            return cls(None, BATCH, BATCH, BATCH, DEFAULT, 1 << 20)
        memory = DEFAULT if memory is None else memory
        fixed = _PER_WEIGHT * weights + (PROGRAM if on_cpu else 0)
        total, plain, backward = sum(one.states), KERNELS * one.forward, _BACKWARD * one.backward
        reducing, along = plain + _REDUCED * one.largest, plain + total
        least = fixed + int(_LEAST_IMAGES * max(max(reducing, along) / _OF_FORWARD, backward / _OF_BACKWARD))
        if memory < least:
            enough = -(-least // (100 << 20)) * 100
            raise BadInput(
                f"--memory is {byte_size(memory)}: this network with images of this size takes {byte_size(least)}.",
                f"Give --memory {enough}M or more, or smaller images (--resize, --crop).",
            )
        left = memory - fixed

        def images(each: float) -> int:
            return int(min(max(_OF_FORWARD * left // each, _LEAST_IMAGES), BATCH))

        return cls(
            game=int(_OF_GAME * left),
            plain=images(plain),
            reducing=images(reducing),
            along=images(along),
            stored=images(along) * total,
            backward=int(max(_OF_BACKWARD * left // backward, _LEAST_IMAGES)),
        )


def give_back() -> None:
    """Has glibc give freed memory back, between parts of a run that need pieces of other sizes."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return
