"""Attention heads: the outputs of the value projection that one head mixes, as one player.

Attention is a product with what a softmax gave. Where the values come from, and which of their features are one head's,
is read off by running the operators in between on the features' numbers (see `origins`): fused and separate
projections, windows, shared values of grouped queries all come out of it. The weights of attention sum to 1, so a head
whose values are constant puts out that constant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from repair_engine.network.activations import Activation
from repair_engine.network.graph import FlatGraph, aten
from repair_engine.network.linear import LINEAR, layer_name, layout_of, projection, reader_of
from repair_engine.network.origins import (
    REARRANGING,
    as_rows,
    is_read_once,
    numbered,
    rearranged,
    shape_of,
    sources,
)
from repair_engine.network.sites import NotAPlayer, Reader, Site, only_user, tensor_uses

_SOFTMAX = {aten.softmax.int, aten._softmax.default, aten._safe_softmax.default}
_PRODUCTS = {aten.matmul.default, aten.bmm.default}
_CASTS = {aten._to_copy.default, aten.to.dtype}


@dataclass(frozen=True)
class _Attention:
    """A mixing of values.

    Attributes:
        node: its output.
        values: what is mixed.
        features: dimension of the values that is mixed along with, and of what they are mixed to.
        tokens: dimension of the values that is summed over.
        sums: whether the weights sum to 1 over the tokens.
    """

    node: fx.Node
    values: fx.Node
    features: int
    tokens: int
    sums: bool


def find_heads(
    graph: FlatGraph, dtypes: Mapping[str, torch.dtype] | None
) -> tuple[dict[fx.Node, Site], dict[fx.Node, NotAPlayer]]:
    """Value projection -> its heads' site, and the value projections whose heads are no players, with the reason."""
    sites: dict[fx.Node, Site] = {}
    others: dict[fx.Node, NotAPlayer] = {}
    index = {n: i for i, n in enumerate(graph.nodes)}
    for attention in _attentions(graph):
        leaves = sources(graph, attention.values)[1]
        linear = next((n for n in leaves if n.target is LINEAR), None)
        if linear is None:  # a convolution's channels are filters
            continue
        features = _features(graph, attention, linear) if len(leaves) == 1 else None
        found: Site | str = "its values are more than one linear layer's outputs, or its heads share features"
        if linear in sites or linear in others:
            sites.pop(linear, None)
            found = "its values are mixed more than once"
        elif features is not None:
            found = _site(graph, attention, linear, features, index[linear], dtypes)
        if isinstance(found, Site):
            sites[linear] = found
        else:
            others[linear] = NotAPlayer(
                layer_name(graph, linear), 0 if features is None else len(features), found, "head"
            )
    return sites, others


def _attentions(graph: FlatGraph) -> Iterator[_Attention]:
    for node in graph.nodes:
        if node.target is aten.scaled_dot_product_attention.default:
            yield _Attention(node, node.args[2], -1, -2, True)  # type: ignore[arg-type]
        elif node.target in _PRODUCTS:
            weights, values = node.args
            if (last := _softmax(graph, weights)) is not None:
                yield _Attention(node, values, -1, -2, last)  # type: ignore[arg-type]
            elif _softmax(graph, values) is not None:
                yield _Attention(node, weights, -2, -1, False)  # type: ignore[arg-type]
        elif node.target is aten.einsum.default:
            yield from _einsum(graph, node)


def _einsum(graph: FlatGraph, node: fx.Node) -> Iterator[_Attention]:
    arguments: Any = node.args
    equation, operands = str(arguments[0]).replace(" ", ""), list(arguments[1])
    terms, arrow, out = equation.partition("->")
    if not arrow or len(operands) != 2 or "." in equation:
        return
    for weights, values, mixing, mixed in zip(operands, operands[::-1], terms.split(","), terms.split(",")[::-1]):
        last = _softmax(graph, weights)
        tokens = [i for i, letter in enumerate(mixed) if letter in mixing and letter not in out]
        features = [i for i, letter in enumerate(mixed) if letter not in mixing and letter in out]
        if last is not None and len(tokens) == len(features) == 1:
            sums = last and mixing[-1] == mixed[tokens[0]] and out[-1] == mixed[features[0]]
            yield _Attention(node, values, features[0] - len(mixed), tokens[0] - len(mixed), sums)
            return


def _softmax(graph: FlatGraph, node: object) -> bool | None:
    """Whether a softmax is over the last dimension; None where `node` is not what one gave."""
    while isinstance(node, fx.Node) and node.target in REARRANGING | _CASTS:
        node = node.args[0]
    if not isinstance(node, fx.Node) or node.target not in _SOFTMAX:
        return None
    return node.args[1] in (-1, len(node.meta["val"].shape) - 1)


def _features(graph: FlatGraph, attention: _Attention, linear: fx.Node) -> torch.Tensor | None:
    """Which of the projection's outputs are each head's, int64 [heads, width], sorted; None where that is not so."""
    by_head = _by_head(graph, attention, linear)
    found = by_head[:, 0]
    if (by_head != found[:, None]).any():
        return None
    found = torch.unique(found, dim=0)
    return None if len(found.unique()) < found.numel() else found


def _by_head(graph: FlatGraph, attention: _Attention, linear: fx.Node) -> torch.Tensor:
    """Numbers of the projection's outputs as attention gets them, [heads and images, tokens, width]."""
    numbers = rearranged(graph, attention.values, {linear: numbered(graph, linear, -1)})
    return numbers.movedim((attention.tokens, attention.features), (-2, -1)).flatten(0, -3)


def _site(
    graph: FlatGraph,
    attention: _Attention,
    linear: fx.Node,
    features: torch.Tensor,
    position: int,
    dtypes: Mapping[str, torch.dtype] | None,
) -> Site | str:
    uses = tensor_uses(graph)
    made, places = projection(graph, linear, features, uses), as_rows(features)
    if isinstance(made, str) or places is None:
        return made if isinstance(made, str) else "its heads' features do not lie evenly"
    laid = layout_of(graph, linear, len(linear.meta["val"].shape) - 1, places)
    if isinstance(laid, str):
        return laid
    norm, reader = "none", None
    if not made.bias:
        taken = _reader(graph, attention, linear, features, uses, dtypes)
        if isinstance(taken, str):
            return f"its values have no bias to carry the mean, and {taken}"
        norm, reader = "absorbed", taken
    return Site(
        layer_name(graph, linear), len(features), norm, Activation(), made.weight, made.bias, ("", "", "", ""),
        position, laid[1], zeroed=made.zeroed, kind="head", layout=laid[0], rows=made.rows, bias_rows=made.bias_rows,
        reader=reader,
    )  # fmt: skip


def _reader(
    graph: FlatGraph,
    attention: _Attention,
    linear: fx.Node,
    features: torch.Tensor,
    uses: Mapping[str, int],
    dtypes: Mapping[str, torch.dtype] | None,
) -> Reader | str:
    """The linear layer that reads the heads' outputs."""
    if not attention.sums or not is_read_once(graph, linear, -1, attention.values, features):
        return "they are not mixed by weights that sum to 1 alone"
    if only_user(attention.values) is not attention.node:
        return "they are read elsewhere, too"
    end = attention.node
    while (follower := only_user(end)) is not None and follower.target in REARRANGING:
        end = follower
    if follower is None or follower.target is not LINEAR or follower.args[0] is not end:
        return "no linear layer alone reads what attention gives"
    values = rearranged(graph, attention.values, {linear: numbered(graph, linear, -1)})
    one = values.movedim(attention.tokens, -2).narrow(-2, 0, 1)
    size = shape_of(graph, attention.node)
    if one.dim() != len(size) or list(one.shape[:-2]) != size[:-2]:
        return "attention changes the heads' order"
    arrived = rearranged(graph, end, {attention.node: one.expand(size)}).flatten(0, -2)
    if (arrived != arrived[:1]).any() or len(arrived[0].unique()) < arrived.shape[1]:
        return "a head's outputs go to more than one place"
    place = {int(feature): c for c, feature in enumerate(arrived[0])}
    columns = torch.tensor([[place[int(f)] for f in head] for head in features])
    return reader_of(graph, follower, as_rows(columns), uses, dtypes)
