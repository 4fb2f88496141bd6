"""Where a removed channel went: through the flat graph to the layers that read it, with the constant that it carried.

A cut is {place along dimension 1: the constant there}. Along operators that keep channels apart it is followed; a
convolution or a linear layer ends it: its input slices go, and what the constants gave it goes into its bias. That is
exact but for zero padding, where a border position saw zeros in the place of the constant.
"""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from repair_engine.network.activations import Activation, is_activation
from repair_engine.network.graph import BATCH_NORM, KEEPS_CONSTANTS, RESHAPES, FlatGraph, aten, is_number
from repair_engine.network.sites import CONVOLUTIONS

Cut = dict[int, float]

_KEEPS = KEEPS_CONSTANTS | {aten.avg_pool2d.default}
_MEANS = {aten.mean.dim, aten.amax.default}
_NAMED = {
    aten.add.Tensor: "a sum (a residual connection)",
    aten.add_.Tensor: "a sum (a residual connection)",
    aten.mul.Tensor: "a product (such as squeeze-and-excitation)",
}
_GROUPS = {aten.convolution.default: 8}  # argument; 6 in the others


class CannotCut(Exception):
    """Why channels cannot be removed."""


@dataclass
class Followed:
    """What has to go.

    Attributes:
        columns: a convolution's or linear layer's prefix -> input places that go, with their constants.
        rows: a batch norm's prefix -> places that go.
    """

    columns: dict[str, Cut] = field(default_factory=dict)
    rows: dict[str, set[int]] = field(default_factory=dict)


def groups_of(conv: fx.Node) -> int:
    """Groups of a convolution's node."""
    target: Any = conv.target
    position = _GROUPS.get(target, 6)
    return int(conv.args[position] if len(conv.args) > position else conv.kwargs.get("groups", 1))  # type: ignore[arg-type]


def follow(graph: FlatGraph, starts: Mapping[fx.Node, Cut], tensors: Mapping[str, torch.Tensor]) -> Followed:
    """Follows cuts from the sites' own nodes on.

    Args:
        starts: a site's node -> its channels that go, with their constants.
        tensors: the checkpoint's, for what batch norms make of constants.

    Raises:
        CannotCut: a channel arrives where it cannot be taken out, naming the operator.
    """
    cuts: dict[fx.Node, Cut] = dict(starts)
    uses = Counter(graph.names[a] for node in graph.nodes for a in node.all_input_nodes if a in graph.names)
    found = Followed()

    def key_of(node: object, what: str) -> str:
        key = graph.names.get(node, "") if isinstance(node, fx.Node) else ""
        if not key or uses[key] > 1:
            raise CannotCut(f"{what} has no weights of its own to cut")
        return key

    for node in graph.nodes:
        if is_number(node) or node in starts or not any(i in cuts for i in node.all_input_nodes):
            continue
        source: Any = node.args[0]
        if node.target in CONVOLUTIONS or node.target is aten.linear.default:
            key = key_of(node.args[1], f"{node.name}")
            if source not in cuts or any(a in cuts for a in node.all_input_nodes if a is not source):
                raise CannotCut(f"it is among the weights of {key}")
            name = key.removesuffix(".weight")
            if node.target in CONVOLUTIONS and groups_of(node) > 1:
                raise CannotCut(f"it is read by the grouped convolution {name}")
            if node.target is aten.linear.default and len(source.meta["val"].shape) != 2:
                raise CannotCut(f"{name} reads it along another dimension than channels")
            found.columns[name] = cuts[source]
        elif node.target is BATCH_NORM:
            keys = [key_of(a, f"batch norm {node.name}") for a in node.args[1:5]]
            cut = cuts[source]
            gamma, beta, mean, var = (tensors[key].double() for key in keys)
            scale = gamma / torch.sqrt(var + float(node.args[6]))  # type: ignore[arg-type]
            cuts[node] = {c: float(scale[c] * (value - mean[c]) + beta[c]) for c, value in cut.items()}
            found.rows[keys[0].removesuffix(".weight")] = set(cut)
        else:
            cuts[node] = _passed(node, cuts)
    if graph.logits in cuts:
        raise CannotCut("it goes into the logits")
    return found


def _passed(node: fx.Node, cuts: Mapping[fx.Node, Cut]) -> Cut:
    """The cut behind an operator. Raises CannotCut."""
    source: Any = node.args[0]
    if node.target is aten.cat.default:
        return _concatenated(node, cuts)
    if not isinstance(source, fx.Node) or source not in cuts:
        raise CannotCut(f"it goes into {_operator(node)}")
    cut = cuts[source]
    if node.target in _KEEPS or (node.target is operator.getitem and source.target is BATCH_NORM):
        return cut
    if node.target in _MEANS:
        dims: Any = node.args[1]
        rank = len(source.meta["val"].shape)
        if all(d % rank >= 2 for d in dims):
            return cut
    if is_activation(node.target):
        act = Activation(node.target, tuple(node.args[1:]), tuple(node.kwargs.items()))  # type: ignore[arg-type]
        return {c: float(act(torch.tensor(value, dtype=torch.float64))) for c, value in cut.items()}
    if node.target in RESHAPES:
        return _reshaped(node, source, cut)
    raise CannotCut(f"it goes into {_operator(node)}")


def _concatenated(node: fx.Node, cuts: Mapping[fx.Node, Cut]) -> Cut:
    parts, dim = node.args[0], node.args[1] if len(node.args) > 1 else 0
    if dim not in (1, 1 - len(node.meta["val"].shape)):
        raise CannotCut("it is concatenated along another dimension than channels")
    cut: Cut = {}
    start = 0
    for part in parts:  # type: ignore[union-attr]
        cut |= {start + c: value for c, value in cuts.get(part, {}).items()}  # type: ignore[arg-type]
        start += int(part.meta["val"].shape[1])  # type: ignore[union-attr]
    return cut


def _reshaped(node: fx.Node, source: fx.Node, cut: Cut) -> Cut:
    """Flattening: each channel becomes as many places as it had positions."""
    before, after = source.meta["val"].shape, node.meta["val"].shape
    if len(after) < 2 or str(before[0]) != str(after[0]):
        raise CannotCut(f"it goes into {_operator(node)}")
    if int(before[1]) == int(after[1]):
        return cut
    positions = math.prod(int(size) for size in before[2:])
    if len(after) != 2 or int(after[1]) != int(before[1]) * positions:
        raise CannotCut(f"it goes into {_operator(node)}")
    return {c * positions + i: value for c, value in cut.items() for i in range(positions)}


def _operator(node: fx.Node) -> str:
    target: Any = node.target
    return _NAMED.get(target, str(target).removeprefix("aten.").partition(".")[0])
