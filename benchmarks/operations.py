"""Multiply-accumulates of a network, and of what a change of one unit makes necessary to compute anew.

Counted on torch.export's graph of the ordinary module, from the shapes: convolutions, matrix products and attention,
nothing else. It knows nothing of how the engine cuts the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.engine import Network


@dataclass(frozen=True)
class Operations:
    """Per image.

    Attributes:
        full: of a whole forward.
        after: float64 [n], for each filter all that comes after its convolution in the order of computation.
        dependent: float64 [n], for each filter what depends on it; less than `after` where branches run side by side.
        one_channel: float64 [n], `after`, where what reads the changed channel alone computes that channel only.
        traffic: float64 [n], bytes that the operations of `after` read and write if each float32 moves once.
    """

    full: float
    after: np.ndarray
    dependent: np.ndarray
    one_channel: np.ndarray
    traffic: np.ndarray

    def bound(self, of: np.ndarray, players: np.ndarray | None = None) -> float:
        """How many times cheaper than full forwards single flips of `players` (default: all) can be."""
        chosen = of if players is None else of[players]
        return self.full * len(chosen) / float(chosen.sum())

    def seconds(self, of: np.ndarray, players: np.ndarray, plain: float) -> float:
        """That flips of `players` on one image take at the least, where `plain` full forwards are done in a second."""
        return float(of[players].sum()) / (self.full * plain)


def count(module: torch.nn.Module, image: torch.Tensor, network: Network) -> Operations:
    """Operations of `module` in eval mode on one normalized image [1, C, H, W], for the filters of `network`."""
    with torch.no_grad():
        program = torch.export.export(module, (image.repeat(2, 1, 1, 1),)).run_decompositions({})
    names = program.graph_signature.inputs_to_parameters | program.graph_signature.inputs_to_buffers
    nodes = list(program.graph.nodes)
    macs = np.array([_macs(node) for node in nodes]) / 2  # the example is two images
    moved = np.array([_bytes(node) if cost else 0.0 for node, cost in zip(nodes, macs, strict=True)]) / 2
    index = {node: i for i, node in enumerate(nodes)}
    after_of, dependent_of, one_channel_of, traffic_of = {}, {}, {}, {}
    for node in nodes:
        if _has_weight(node):
            name = names.get(_weight(node).name, "").removesuffix(".weight").removesuffix(".in_proj_weight")
            after_of[name] = float(macs[index[node] + 1 :].sum())
            traffic_of[name] = float(moved[index[node] + 1 :].sum())
            later = sorted(_descendants(node, index))
            dependent_of[name] = float(macs[later].sum())
            spared = _spared(node, [nodes[i] for i in later], macs[later]) if _convolves(node) else 0.0
            one_channel_of[name] = after_of[name] - spared
    channels = [site.channels for site in network.sites]
    site_names = [site.name for site in network.sites]
    each = (after_of, dependent_of, one_channel_of, traffic_of)
    return Operations(float(macs.sum()), *(np.repeat([of[name] for name in site_names], channels) for of in each))


def _convolves(node: torch.fx.Node) -> bool:
    return node.op == "call_function" and "conv" in str(node.target) and not isinstance(node.args[1], int)


def _weight(node: torch.fx.Node) -> torch.fx.Node | None:
    """The weight of a convolution or a linear layer."""
    if _convolves(node):
        return node.args[1]
    linear = node.op == "call_function" and "aten.linear" in str(node.target)
    return node.args[1] if linear else None


def _has_weight(node: torch.fx.Node) -> bool:
    return _weight(node) is not None


def _macs(node: torch.fx.Node) -> float:
    """Multiply-accumulates of one node, from the shapes in its metadata."""
    if node.op != "call_function":
        return 0.0
    name = str(node.target)
    if _convolves(node):
        weight = node.args[1].meta["val"].shape  # [out, in / groups, ...]
        return float(node.meta["val"].numel() * np.prod(weight[1:]))
    if "scaled_dot_product_attention" in name:  # weights from queries and keys, and the mixing of values
        query, key, value = (node.args[i].meta["val"].shape for i in range(3))
        return float(np.prod(query[:-1]) * key[-2] * (query[-1] + value[-1]))
    if any(kind in name for kind in ("aten.linear", "aten.addmm", "aten.mm", "aten.bmm", "aten.matmul")):
        operands = [a for a in node.args if isinstance(a, torch.fx.Node)]
        first = operands[1] if "addmm" in name else operands[0]
        return float(node.meta["val"].numel() * first.meta["val"].shape[-1])
    return 0.0


def _bytes(node: torch.fx.Node) -> float:
    """Of float32 activations that an operation reads and writes; weights are shared by many images and not counted."""
    sizes = [a.meta["val"].numel() for a in node.all_input_nodes if a.op != "placeholder"]
    return 4.0 * (sum(sizes) + node.meta["val"].numel())


def _spared(node: torch.fx.Node, later: Sequence[torch.fx.Node], macs: np.ndarray) -> float:
    """Operations on channels that one filter of `node` leaves as they were, of those `later` that depend on it.

    Args:
        macs: of `later`, which is in the order of computation.
    """
    one, spread, spared = {node}, set(), 0.0  # nodes of which one channel changes, and of which all may
    for user, cost in zip(later, macs, strict=True):
        inputs = set(user.all_input_nodes)
        if cost and not inputs & spread:
            (changed,) = inputs & one
            spared += cost * (1 - 1 / changed.meta["val"].shape[1]) if _convolves(user) else 0.0
        (spread if cost or inputs & spread else one).add(user)
    return spared


def _descendants(node: torch.fx.Node, index: dict[torch.fx.Node, int]) -> Sequence[int]:
    seen: set[torch.fx.Node] = set()
    left = list(node.users)
    while left:
        user = left.pop()
        if user not in seen:
            seen.add(user)
            left.extend(user.users)
    return [index[user] for user in seen]
