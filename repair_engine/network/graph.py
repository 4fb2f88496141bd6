"""Capture of a classifier as one flat ATen graph, and its cutting into segments.

`torch.export` gives every torchvision classifier as one straight list of operators, so nothing below is special
to an architecture. The list is cut after each *site* (see `sites`); a segment is the part between two cuts.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from repair_engine.errors import BadInput

aten = torch.ops.aten

BATCH_NORM = aten._native_batch_norm_legit_no_training.default
_BATCH_STATISTICS = {aten._native_batch_norm_legit.no_stats, aten._native_batch_norm_legit.default}
_MAX_BATCH = 2**20


@dataclass(frozen=True)
class FlatGraph:
    """A functional inference graph of one image batch.

    Attributes:
        nodes: call_function nodes in topological order.
        image: the placeholder of the images [B, C, H, W].
        logits: the node of the logits [B, classes] (or [B], a single logit).
        names: parameter and buffer placeholders -> key of the state dict ("" for lifted constants and buffers that
            are not in it).
        tensors: parameter, buffer and constant placeholders -> tensor.
        batch: the symbol of the batch dimension.
    """

    nodes: tuple[fx.Node, ...]
    image: fx.Node
    logits: fx.Node
    names: dict[fx.Node, str]
    tensors: dict[fx.Node, torch.Tensor]
    batch: Any


def capture(module: torch.nn.Module, example: torch.Tensor) -> FlatGraph:
    """Captures `module` (eval mode) on images like `example` [2, C, H, W] with a free batch dimension.

    Raises:
        BadInput: the module cannot be captured, or does not return one tensor [B, classes].
    """
    dims = ({0: torch.export.Dim("batch", min=1, max=_MAX_BATCH)},)
    try:
        with torch.no_grad():
            program = torch.export.export(module.eval(), (example,), dynamic_shapes=dims)
            program = program.run_decompositions({})
    except Exception as error:  # torch.export raises many kinds; all mean the same to the user
        first_line = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        raise BadInput(
            f"The network cannot be captured by torch.export on images of shape {tuple(example.shape[1:])}: "
            f"{first_line}",
            "Check the input size (--resize, --crop) and that forward() has no control flow that depends on "
            "the data and no fixed batch size.",
        ) from error
    signature = program.graph_signature
    by_name = {n.name: n for n in program.graph.nodes}
    keys = module.state_dict().keys()
    names: dict[fx.Node, str] = {}
    tensors: dict[fx.Node, torch.Tensor] = {}
    for mapping in (signature.inputs_to_parameters, signature.inputs_to_buffers):
        for placeholder, key in mapping.items():
            value = program.state_dict.get(key, program.constants.get(key))
            assert value is not None, f"{key} has no tensor in the captured program"
            names[by_name[placeholder]] = key if key in keys else ""
            tensors[by_name[placeholder]] = value.detach()
    for placeholder, key in signature.inputs_to_lifted_tensor_constants.items():
        names[by_name[placeholder]] = ""
        tensors[by_name[placeholder]] = program.constants[key].detach()
    if len(signature.user_outputs) != 1:
        raise BadInput(
            f"The network returns {len(signature.user_outputs)} outputs in eval mode; one tensor of logits is needed.",
            "Register a factory whose module returns the logits alone.",
        )
    image = by_name[signature.user_inputs[0]]
    logits = by_name[signature.user_outputs[0]]
    shape = logits.meta["val"].shape
    batch = image.meta["val"].shape[0]
    if len(shape) not in (1, 2) or not _same(shape[0], batch):
        raise BadInput(f"The network returns a tensor of shape {tuple(shape)}; logits [batch, classes] are needed.")
    nodes = tuple(n for n in program.graph.nodes if n.op == "call_function")
    if any(n.target in _BATCH_STATISTICS for n in nodes):
        raise BadInput(
            "A batch norm without running statistics mixes the images of a batch; such a network cannot be valued.",
            "Train it with track_running_stats=True.",
        )
    return FlatGraph(nodes, image, logits, names, tensors, batch)


def batch_dim(graph: FlatGraph, node: fx.Node) -> int | None:
    """The dimension of a node's tensor that grows with the image batch, or None for a batch-free tensor.

    Raises:
        BadInput: more than one dimension does (images are mixed with each other).
    """
    symbols = _symbols(graph.batch)
    found = [d for d, size in enumerate(node.meta["val"].shape) if _symbols(size) & symbols]
    if len(found) > 1:
        raise BadInput(f"Operator {node.name} mixes the images of a batch; such a network cannot be valued.")
    return found[0] if found else None


def has_plain_batch(graph: FlatGraph, node: fx.Node) -> bool:
    """True where dimension 0 of the node's tensor is exactly the image batch."""
    shape = node.meta["val"].shape
    return len(shape) > 0 and _same(shape[0], graph.batch)


def is_number(node: fx.Node) -> bool:
    """Nodes that compute sizes, not tensors."""
    return isinstance(node.meta.get("val"), int | float | bool | torch.SymInt | torch.SymFloat | torch.SymBool)


def live_after(graph: FlatGraph, position: int, first: fx.Node) -> tuple[fx.Node, ...]:
    """The tensors that are computed at or before `position` and used behind it; `first` leads."""
    index = {n: i for i, n in enumerate(graph.nodes)}
    live = [first]
    for node in (graph.image, *graph.nodes[: position + 1]):
        if node is first or is_number(node) or node.target is BATCH_NORM:
            continue
        used_later = any(_last_use(user, index) > position for user in node.users) or node is graph.logits
        if used_later:
            live.append(node)
    return tuple(live)


def _last_use(user: fx.Node, index: dict[fx.Node, int]) -> int:
    # A batch norm is one operator with its getitem; a size node is recomputed wherever it is used.
    if user.op == "output":
        return 1 << 60
    return index[user]


def segment_module(
    graph: FlatGraph, inputs: Sequence[fx.Node], body: Sequence[fx.Node], outputs: Sequence[fx.Node]
) -> fx.GraphModule:
    """A module (state tensors) -> tuple of tensors that runs `body`, a run of `graph.nodes`."""
    builder = _SegmentBuilder(graph, inputs)
    for node in body:
        if not is_number(node):
            builder.emit(node)
    builder.new.output(tuple(builder.env[n] for n in outputs))
    return fx.GraphModule(builder.root, builder.new)


class _SegmentBuilder:
    def __init__(self, graph: FlatGraph, inputs: Sequence[fx.Node]) -> None:
        self.graph = graph
        self.new = fx.Graph()
        self.root = torch.nn.Module()
        self.env: dict[fx.Node, fx.Node] = {n: self.new.placeholder(n.name) for n in inputs}
        # Sizes are taken from a tensor at hand: a suffix may run with another batch than the prefix did.
        self.reference = next((n for n in inputs if has_plain_batch(graph, n)), None)

    def emit(self, node: fx.Node) -> None:
        if node.target is BATCH_NORM:
            x, weight, bias, mean, var, momentum, eps = (self.value(a) for a in node.args)
            folded = (x, weight, bias, mean, var, False, momentum, eps, torch.backends.cudnn.enabled)
            self.env[node] = self.new.call_function(torch.batch_norm, folded)
        elif node.target is operator.getitem and node.args[0].target is BATCH_NORM:  # type: ignore[union-attr]
            if node.args[1] != 0:
                raise BadInput(f"Operator {node.name} uses the statistics of a batch norm; this is not supported.")
            self.env[node] = self.env[node.args[0]]  # type: ignore[index]
        else:
            args = fx.node.map_arg(node.args, self.value)
            kwargs = fx.node.map_arg(node.kwargs, self.value)
            self.env[node] = self.new.call_function(node.target, args, kwargs)  # type: ignore[arg-type]

    def value(self, node: Any) -> Any:
        if not isinstance(node, fx.Node):
            return node
        if node in self.env:
            return self.env[node]
        if node in self.graph.tensors:
            return self._attribute(node)
        if is_number(node):
            return self._size(node)
        raise AssertionError(f"{node.name} is not live in this segment")

    def _attribute(self, node: fx.Node) -> fx.Node:
        if not hasattr(self.root, node.name):
            self.root.register_buffer(node.name, self.graph.tensors[node], persistent=False)
        self.env[node] = self.new.get_attr(node.name)
        return self.env[node]

    def _size(self, node: fx.Node) -> fx.Node:
        if node.target is aten.sym_size.int and node.args[0] not in self.env:
            if self.reference is None or not _same(node.meta["val"], self.graph.batch):
                raise BadInput(f"The size {node.name} cannot be followed through the network.")
            self.env[node] = self.new.call_function(aten.sym_size.int, (self.env[self.reference], 0))
        else:
            args = fx.node.map_arg(node.args, self.value)
            self.env[node] = self.new.call_function(node.target, args)  # type: ignore[arg-type]
        return self.env[node]


def _symbols(size: Any) -> frozenset[Any]:
    return frozenset(size.node.expr.free_symbols) if isinstance(size, torch.SymInt) else frozenset()


def _same(size: Any, other: Any) -> bool:
    if isinstance(size, torch.SymInt) and isinstance(other, torch.SymInt):
        return bool(size.node.expr == other.node.expr)
    return False
