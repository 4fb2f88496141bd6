"""All units of a network that can be ablated and written back exactly, and all layers that have none."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from repair_engine.network.graph import FlatGraph
from repair_engine.network.heads import find_heads
from repair_engine.network.hidden import find_hidden
from repair_engine.network.sites import KINDS, NotAPlayer, Site, find_filters


def find_units(
    graph: FlatGraph, dtypes: Mapping[str, torch.dtype] | None = None, units: str = "all"
) -> tuple[tuple[Site, ...], tuple[NotAPlayer, ...]]:
    """The sites in the order of computation, and the layers of the asked kinds without one, with the reason.

    A linear layer whose outputs are the logits, or terms of them, is not named: every network has one.

    Args:
        dtypes: key of the state dict -> dtype in the file; None = float32.
        units: "filters", "hidden", "heads" or "all".
    """
    sites: list[Site] = []
    others: list[NotAPlayer] = []
    if units in ("all", KINDS["filter"]):
        found, refused = find_filters(graph, dtypes)
        sites.extend(found)
        others.extend(refused)
    heads, no_heads = find_heads(graph, dtypes) if units != KINDS["filter"] else ({}, {})
    if units in ("all", KINDS["hidden"]):
        hidden, no_hidden = find_hidden(graph, dtypes)
        sites.extend(hidden.values())
        others.extend(one for linear, one in no_hidden.items() if linear not in heads and linear not in no_heads)
    if units in ("all", KINDS["head"]):
        sites.extend(heads.values())
        others.extend(no_heads.values())
    return tuple(sorted(sites, key=lambda site: site.position)), tuple(others)
