"""Sites: where the units of one layer are ablated; those of convolutions, and which convolutions have none.

A site lies after the batch (or group) norm and the elementwise activation that follow the convolution and that
nothing else uses; on a residual branch it is the branch's own output, never the sum. A convolution with neither bias
nor norm (DenseNet: norm before convolution) has its site at its own output, if its mean can be absorbed behind it.
"""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from torch import fx

from repair_engine.network.absorption import Absorber, absorbers
from repair_engine.network.activations import Activation, is_activation
from repair_engine.network.computed_weights import source_of
from repair_engine.network.graph import (
    BATCH_NORM,
    KEEPS_CONSTANTS,
    PASS_THROUGH,
    RESHAPES,
    FlatGraph,
    aten,
    has_plain_batch,
)
from repair_engine.network.layouts import EACH, PLAIN, Layout, Rows

CONVOLUTIONS = {aten.conv2d.default, aten.conv2d.padding, aten.convolution.default}
_OTHER_CONVOLUTIONS = {
    aten.conv1d.default,
    aten.conv1d.padding,
    aten.conv3d.default,
    aten.conv3d.padding,
    aten.conv_transpose2d.input,
}
# Operators that keep channels apart: behind a convolution, nothing but these up to the logits means that its
# channels are the logits.
_CHANNELWISE = (
    KEEPS_CONSTANTS
    | RESHAPES
    | {
        BATCH_NORM,
        operator.getitem,
        aten.avg_pool2d.default,
        aten.mean.dim,
        aten.amax.default,
        aten.sum.dim_IntList,
        aten.squeeze.default,
    }
)


KINDS = {"filter": "filters", "hidden": "hidden", "head": "heads"}  # of units -> what --units calls them


_SUMS = {aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor}


@dataclass(frozen=True)
class Reader:
    """The linear layer that alone reads a site's units, and whose bias takes up their constants.

    Attributes:
        weight, bias: keys of its tensors.
        columns: of its weight that read each unit.
    """

    weight: str
    bias: str
    columns: Rows


@dataclass(frozen=True)
class Gate:
    """The half of a gated layer that goes through the activation; the site's own tensors are of the other half."""

    weight: str
    bias: str
    rows: Rows
    bias_rows: Rows


@dataclass(frozen=True)
class Site:
    """One layer's units: the filters of a convolution, the hidden units of a linear layer, or attention heads.

    Attributes:
        name: the layer's prefix in the state dict.
        channels: number of units.
        norm: "batch", "group", "none" (a bias alone) or "absorbed" (neither: batch norms behind it, or the bias of the
            linear layer that reads it, take up the mean).
        activation: what lies between the bias and the site.
        weight, bias: keys of the layer's tensors (bias "" if it has none).
        norm_keys: the norm's weight, bias, running_mean, running_var keys (the last two "" for group norm).
        position: index of the site's node in the flat graph.
        spatial: positions at the site on the captured images: height × width, tokens.
        absorbers: the batch norms behind it, where norm is "absorbed".
        zeroed: where its weight is computed (weight standardization), key of the tensor whose row of zeros makes the
            unit's row zero; "" = the weight itself.
        kind: of its units: "filter", "hidden" or "head".
        layout: of the site's tensor.
        rows, bias_rows: of the weight and of the bias that are each unit's (slices of fused projections).
        reader: what takes up the mean, where norm is "absorbed" and no batch norm does.
        gate: of a gated layer, whose unit is the activated half times the other.
    """

    name: str
    channels: int
    norm: str
    activation: Activation
    weight: str
    bias: str
    norm_keys: tuple[str, str, str, str]
    position: int
    spatial: int
    absorbers: tuple[Absorber, ...] = ()
    zeroed: str = ""
    kind: str = "filter"
    layout: Layout = PLAIN
    rows: Rows = EACH
    bias_rows: Rows = EACH
    reader: Reader | None = None
    gate: Gate | None = None

    @property
    def outputs(self) -> int:
        """Numbers that the site holds at a position: one a unit, of a head as many as its values have features."""
        return self.channels * self.rows.width

    @property
    def bias_key(self) -> str:
        """The tensor that carries the constant and whose dtype rounds it."""
        if self.norm == "absorbed":
            return self.reader.bias if self.reader else self.absorbers[0].mean
        return self.bias if self.norm == "none" else self.norm_keys[1]


class NotAPlayerRecord(TypedDict):
    """`NotAPlayer` in documents."""

    name: str
    channels: int
    reason: str
    kind: str


@dataclass(frozen=True)
class NotAPlayer:
    """A layer whose units are not players, and why."""

    name: str
    channels: int
    reason: str
    kind: str = "filter"

    def to_json(self) -> NotAPlayerRecord:
        return {"name": self.name, "channels": self.channels, "reason": self.reason, "kind": self.kind}


# The weight of a convolution in the state dict, also under weight norm (its direction: weight_v, original1).
WEIGHT = re.compile(r"\.(parametrizations\.)?weight(\.original\d+|_v)?$")


def find_filters(
    graph: FlatGraph, dtypes: Mapping[str, torch.dtype] | None = None
) -> tuple[tuple[Site, ...], tuple[NotAPlayer, ...]]:
    """The sites of all convolutions in topological order, and all other convolutions with the reason.

    Args:
        dtypes: key of the state dict -> dtype in the file; None = float32.
    """
    index = {n: i for i, n in enumerate(graph.nodes)}
    uses = tensor_uses(graph)
    sites: list[Site] = []
    others: dict[str, NotAPlayer] = {}
    for node in graph.nodes:
        if node.target in _OTHER_CONVOLUTIONS:
            channels = int(node.meta["val"].shape[1])
            others[_name(graph, node)] = NotAPlayer(
                _name(graph, node),
                channels,
                "only two-dimensional, not transposed convolutions have filters here",
            )
        if node.target not in CONVOLUTIONS:
            continue
        found = _site(graph, node, index, uses, dtypes)
        if isinstance(found, Site):
            sites.append(found)
        else:
            others[found.name] = found
    sites.sort(key=lambda s: s.position)
    others |= {one.name: one for one in _never_run(graph)}
    return tuple(sites), tuple(others.values())


def _site(
    graph: FlatGraph,
    conv: fx.Node,
    index: dict[fx.Node, int],
    uses: Counter[str],
    dtypes: Mapping[str, torch.dtype] | None,
) -> Site | NotAPlayer:
    name = _name(graph, conv)
    channels = int(conv.meta["val"].shape[1])

    def refuse(reason: str) -> NotAPlayer:
        return NotAPlayer(name, channels, reason)

    weight, bias = argument(conv, 1, "weight"), argument(conv, 2, "bias")
    if conv.target is aten.convolution.default and conv.args[6]:
        return refuse("it is a transposed convolution")
    computed = None if weight in graph.names else source_of(graph, weight, uses)
    key = computed.weight if computed else graph.names.get(weight, "")
    name, zeroed = WEIGHT.sub("", key) or name, computed.zeroed if computed else ""
    if not key or (bias is not None and not graph.names.get(bias)):
        return refuse("its weight is computed (a parametrization) or fixed: no edit of the state dict changes it")
    if (not computed and uses[key] > 1) or (bias is not None and uses[graph.names[bias]] > 1):
        return refuse("it is called more than once, so one edit would ablate several places")
    if not has_plain_batch(graph, conv):
        return refuse("it does not run on whole images (its batch dimension is not the image batch)")
    if is_logits(graph, conv, channels):
        return refuse("its channels are the logits")

    end, norm, keys = skip(conv), "none", ("", "", "", "")
    follower = only_user(end)
    if follower is not None and follower.target is BATCH_NORM:
        taken = batch_norm_keys(graph, follower, uses)
        if isinstance(taken, str):
            return refuse(taken)
        outputs = [u for u in follower.users if u.target is operator.getitem and u.args[1] == 0]
        end, norm, keys = skip(outputs[0]), "batch", taken
    elif follower is not None and follower.target is aten.group_norm.default:
        tensors = [argument(follower, 2, "weight"), argument(follower, 3, "bias")]
        if any(t is None or not graph.names.get(t) or uses[graph.names[t]] > 1 for t in tensors):
            return refuse("its group norm has no weight and bias of its own to edit")
        end, norm = skip(follower), "group"
        keys = (graph.names[tensors[0]], graph.names[tensors[1]], "", "")
    height, width = (int(s) for s in conv.meta["val"].shape[2:])
    if norm == "none" and bias is None:
        behind = absorbers(graph, conv, uses, dtypes) or "nothing uses it"
        if isinstance(behind, str):
            standardized = "its weights are standardized, " if computed else ""
            return refuse(f"{standardized}it has neither a bias nor a norm of its own to carry the mean, and {behind}")
        return Site(
            name, channels, "absorbed", Activation(), key, "", keys, index[conv], height * width, behind, zeroed,
            layout=Layout(size=channels),
        )  # fmt: skip

    end, activation = activated(end)
    return Site(
        name, channels, norm, activation, key,
        "" if bias is None else graph.names[bias], keys, index[end], height * width, zeroed=zeroed,
        layout=Layout(size=channels),
    )  # fmt: skip


def batch_norm_keys(graph: FlatGraph, norm: fx.Node, uses: Mapping[str, int]) -> tuple[str, str, str, str] | str:
    """Keys of a batch norm's weight, bias, running mean and variance, or why they cannot be edited."""
    tensors = [argument(norm, i, "") for i in range(1, 5)]
    if any(t is None or not graph.names.get(t) for t in tensors):
        return "its batch norm has no weight and bias to edit (affine=False)"
    if any(uses[graph.names[t]] > 1 for t in tensors):
        return "its batch norm is called more than once"
    weight, bias, mean, variance = (graph.names[t] for t in tensors)
    return weight, bias, mean, variance


def activated(node: fx.Node) -> tuple[fx.Node, Activation]:
    """Past the activation that alone uses the tensor, if there is one, and the activation (else the identity)."""
    follower = only_user(node)
    if follower is None or not is_activation(follower.target) or follower.args[0] is not node:
        return node, Activation()
    found = Activation(follower.target, tuple(follower.args[1:]), tuple(follower.kwargs.items()))  # type: ignore[arg-type]
    return skip(follower), found


def _never_run(graph: FlatGraph) -> list[NotAPlayer]:
    """Convolutions of the state dict that no prediction uses: auxiliary heads of GoogLeNet and Inception."""
    return [
        NotAPlayer(key.removesuffix(".weight"), int(graph.tensors[node].shape[0]), "it is run in training only")
        for node, key in graph.names.items()
        if key.endswith(".weight") and graph.tensors[node].dim() == 4 and not node.users
    ]


def _name(graph: FlatGraph, conv: fx.Node) -> str:
    key = graph.names.get(argument(conv, 1, "weight"), "")
    return key.removesuffix(".weight") if key else conv.name


def argument(node: fx.Node, position: int, name: str) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name)


def only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def skip(node: fx.Node) -> fx.Node:
    """Past operators that change nothing in eval mode, while nothing else uses the tensor."""
    follower = only_user(node)
    while follower is not None and follower.target in PASS_THROUGH:
        node, follower = follower, only_user(follower)
    return node


def is_logits(graph: FlatGraph, layer: fx.Node, channels: int, summed: bool = False) -> bool:
    """Whether a layer's outputs are the logits; with `summed`, also where they are terms of them."""
    passed = _CHANNELWISE | _SUMS if summed else _CHANNELWISE
    shape = graph.logits.meta["val"].shape
    if channels != (int(shape[1]) if len(shape) == 2 else 1):
        return False
    frontier, seen = [layer], {layer}
    while frontier:
        node = frontier.pop()
        for user in node.users:
            if user.op == "output" or user in seen:
                continue
            if user.target not in passed and not is_activation(user.target) and user.target != aten.sym_size.int:
                return False
            seen.add(user)
            frontier.append(user)
    return True


def tensor_uses(graph: FlatGraph) -> Counter[str]:
    """Key of the state dict -> how many operators read it."""
    return Counter(graph.names[a] for node in graph.nodes for a in node.all_input_nodes if a in graph.names)
