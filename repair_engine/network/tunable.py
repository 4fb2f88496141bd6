"""Which tensors of a state dict may be tuned, by what they do in the graph: biases and norm affines, the last layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from repair_engine.network.graph import BATCH_NORM, PASS_THROUGH, RESHAPES, FlatGraph, aten
from repair_engine.network.linear import LINEAR
from repair_engine.network.sites import CONVOLUTIONS, argument, is_logits, tensor_uses

# Operator -> positions of its weight and bias.
_NORMS: dict[Any, tuple[int, ...]] = {
    BATCH_NORM: (1, 2),
    aten.group_norm.default: (2, 3),
    aten.layer_norm.default: (2, 3),
    aten.instance_norm.default: (1, 2),
    aten.rms_norm.default: (2,),
}
_WITH_BIAS = CONVOLUTIONS | {
    LINEAR, aten.conv1d.default, aten.conv1d.padding, aten.conv3d.default, aten.conv3d.padding,
    aten.conv_transpose2d.input,
}  # fmt: skip


@dataclass(frozen=True)
class Head:
    """The layer whose outputs are the logits.

    Attributes:
        weight, bias: keys of its tensors (bias "" if it has none).
        linear: the logits are its outputs as they are; else something lies between (a mean over positions, a ReLU).
    """

    weight: str
    bias: str
    linear: bool

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.weight, self.bias) if self.bias else (self.weight,)


@dataclass(frozen=True)
class Tunable:
    """Keys of the state dict, in the graph's order; statistics of norms are none of them.

    Attributes:
        biases: biases of layers, weights and biases of norms.
        weights: every tensor of numbers that a prediction reads.
        head: the last layer, or why there is none to refit.
        shared: keys that several operators read: one change would show at several places, so they are in `weights`
            alone.
    """

    biases: tuple[str, ...]
    weights: tuple[str, ...]
    head: Head | str
    shared: tuple[str, ...]


def tunable(graph: FlatGraph) -> Tunable:
    """What of a captured network may be tuned."""
    uses = tensor_uses(graph)
    real = {graph.names[p]: t.is_floating_point() for p, t in graph.tensors.items() if graph.names[p]}
    norms = [node for node in graph.nodes if node.target is BATCH_NORM]
    fixed = {graph.names.get(a, "") for n in norms for a in n.args[3:5] if isinstance(a, fx.Node)}
    read = dict.fromkeys(graph.names[a] for n in graph.nodes for a in n.all_input_nodes if graph.names.get(a))
    weights = tuple(key for key in read if real[key] and key not in fixed)
    biases = tuple(dict.fromkeys(key for node in graph.nodes for key in _biases(graph, node)))
    shared = tuple(key for key in weights if uses[key] > 1)
    return Tunable(
        tuple(key for key in biases if key in weights and key not in shared), weights, _head(graph, shared), shared
    )


def _biases(graph: FlatGraph, node: fx.Node) -> Iterator[str]:
    def key(given: Any) -> str:
        return graph.names.get(given, "") if isinstance(given, fx.Node) else ""

    target: Any = node.target
    for place in _NORMS.get(target, (2,) if target in _WITH_BIAS else ()):
        if len(node.args) > place and key(node.args[place]):
            yield key(node.args[place])
    if node.target is aten.add.Tensor:  # of a product of matrices
        for given, other in (node.args[:2], node.args[1::-1]):
            if isinstance(given, fx.Node) and key(given) and isinstance(other, fx.Node) and other not in graph.names:
                tensor = graph.tensors[given]
                if tensor.numel() == max(tensor.shape, default=1):
                    yield key(given)


def _head(graph: FlatGraph, shared: tuple[str, ...]) -> Head | str:
    """The last layer whose outputs are the logits, or why none can be refitted."""
    shape = graph.logits.meta["val"].shape
    classes = int(shape[1]) if len(shape) == 2 else 1
    for node in reversed(graph.nodes):
        if node.target not in CONVOLUTIONS | {LINEAR} or not is_logits(graph, node, classes):
            continue
        weight, bias = argument(node, 1, "weight"), argument(node, 2, "bias")
        keys = [graph.names.get(weight, ""), "" if bias is None else graph.names.get(bias, "")]
        if not keys[0] or (bias is not None and not keys[1]):
            return "the last layer's weight is computed from others (a parametrization), so it cannot be written"
        if any(key in shared for key in keys):
            return f"{keys[0]}, the last layer's weight or bias, is shared with another part of the network"
        return Head(keys[0], keys[1], node.target is LINEAR and _reaches_logits_as_it_is(graph, node))
    return "the logits do not come from a linear layer or a convolution of its own"


def _reaches_logits_as_it_is(graph: FlatGraph, node: fx.Node) -> bool:
    while node is not graph.logits:
        if len(node.users) != 1:
            return False
        (node,) = node.users
        if node.target not in PASS_THROUGH | RESHAPES:
            return False
    return True


def rows_of(tensor: torch.Tensor) -> int:
    """How many units' rows a tensor has: its length along the first dimension, 1 of a number."""
    return len(tensor) if tensor.dim() else 1
