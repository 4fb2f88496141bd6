"""Where the places of a tensor come from, along operators that only rearrange.

The rearranging operators themselves are run on the places' numbers: however an architecture cuts, turns and stacks its
projections, what comes out says which number went where.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from repair_engine.network.graph import FlatGraph, aten, is_number
from repair_engine.network.layouts import Rows

_IMAGES = 2  # that the free batch dimension is taken for
_LEAF = 1 << 32  # numbers of rows of one tensor; the next one's come behind

_SIZES_ALONE = {  # what reads nothing but a tensor's shape
    aten.zeros_like.default,
    aten.ones_like.default,
    aten.full_like.default,
    aten.empty_like.default,
    aten.new_zeros.default,
    aten.new_ones.default,
}

REARRANGING = {
    operator.getitem,
    aten.alias.default,
    aten.cat.default,
    aten.chunk.default,
    aten.clone.default,
    aten.contiguous.default,
    aten.detach.default,
    aten.dropout.default,  # none is active: see graph.capture
    aten.expand.default,
    aten.flatten.using_ints,
    aten.movedim.int,
    aten.permute.default,
    aten.repeat.default,
    aten.repeat_interleave.self_int,
    aten.reshape.default,
    aten.roll.default,
    aten.select.int,
    aten.select_scatter.default,
    aten.slice.Tensor,
    aten.slice_scatter.default,
    aten.split.Tensor,
    aten.split_with_sizes.default,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.stack.default,
    aten.t.default,
    aten.transpose.int,
    aten.unbind.int,
    aten.unflatten.int,
    aten.unsqueeze.default,
    aten.view.default,
    aten._unsafe_view.default,
}


@dataclass(frozen=True)
class Origin:
    """Where rows of a weight or a bias lie in the state dict: row i of the layer is row rows[i] of tensor `key`."""

    key: str
    rows: torch.Tensor


def sources(graph: FlatGraph, node: fx.Node) -> tuple[list[fx.Node], list[fx.Node]]:
    """The rearranging operators behind a tensor, in order, and what they rearrange."""
    chain: dict[fx.Node, None] = {}
    leaves: dict[fx.Node, None] = {}
    frontier = [node]
    while frontier:
        one = frontier.pop()
        if one in chain or one in leaves or is_number(one):
            continue
        if one.target in REARRANGING and one.op == "call_function":
            chain[one] = None
            frontier.extend(one.all_input_nodes)
        else:
            leaves[one] = None
    return [n for n in graph.nodes if n in chain], list(leaves)


def rearranged(graph: FlatGraph, node: fx.Node, numbers: Mapping[fx.Node, torch.Tensor]) -> Any:
    """What the rearranging operators behind `node` make of `numbers`, one tensor for each of its sources."""
    chain, _ = sources(graph, node)
    values: dict[fx.Node, Any] = dict(numbers)

    def value(one: fx.Node) -> Any:
        return values[one] if one in values else _number(graph, one.meta["val"])

    for one in chain:
        target: Any = one.target
        values[one] = target(*fx.node.map_arg(one.args, value), **fx.node.map_arg(one.kwargs, value))
    return values[node]


def shape_of(graph: FlatGraph, node: fx.Node) -> list[int]:
    """The shape of a node's tensor for two images."""
    return [_number(graph, size) for size in node.meta["val"].shape]


def _number(graph: FlatGraph, size: Any) -> int:
    if not isinstance(size, torch.SymInt):
        return int(size)
    return int(size.node.expr.subs(dict.fromkeys(graph.batch.node.expr.free_symbols, _IMAGES)))


def parameter_rows(graph: FlatGraph, node: Any, rows: torch.Tensor) -> Origin | None:
    """The tensor of the state dict whose rows are these `rows` (int64 [m]) of a weight or a bias, whole.

    None where they are not rows of one tensor, or where something else reads one of them, too.
    """
    if not isinstance(node, fx.Node):
        return None
    if node in graph.names:  # as it is
        return Origin(graph.names[node], rows) if graph.names[node] and _readers(graph, node) == 1 else None
    _, leaves = sources(graph, node)
    numbers = {}
    for i, leaf in enumerate(leaves):
        numbers[leaf] = i * _LEAF + (numbered(graph, leaf, 0) if shape_of(graph, leaf) else torch.zeros(()).long())
    found = rearranged(graph, node, numbers)
    mine = found.flatten(1)[rows] if found.dim() > 1 else found[rows, None]
    leaf = leaves[int(mine[0, 0]) // _LEAF]
    key = graph.names.get(leaf, "")
    whole = bool((mine == mine[:, :1]).all()) and bool((mine // _LEAF == leaves.index(leaf)).all())
    width = graph.tensors[leaf][0].numel() if key and graph.tensors[leaf].dim() else 0
    if not key or not whole or width != mine.shape[1]:
        return None
    taken = mine[:, 0] % _LEAF
    once = len(node.users) == 1 and is_read_once(graph, leaf, 0, node, taken)
    return Origin(key, taken) if once else None


def as_rows(places: torch.Tensor) -> Rows | None:
    """Places int64 [units, width] as `Rows`; None where they do not lie evenly."""
    start, width = int(places[0, 0]), places.shape[1]
    stride = int(places[1, 0]) - start if len(places) > 1 else width
    found = Rows(start, stride, width)
    return found if torch.equal(found.all(len(places)), places.flatten()) else None


def _readers(graph: FlatGraph, leaf: fx.Node) -> int:
    """How many operators read a tensor of the state dict, under whatever name (tied weights have several)."""
    key = graph.names[leaf]
    return sum(graph.names.get(a) == key for node in graph.nodes for a in node.all_input_nodes)


def is_read_once(graph: FlatGraph, leaf: fx.Node, dim: int, node: fx.Node, places: torch.Tensor) -> bool:
    """Whether places (int64) along a dimension of `leaf` go into `node`, which rearranges it, and nowhere else."""
    chain, _ = sources(graph, node)
    frontier, seen, wanted = [leaf], {leaf}, set(places.flatten().tolist())
    while frontier:
        here = frontier.pop()
        for user in here.users:
            if user in seen or here is node or is_number(user) or user.target in _SIZES_ALONE:
                continue
            if user in chain:
                seen.add(user)
                frontier.append(user)
                continue
            if user.target not in REARRANGING or sources(graph, user)[1] != [leaf]:
                return False
            held = rearranged(graph, user, {leaf: numbered(graph, leaf, dim)})  # by a slice beside it
            if not isinstance(held, torch.Tensor) or wanted & set(held.unique().tolist()):
                return False
    return True


def numbered(graph: FlatGraph, node: fx.Node, dim: int) -> torch.Tensor:
    """A tensor of a node's shape that holds the place along `dim`."""
    size = shape_of(graph, node)
    dim %= len(size)
    return torch.arange(size[dim]).view(-1, *[1] * (len(size) - 1 - dim)).expand(size)
