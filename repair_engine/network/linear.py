"""What linear layers have in common: whose rows of which tensors their outputs are, and what reads them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import fx

from repair_engine.network.computed_weights import source_of
from repair_engine.network.graph import FlatGraph, aten, batch_dim, per_image
from repair_engine.network.layouts import Layout, Rows
from repair_engine.network.origins import as_rows, parameter_rows, shape_of
from repair_engine.network.sites import WEIGHT, Reader, argument, only_user

LINEAR = aten.linear.default


@dataclass(frozen=True)
class Projection:
    """The tensors that make some outputs of a linear layer.

    Attributes:
        weight, bias: keys of the state dict (bias "" if there is none).
        rows, bias_rows: of them that are each unit's.
        zeroed: see `Site`.
    """

    weight: str
    bias: str
    rows: Rows
    bias_rows: Rows
    zeroed: str = ""


def layer_name(graph: FlatGraph, linear: fx.Node) -> str:
    """The layer's prefix in the state dict; of computed and sliced weights that of the first tensor behind them."""
    frontier, seen = [argument(linear, 1, "weight")], set()
    while frontier:
        node = frontier.pop(0)
        if graph.names.get(node):
            key = graph.names[node]
            return WEIGHT.sub("", key.removesuffix(".in_proj_weight"))
        seen.add(node)
        frontier += [n for n in node.all_input_nodes if n not in seen]
    return linear.name


def projection(graph: FlatGraph, linear: fx.Node, places: torch.Tensor, uses: Mapping[str, int]) -> Projection | str:
    """The tensors behind outputs `places` (int64 [units, width]) of a linear layer, or why no edit changes them."""
    weight, bias = argument(linear, 1, "weight"), argument(linear, 2, "bias")
    fixed = "its weight is computed (a parametrization), tied or fixed: no edit of the state dict changes it alone"
    if uses[graph.names.get(weight, "")] > 1:
        return "it is called more than once or its weight is tied, so one edit would change several places"
    here = as_rows(places)
    if here is None:
        return "its units' rows do not lie evenly in its weight"
    origin = parameter_rows(graph, weight, places.flatten())
    zeroed = ""
    if origin is not None:
        key, rows = origin.key, as_rows(origin.rows.view(places.shape))
    else:
        computed = source_of(graph, weight, uses) if weight not in graph.names else None
        if computed is None:
            return fixed
        key, rows, zeroed = computed.weight, here, computed.zeroed
    if bias is None:
        return fixed if rows is None else Projection(key, "", rows, Rows(width=places.shape[1]), zeroed)
    taken = parameter_rows(graph, bias, places.flatten())
    bias_rows = None if taken is None else as_rows(taken.rows.view(places.shape))
    if rows is None or taken is None or bias_rows is None:
        return "its bias is computed, tied or fixed: no edit of the state dict changes it alone"
    return Projection(key, taken.key, rows, bias_rows, zeroed)


def layout_of(graph: FlatGraph, node: fx.Node, axis: int, places: Rows) -> tuple[Layout, int] | str:
    """The layout of a site's tensor and its positions, or why it has none."""
    batch, size = batch_dim(graph, node), shape_of(graph, node)
    if batch is None or batch == axis:
        return "it does not run on images"
    times = per_image(graph, node.meta["val"].shape[batch])
    if times is None:
        return "it does not run on whole images (its batch dimension is not the image batch)"
    positions = math.prod(s for d, s in enumerate(size) if d not in (batch, axis)) * times
    return Layout(batch, axis, times, size[axis], places), positions


def reader_of(
    graph: FlatGraph,
    linear: fx.Node,
    columns: Rows | None,
    uses: Mapping[str, int],
    dtypes: Mapping[str, torch.dtype] | None,
) -> Reader | str:
    """The linear layer that reads `columns` as what takes up their constants, or why it cannot."""
    weight, bias = argument(linear, 1, "weight"), argument(linear, 2, "bias")
    if bias is None or not graph.names.get(bias) or not graph.names.get(weight):
        return f"{layer_name(graph, linear)}, which reads it, has no bias to take it up"
    weight, bias = graph.names[weight], graph.names[bias]
    if uses[weight] > 1 or uses[bias] > 1:
        return f"{layer_name(graph, linear)}, which reads it, is called more than once"
    if dtypes is not None and dtypes[bias].itemsize < 4:
        return f"{bias}, which would have to take it up, is stored in half precision"
    return Reader(weight, bias, columns) if columns else "its places in the layer that reads it do not lie evenly"


def read_by_linear(node: fx.Node) -> fx.Node | None:
    """The linear layer that alone reads a tensor."""
    follower = only_user(node)
    return follower if follower is not None and follower.target is LINEAR and follower.args[0] is node else None
