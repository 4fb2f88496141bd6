"""The classifier as a flat graph cut at its filters' sites."""

from repair_engine.network.constants import stored_constants
from repair_engine.network.network import Network, Trail, predictions, toggled_logits
from repair_engine.network.sites import NotAPlayer, Site

__all__ = ["Network", "NotAPlayer", "Site", "Trail", "predictions", "stored_constants", "toggled_logits"]
