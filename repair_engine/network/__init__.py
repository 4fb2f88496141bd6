"""The classifier as a flat graph cut at its filters' sites."""

import torch

from repair_engine.network.constants import CONSTANTS, constant_of, stored_constants
from repair_engine.network.network import Network, predictions
from repair_engine.network.reuse import Trail, flipped_logits
from repair_engine.network.sites import NotAPlayer, Site

__all__ = [
    "CONSTANTS",
    "Network",
    "NotAPlayer",
    "Site",
    "Trail",
    "constant_of",
    "flipped_logits",
    "predictions",
    "stored_constants",
]

# What is valued must be what a plain float32 forward gives; TF32 rounds a GPU's convolutions to 10 bits.
torch.backends.cudnn.allow_tf32 = False
torch.backends.cuda.matmul.allow_tf32 = False
