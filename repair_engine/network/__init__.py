"""The classifier as a flat graph cut at its filters' sites."""

import ctypes
import sys

import torch

from repair_engine.network.constants import CONSTANTS, constant_of, stored_constants
from repair_engine.network.network import Network, check_finite, predictions
from repair_engine.network.responses import Responses
from repair_engine.network.reuse import Trail, flipped_logits
from repair_engine.network.sites import NotAPlayer, Site

__all__ = [
    "CONSTANTS",
    "Network",
    "NotAPlayer",
    "Responses",
    "Site",
    "Trail",
    "check_finite",
    "constant_of",
    "flipped_logits",
    "predictions",
    "stored_constants",
]

# What is valued must be what a plain float32 forward gives; TF32 rounds a GPU's convolutions to 10 bits.
torch.backends.cudnn.allow_tf32 = False
torch.backends.cuda.matmul.allow_tf32 = False


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


if sys.platform == "linux":
    _keep_memory()
