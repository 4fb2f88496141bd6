"""The classifier as a flat graph cut at its filters' sites."""

from repair_engine.network.constants import CONSTANTS, constant_of, stored_constants
from repair_engine.network.network import Network, check_finite, predictions
from repair_engine.network.places import Grid, grids
from repair_engine.network.responses import Responses
from repair_engine.network.reuse import Trail, flipped_logits
from repair_engine.network.sites import NotAPlayer, Site

__all__ = [
    "CONSTANTS",
    "Grid",
    "Network",
    "NotAPlayer",
    "Responses",
    "Site",
    "Trail",
    "check_finite",
    "constant_of",
    "flipped_logits",
    "grids",
    "predictions",
    "stored_constants",
]
