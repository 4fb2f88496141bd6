"""A run of a flat graph's operators as one module, as fast as eager operators allow.

Batch norm is folded into the convolution before it, a ReLU overwrites an input that nothing else reads, and tensors
are laid out as the network asks. Logits move by float32 rounding only.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from repair_engine.errors import BadInput
from repair_engine.network.graph import BATCH_NORM, FlatGraph, aten, is_number, per_image

_FOLDABLE = {aten.conv2d.default, aten.conv2d.padding, aten.convolution.default}
# Operators whose output is a new tensor, which one reader may overwrite.
_FRESH = _FOLDABLE | {BATCH_NORM, aten.add.Tensor}
_TRANSPOSED = 6  # argument of aten.convolution
# A view needs strides that a channels-last tensor does not have; a reshape copies then.
_VIEWS = {aten.view.default, aten._unsafe_view.default}


def segment_module(
    graph: FlatGraph,
    inputs: Sequence[fx.Node],
    body: Sequence[fx.Node],
    outputs: Sequence[fx.Node],
    layout: torch.memory_format = torch.contiguous_format,
) -> fx.GraphModule:
    """A module (state tensors) -> tuple of tensors that runs `body`, a run of `graph.nodes`.

    Args:
        layout: of weights; of the images too, which are the caller's.
    """
    builder = _SegmentBuilder(graph, inputs, body, outputs, layout)
    for node in body:
        if not is_number(node):
            builder.emit(node)
    builder.new.output(tuple(builder.env[n] for n in outputs))
    builder.new.eliminate_dead_code()  # convolutions that were folded
    return fx.GraphModule(builder.root, builder.new)


def _reference(graph: FlatGraph, inputs: Sequence[fx.Node]) -> tuple[fx.Node, int, int] | None:
    """A tensor that tells the number of images, the dimension that does, and its places an image."""
    found = [(n, d, per_image(graph, s)) for n in inputs for d, s in enumerate(n.meta["val"].shape)]
    usable = [(n, d, share) for n, d, share in found if share]
    return min(usable, key=lambda one: (one[2], one[1]), default=None)


class _SegmentBuilder:
    def __init__(
        self,
        graph: FlatGraph,
        inputs: Sequence[fx.Node],
        body: Sequence[fx.Node],
        outputs: Sequence[fx.Node],
        layout: torch.memory_format,
    ) -> None:
        self.graph, self.layout = graph, layout
        self.body, self.outputs = set(body), set(outputs)
        self.new = fx.Graph()
        self.root = torch.nn.Module()
        self.env: dict[fx.Node, fx.Node] = {n: self.new.placeholder(n.name) for n in inputs}
        # Sizes are taken from a tensor at hand: a suffix may run with another batch than the prefix did.
        self.reference = _reference(graph, inputs)

    def emit(self, node: fx.Node) -> None:
        if node.target is BATCH_NORM:
            self.env[node] = self._folded(node) or self._batch_norm(node)
        elif node.target is operator.getitem and node.args[0].target is BATCH_NORM:  # type: ignore[union-attr]
            if node.args[1] != 0:
                raise BadInput(f"Operator {node.name} uses the statistics of a batch norm; this is not supported.")
            self.env[node] = self.env[node.args[0]]  # type: ignore[index]
        else:
            args = fx.node.map_arg(node.args, self.value)
            kwargs = fx.node.map_arg(node.kwargs, self.value)
            target: Any = node.target
            if target in _VIEWS:
                target = aten.reshape.default
            elif target is aten.relu.default and self._may_overwrite(node.args[0]):
                target = aten.relu_.default
            self.env[node] = self.new.call_function(target, args, kwargs)

    def value(self, node: Any) -> Any:
        if not isinstance(node, fx.Node):
            return node
        if node in self.env:
            return self.env[node]
        if node in self.graph.tensors:
            self.env[node] = self._buffer(node.name, self.graph.tensors[node])
            return self.env[node]
        if is_number(node):
            return self._size(node)
        raise AssertionError(f"{node.name} is not live in this segment")

    def _batch_norm(self, node: fx.Node) -> fx.Node:
        x, weight, bias, mean, var, momentum, eps = (self.value(a) for a in node.args)
        arguments = (x, weight, bias, mean, var, False, momentum, eps, torch.backends.cudnn.enabled)
        return self.new.call_function(torch.batch_norm, arguments)

    def _folded(self, norm: fx.Node) -> fx.Node | None:
        """The convolution before a batch norm with the norm in its weights; None where it has other readers."""
        conv = norm.args[0]
        if not isinstance(conv, fx.Node) or conv.target not in _FOLDABLE or conv not in self.body:
            return None
        if len(conv.users) > 1 or (conv.target is aten.convolution.default and conv.args[_TRANSPOSED]):
            return None
        names = ("input", "weight", "bias")
        given: list[Any] = [*conv.args[:3], *(conv.kwargs.get(name) for name in names[len(conv.args) :])]
        image, weight_of, bias_of = given
        weight, gamma, beta, mean, var = (self._double(n) for n in (weight_of, *norm.args[1:5]))
        bias = self._double(bias_of)
        if weight is None or gamma is None or beta is None or mean is None or var is None:
            return None
        if bias_of is not None and bias is None:
            return None
        epsilon: Any = norm.args[6]
        factor = gamma / torch.sqrt(var + epsilon)
        shift = beta - mean * factor if bias is None else beta + (bias - mean) * factor
        arguments = [
            self.value(image),
            self._buffer(f"{norm.name}_weight", (weight * factor.view(-1, 1, 1, 1)).float()),
            self._buffer(f"{norm.name}_bias", shift.float()),
            *fx.node.map_arg(tuple(conv.args[3:]), self.value),
        ]
        kwargs = {name: value for name, value in conv.kwargs.items() if name not in names}
        return self.new.call_function(conv.target, tuple(arguments), kwargs)

    def _double(self, node: Any) -> torch.Tensor | None:
        """A parameter's values in float64; None for what is computed or absent."""
        tensor = self.graph.tensors.get(node) if isinstance(node, fx.Node) else None
        return None if tensor is None else tensor.double()

    def _may_overwrite(self, node: Any) -> bool:
        source = node.args[0] if node.target is operator.getitem else node
        fresh = source in self.body and source.target in _FRESH
        return fresh and len(node.users) == 1 and node not in self.outputs and source not in self.outputs

    def _buffer(self, name: str, tensor: torch.Tensor) -> fx.Node:
        if not hasattr(self.root, name):
            laid = tensor.contiguous(memory_format=self.layout) if tensor.dim() == 4 else tensor
            self.root.register_buffer(name, laid, persistent=False)
        return self.new.get_attr(name)

    def _size(self, node: fx.Node) -> fx.Node:
        if node.target is aten.sym_size.int and node.args[0] not in self.env:
            times = per_image(self.graph, node.meta["val"])
            if self.reference is None or times is None:
                raise BadInput(f"The size {node.name} cannot be followed through the network.")
            dim, share = self.reference[1:]
            size = self.new.call_function(aten.sym_size.int, (self.env[self.reference[0]], dim))
            batch = size if share == 1 else self.new.call_function(operator.floordiv, (size, share))
            self.env[node] = batch if times == 1 else self.new.call_function(operator.mul, (batch, times))
        else:
            args = fx.node.map_arg(node.args, self.value)
            self.env[node] = self.new.call_function(node.target, args)  # type: ignore[arg-type]
        return self.env[node]
