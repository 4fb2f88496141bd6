"""What fits into the memory that a run may take: one option for stored states, forwards, gradients and curves.

Sizes of batches follow from it. They decide how long things take and not what comes out: every image's figures are
its own, and what is summed over images is summed in the same order.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from dataclasses import dataclass

from repair_engine.errors import BadInput
from repair_engine.support.progress import BATCH
from repair_engine.support.words import byte_size

DEFAULT = 2 << 30  # bytes, on a CPU
PROGRAM = 1000 << 20  # Python, torch, its compiler and the scratch of its kernels, whatever the images
_PER_WEIGHT = 3  # the checkpoint's tensors, the module's, the graph's
# Bytes an image takes, in its largest state or in all its states: measured on SqueezeNet at 224 px, rounded up.
_FORWARD, _REDUCING = 5, 6  # × the largest
_STORED, _BACKWARD = 1.6, 4  # × all
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
    def of(cls, memory: int | None, on_cpu: bool, weights: int, states: Sequence[int]) -> Room:
        """
        Args:
            memory: bytes for the whole process (on a GPU: for what lies there); None = 2 GiB on a CPU, and on a GPU a
                quarter of it.
            weights: bytes of the network's.
            states: bytes of one image's state at each cut.

        Raises:
            BadInput: not even two images fit.
        """
        if memory is None and not on_cpu:
            return cls(None, BATCH, BATCH, BATCH, DEFAULT, 1 << 20)
        memory = DEFAULT if memory is None else memory
        fixed = _PER_WEIGHT * weights + (PROGRAM if on_cpu else 0)
        largest, total = max(states), sum(states)
        least = fixed + int(_LEAST_IMAGES * max(_REDUCING * largest / _OF_FORWARD, _BACKWARD * total / _OF_BACKWARD))
        if memory < least:
            enough = -(-least // (100 << 20)) * 100
            raise BadInput(
                f"--memory is {byte_size(memory)}: this network with images of this size takes {byte_size(least)}.",
                f"Give --memory {enough}M or more, or smaller images (--resize, --crop).",
            )
        left = memory - fixed

        def images(each: float) -> int:
            return int(min(max(_OF_FORWARD * left // each, _LEAST_IMAGES), BATCH))

        along = images(_STORED * total)
        return cls(
            game=int(_OF_GAME * left),
            plain=images(_FORWARD * largest),
            reducing=images(_REDUCING * largest),
            along=along,
            stored=along * total,
            backward=int(max(_OF_BACKWARD * left // (_BACKWARD * total), _LEAST_IMAGES)),
        )


def give_back() -> None:
    """Has glibc give freed memory back, between parts of a run that need pieces of other sizes."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return
