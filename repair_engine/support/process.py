"""What a process that computes is set to, once and by whoever starts it: importing the engine changes nothing."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
from collections.abc import Iterator

_done = False


def prepare_process() -> None:
    """Sets up this process to compute fast and with the same figures everywhere; again it does nothing.

    Called by the command line, workers, the child that verifies and the Python API.
    """
    global _done
    if _done:
        return
    _done = True
    if "torch" not in sys.modules:
        os.environ.update({name: value for name, value in OPENMP.items() if name not in os.environ})
    with importing():
        import torch

    # What is valued must be what a plain float32 forward gives; TF32 rounds a GPU's convolutions to 10 bits.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    if sys.platform == "linux":
        _keep_memory()


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Puts the collection of garbage off while large libraries are imported: it goes through all that they make, again
    and again, and finds next to nothing."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


# OpenMP's threads wait for each other by spinning unless told otherwise; where anything else runs on the same cores
# that made two threads up to ten times slower than one. It is read when torch is loaded.
OPENMP = {"OMP_WAIT_POLICY": "PASSIVE"}


def _keep_memory() -> None:
    """Has glibc keep freed tensors' memory for the next ones, where this is glibc.

    By default every tensor of more than 32 MB is mapped anew and given back, and each of its pages faulted in: at
    224 px on a CPU that took as long as the computing.
    """
    mmap_max, trim_threshold = -4, -1  # malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
