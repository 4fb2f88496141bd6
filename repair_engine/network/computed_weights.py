"""Convolutions whose weights are computed from parameters on the way (weight standardization, with a gain or without).

timm's ScaledStdConv2d (nf_*, https://arxiv.org/abs/2101.08692) and StdConv2d (BiT, https://arxiv.org/abs/1903.10520)
standardize each row of the weight and multiply it by a gain. A filter is ablated by a row of zeros in the gain, or in
the weight itself where there is none: a row of equal numbers is standardized to zeros. That is exact where the computed
row becomes zero and no other row changes; both are looked at here, with the very tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from repair_engine.network.graph import FlatGraph, is_number


@dataclass(frozen=True)
class Computed:
    """Where a computed weight comes from.

    Attributes:
        weight: key of the raw weight.
        zeroed: key of the tensor whose row of zeros makes the computed row zero: the gain, else the raw weight.
    """

    weight: str
    zeroed: str


def source_of(graph: FlatGraph, weight: fx.Node, uses: Mapping[str, int]) -> Computed | None:
    """The parameters behind a convolution's computed weight; None where no row of theirs fixes a row of it.

    Args:
        uses: key of the state dict -> how many operators read it.
    """
    chain = _chain(graph, weight)
    if chain is None:
        return None
    leaves = {a for node in chain for a in node.all_input_nodes if graph.names.get(a)}
    rows, size = int(weight.meta["val"].shape[0]), weight.meta["val"].numel()
    raw = [leaf for leaf in leaves if graph.tensors[leaf].numel() == size]
    if len(raw) != 1 or uses[graph.names[raw[0]]] != len(_readers(chain, raw[0])):
        return None
    gains = [
        n for n in leaves if n is not raw[0] and graph.tensors[n].shape[:1] == (rows,) and uses[graph.names[n]] == 1
    ]
    for leaf in (*gains, raw[0]):
        if graph.tensors[leaf].shape[:1] == (rows,) and _is_exact(graph, chain, weight, leaf):
            return Computed(graph.names[raw[0]], graph.names[leaf])
    return None


def _chain(graph: FlatGraph, weight: fx.Node) -> list[fx.Node] | None:
    """The operators that compute a weight, in order; None where they see the images or there are none."""
    wanted: set[fx.Node] = {weight}
    frontier = [weight]
    while frontier:
        node = frontier.pop()
        if node is graph.image or (node.op == "placeholder" and node not in graph.tensors):
            return None
        for one in node.all_input_nodes:
            if one not in wanted:
                wanted.add(one)
                frontier.append(one)
    found = [node for node in graph.nodes if node in wanted]
    return None if not found or any(is_number(node) for node in found) else found


def _readers(chain: list[fx.Node], leaf: fx.Node) -> list[fx.Node]:
    return [node for node in chain if leaf in node.all_input_nodes]


def _is_exact(graph: FlatGraph, chain: list[fx.Node], weight: fx.Node, leaf: fx.Node) -> bool:
    """Whether zeros in some rows of a parameter give zeros in these rows of the weight, and nothing else elsewhere."""
    intact = _computed(graph, chain, weight, {})
    for first in (0, 1):
        gone = torch.zeros(len(intact), dtype=torch.bool, device=intact.device)
        gone[first::2] = True
        tensor = graph.tensors[leaf].clone()
        tensor[gone] = 0
        now = _computed(graph, chain, weight, {leaf: tensor})
        if now[gone].any() or not torch.equal(now[~gone], intact[~gone]):
            return False
    return True


@torch.no_grad()
def _computed(
    graph: FlatGraph, chain: list[fx.Node], weight: fx.Node, instead: Mapping[fx.Node, torch.Tensor]
) -> torch.Tensor:
    values: dict[fx.Node, Any] = {**graph.tensors, **instead}
    for node in chain:
        args: Any = fx.node.map_arg(node.args, lambda n: values[n])
        kwargs: Any = fx.node.map_arg(node.kwargs, lambda n: values[n])
        target: Any = node.target
        values[node] = target(*args, **kwargs)
    return values[weight]
