"""How units are spread over the network's sites, its kinds of units and its blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np

from repair_engine.case.case import Case
from repair_engine.case.inspection import kinds_of
from repair_engine.network import Network
from repair_engine.studies.arrays import HistogramRecord, histogram
from repair_engine.studies.explain_curves import kind_of_units


class Spread(TypedDict):
    """How many of the k most and the k least critical of so many units there are, and how many chance gives them."""

    filters: int
    most: int
    least: int
    expected: float


class LayerRow(Spread):
    """Of one site."""

    site: str
    kind: str


class OfKind(TypedDict):
    """One kind of units, with its share of the network's parameters and the histogram of its values."""

    kind: str
    parameter_share: float
    histogram: HistogramRecord


class KindRow(Spread, OfKind):
    """The same of one kind."""


class BlockRow(Spread):
    """Of one kind in one block of the network."""

    block: str
    kind: str


def layers(case: Case, order: np.ndarray, k: int) -> list[LayerRow]:
    """How the k most and the k least critical units are spread over the sites, in the order of computation."""
    network = case.subject.network
    spread = _spread(network, order, k, list(range(len(network.sites))))
    return [{"site": s.name, "kind": s.kind, **one} for s, one in zip(network.sites, spread.values(), strict=True)]


def kinds(case: Case, order: np.ndarray, k: int, scores: np.ndarray) -> list[KindRow]:
    """The same by kind of unit."""
    network = case.subject.network
    spread = _spread(network, order, k, [s.kind for s in network.sites])
    return [{**row, **spread[row["kind"]]} for row in values_by_kind(network, scores)]


def values_by_kind(network: Network, scores: np.ndarray) -> list[OfKind]:
    """Of each kind, in the order of `kinds_of`.

    Args:
        scores: what units are ranked by, [n].
    """
    of_units = kind_of_units(network)
    return [
        {"kind": kind, "parameter_share": row["parameter_share"], "histogram": histogram(scores[of_units == kind])}
        for kind, row in kinds_of(network).items()
    ]


def blocks(case: Case, order: np.ndarray, k: int) -> list[BlockRow]:
    """The same by block and kind, in the order of computation."""
    network = case.subject.network
    spread = _spread(network, order, k, [(block_of(s.name), s.kind) for s in network.sites])
    return [{"block": block, "kind": kind, **one} for (block, kind), one in spread.items()]


def block_of(site: str) -> str:
    """The numbered part of the network that holds a layer: `layer4.1` of `layer4.1.conv2`; else what it is part of."""
    parts = site.split(".")
    numbered = [i for i, part in enumerate(parts[:-1], 1) if part[-1:].isdigit()]
    return ".".join(parts[: numbered[-1] if numbered else max(1, len(parts) - 1)])


def _spread(network: Network, order: np.ndarray, k: int, group: Sequence[Any]) -> dict[Any, Spread]:
    """Of the groups that sites belong to, in their order."""
    most, least = (np.bincount(network.site_of(p), minlength=len(network.sites)) for p in (order[:k], order[-k:]))
    found: dict[Any, Spread] = {}
    for i, (site, name) in enumerate(zip(network.sites, group, strict=True)):
        row = found.setdefault(name, {"filters": 0, "most": 0, "least": 0, "expected": 0.0})
        row["filters"] += site.channels
        row["most"] += int(most[i])
        row["least"] += int(least[i])
        row["expected"] = k * row["filters"] / network.n_filters
    return found
