"""Hidden units: the outputs of a linear layer after the activation that alone uses them.

Also of one half of a fused projection, and of gated layers (SwiGLU, GEGLU: the activation of one half times the other
half), whose unit is the product. A norm that follows (LayerNorm mixes units) lies behind the site.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from repair_engine.network.activations import is_activation
from repair_engine.network.graph import BATCH_NORM, FlatGraph, aten
from repair_engine.network.layouts import Rows
from repair_engine.network.linear import (
    LINEAR,
    layer_name,
    layout_of,
    projection,
    read_by_linear,
    reader_of,
)
from repair_engine.network.origins import is_read_once, numbered, rearranged, sources
from repair_engine.network.sites import (
    Gate,
    NotAPlayer,
    Site,
    activated,
    batch_norm_keys,
    is_logits,
    only_user,
    skip,
    tensor_uses,
)

_NO_NORM = ("", "", "", "")
_NO_READER = "no linear layer alone reads it"


@dataclass(frozen=True)
class _Half:
    """Outputs of a linear layer as they arrive at an elementwise operator.

    Attributes:
        places: of the layer's outputs, int64 [units].
        axis: the units' dimension where they arrive.
        norm_keys: of a batch norm between.
    """

    linear: fx.Node
    places: torch.Tensor
    axis: int
    norm_keys: tuple[str, str, str, str] = _NO_NORM


def find_hidden(
    graph: FlatGraph, dtypes: Mapping[str, torch.dtype] | None
) -> tuple[dict[fx.Node, Site], dict[fx.Node, NotAPlayer]]:
    """Linear layer -> its hidden units' site, and the other linear layers but those of the logits, with the reason."""
    uses = tensor_uses(graph)
    index = {n: i for i, n in enumerate(graph.nodes)}
    linears = [n for n in graph.nodes if n.target is LINEAR]
    others = {
        n: _refused(graph, n, "no activation follows it: its outputs are parts of a sum or of attention")
        for n in linears
        if not is_logits(graph, n, int(n.meta["val"].shape[-1]), summed=True)
    }
    sites: dict[fx.Node, Site] = {}
    for node in graph.nodes:
        if not is_activation(node.target):
            continue
        half = _half(graph, node.args[0], node, uses)
        if isinstance(half, NotAPlayer):
            others |= {n: half for n in others if layer_name(graph, n) == half.name}
        if not isinstance(half, _Half) or half.linear not in others:
            continue
        found = _site(graph, node, half, index, uses, dtypes)
        if isinstance(found, Site):
            sites[half.linear] = found
        else:
            others[half.linear] = _refused(graph, half.linear, found)
    halves = {site.weight for site in sites.values() if site.gate}
    return sites, {n: o for n, o in others.items() if n not in sites and f"{o.name}.weight" not in halves}


def _refused(graph: FlatGraph, linear: fx.Node, reason: str) -> NotAPlayer:
    return NotAPlayer(layer_name(graph, linear), int(linear.meta["val"].shape[-1]), reason, "hidden")


def _half(graph: FlatGraph, node: Any, reader: fx.Node, uses: Mapping[str, int]) -> _Half | NotAPlayer | None:
    """The linear layer whose outputs `reader` alone reads as `node`; None where they are not a linear layer's."""
    if not isinstance(node, fx.Node) or only_user(node) is not reader:
        source = sources(graph, node)[1] if isinstance(node, fx.Node) else []
        if len(source) == 1 and source[0].target is LINEAR:
            return _refused(graph, source[0], "its outputs are used beside its activation, too")
        return None
    chain, leaves = sources(graph, node)
    if len(leaves) != 1:
        return None
    leaf = linear = leaves[0]
    norm_keys = _NO_NORM
    if leaf.target is BATCH_NORM:
        found = _normed(graph, leaf, uses)
        if not isinstance(found, tuple):
            return found
        linear, norm_keys = found
        start, dim = chain[0], 1
        places = rearranged(graph, node, {leaf: (numbered(graph, leaf.args[0], 1),)})  # type: ignore[dict-item, arg-type]
    elif leaf.target is LINEAR:
        start, dim = leaf, -1
        places = rearranged(graph, node, {leaf: numbered(graph, leaf, -1)})
    else:
        return None
    axes = [d for d in range(places.dim()) if (places.narrow(d, 0, 1) != places).any()]
    axis = axes[0] if axes else places.dim() - 1
    along = places.movedim(axis, 0).flatten(1)[:, 0]
    if len(axes) > 1 or len(along.unique()) < len(along):
        return _refused(graph, linear, "its outputs are spread over several dimensions before their activation")
    if node is not start and not is_read_once(graph, start, dim, node, along):
        return _refused(graph, linear, "its outputs are used beside its activation, too")
    if norm_keys[0] and not torch.equal(along, torch.arange(int(linear.meta["val"].shape[-1]))):
        return _refused(graph, linear, "its outputs are rearranged behind its batch norm")
    return _Half(linear, along, axis, norm_keys)


def _normed(
    graph: FlatGraph, norm: fx.Node, uses: Mapping[str, int]
) -> tuple[fx.Node, tuple[str, str, str, str]] | NotAPlayer | None:
    """The linear layer that a batch norm alone reads, be it with tokens flattened, and the norm's keys."""
    read: Any = norm.args[0]
    leaves = sources(graph, read)[1]
    if len(leaves) != 1 or leaves[0].target is not LINEAR:
        return None
    linear = leaves[0]
    units = torch.arange(int(linear.meta["val"].shape[-1]))
    arrived = rearranged(graph, read, {linear: numbered(graph, linear, -1)}).movedim(1, -1)
    if arrived.shape[-1] != len(units) or bool((arrived != units).any()):
        return _refused(graph, linear, "its batch norm is over another dimension than its outputs")
    if only_user(read) is not norm or not is_read_once(graph, linear, -1, read, units):
        return _refused(graph, linear, "its outputs are used beside its batch norm, too")
    found = batch_norm_keys(graph, norm, uses)
    return _refused(graph, linear, found) if isinstance(found, str) else (linear, found)


def _site(
    graph: FlatGraph,
    node: fx.Node,
    half: _Half,
    index: Mapping[fx.Node, int],
    uses: Counter[str],
    dtypes: Mapping[str, torch.dtype] | None,
) -> Site | str:
    """The site behind an activation of a linear layer's outputs, or why there is none."""
    end, activation = activated(node.args[0])  # type: ignore[arg-type]
    made = projection(graph, half.linear, half.places[:, None], uses)
    if isinstance(made, str):
        return made
    units, gate, other = len(half.places), None, _gated(graph, end, half, uses)
    if isinstance(other, str):
        return other
    if other is not None:
        value = projection(graph, other[1].linear, other[1].places[:, None], uses)
        if isinstance(value, str):
            return f"of its gate: {value}"
        if bool(value.bias) != bool(made.bias) or made.zeroed or value.zeroed:
            return "one half of its gated layer has a bias, the other has none"
        end, gate, made = skip(other[0]), Gate(made.weight, made.bias, made.rows, made.bias_rows), value
    laid = layout_of(graph, end, half.axis, Rows())
    if isinstance(laid, str):
        return laid
    norm = "batch" if half.norm_keys[0] else "none"
    reader = None
    if norm == "none" and not made.bias:
        behind = read_by_linear(end)
        straight = behind is not None and half.axis == len(end.meta["val"].shape) - 1
        taken = reader_of(graph, behind, Rows(), uses, dtypes) if behind is not None and straight else _NO_READER
        if isinstance(taken, str):
            return f"it has no bias to carry the mean, and {taken}"
        norm, reader = "absorbed", taken
    return Site(
        layer_name(graph, half.linear), units, norm, activation, made.weight, made.bias, half.norm_keys, index[end],
        laid[1], zeroed=made.zeroed, kind="hidden", layout=laid[0], rows=made.rows, bias_rows=made.bias_rows,
        reader=reader, gate=gate,
    )  # fmt: skip


def _gated(graph: FlatGraph, end: fx.Node, half: _Half, uses: Mapping[str, int]) -> tuple[fx.Node, _Half] | str | None:
    """The product of an activation with another linear layer's outputs, and these; None where there is none."""
    product = only_user(end)
    if product is None or product.target is not aten.mul.Tensor or half.norm_keys[0]:
        return None
    factor = next((a for a in product.args if a is not end), None)
    found = _half(graph, factor, product, uses)
    if not isinstance(found, _Half) or found.norm_keys[0]:
        return None
    if len(found.places) != len(half.places) or found.axis != half.axis:
        return "its gate has other units than it has"
    if found.linear is half.linear and set(found.places.tolist()) & set(half.places.tolist()):
        return "its outputs are used beside its activation, too"
    return product, found
