"""Capture of a classifier as one flat ATen graph, and its cutting into segments.

`torch.export` gives every torchvision classifier as one straight list of operators, so nothing below is special
to an architecture. The list is cut after each *site* (see `sites`); a segment is the part between two cuts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from repair_engine.errors import BadInput
from repair_engine.support.words import first_line

aten = torch.ops.aten

BATCH_NORM = aten._native_batch_norm_legit_no_training.default
_BATCH_STATISTICS = {aten._native_batch_norm_legit.no_stats, aten._native_batch_norm_legit.default}
_MAX_BATCH = 2**20
PASS_THROUGH = {aten.clone.default, aten.alias.default, aten.detach.default, aten.dropout.default}
# A channel that is constant over positions stays so, with the same value.
KEEPS_CONSTANTS = PASS_THROUGH | {
    aten.max_pool2d.default,
    aten.adaptive_max_pool2d.default,
    aten.adaptive_avg_pool2d.default,
}
RESHAPES = {
    aten.view.default,
    aten.reshape.default,
    aten._unsafe_view.default,
    aten.flatten.using_ints,
    aten.squeeze.dims,
    aten.squeeze.dim,
}


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


def _try(module: torch.nn.Module, example: torch.Tensor) -> None:
    """Runs the plain module first: where images are too small, torch.export would log a traceback of its own."""
    try:
        with torch.no_grad():
            module(example)
    except Exception as error:  # whatever a forward() does with images that do not suit it
        channels, height, width = example.shape[1:]
        raise BadInput(
            f"The network takes no images of {width} × {height} pixels and {channels} channel{'s' * (channels > 1)}: "
            f"{first_line(error)}",
            "Give the size that it was trained with (--resize, --crop; for ImageNet mostly 256 and 224).",
        ) from error


def capture(module: torch.nn.Module, example: torch.Tensor) -> FlatGraph:
    """Captures `module` (eval mode) on images like `example` [2, C, H, W] with a free batch dimension.

    Raises:
        BadInput: the module takes no such images, cannot be captured, or does not return one tensor [B, classes].
    """
    _try(module.eval(), example)
    dims = ({0: torch.export.Dim("batch", min=1, max=_MAX_BATCH)},)
    try:
        with torch.no_grad(), _quiet():
            program = torch.export.export(module.eval(), (example,), dynamic_shapes=dims)
            program = program.run_decompositions({})
    except Exception as error:  # torch.export raises many kinds; all mean the same to the user
        raise BadInput(
            f"The network cannot be captured by torch.export on images of shape {tuple(example.shape[1:])}: "
            f"{first_line(error)}",
            "Check that forward() has no control flow that depends on the data and no fixed batch size (len(x) is one; "
            "x.shape[0] is not).",
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
    if len(shape) not in (1, 2) or not same_size(shape[0], batch):
        raise BadInput(f"The network returns a tensor of shape {tuple(shape)}; logits [batch, classes] are needed.")
    nodes = tuple(n for n in program.graph.nodes if n.op == "call_function")
    # a weight that is standardized is none of a batch
    if any(n.target in _BATCH_STATISTICS and _of_images(n.args[0], batch) for n in nodes):
        raise BadInput(
            "A batch norm without running statistics mixes the images of a batch; such a network cannot be valued.",
            "Train it with track_running_stats=True.",
        )
    random = next((n for n in nodes if _is_random(n)), None)
    if random is not None:
        raise BadInput(
            f"Operator {random.name} is random in eval mode, too: every prediction is another one.",
            "Its dropout (or drop path) must heed self.training: nn.Dropout, or F.dropout(x, p, self.training).",
        )
    return FlatGraph(nodes, image, logits, names, tensors, batch)


def _is_random(node: fx.Node) -> bool:
    """Operators that draw; dropout and attention draw where they are told to drop something."""
    target: Any = node.target
    if torch.Tag.nondeterministic_seeded not in getattr(target, "tags", ()):
        return False
    if target is aten.dropout.default:
        return bool(node.args[1]) and bool(node.args[2])
    if target is aten.scaled_dot_product_attention.default:
        return bool(node.args[4] if len(node.args) > 4 else node.kwargs.get("dropout_p", 0.0))
    return True


def _of_images(node: Any, batch: Any) -> bool:
    return any(_symbols(size) & _symbols(batch) for size in node.meta["val"].shape)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the tracebacks that torch logs of an operator that it cannot trace: the error says what is wrong."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


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
    return len(shape) > 0 and same_size(shape[0], graph.batch)


def per_image(graph: FlatGraph, size: Any) -> int | None:
    """How many times the number of images a size is; None where it is not a whole number of times."""
    if not isinstance(size, torch.SymInt):
        return None
    times = size.node.expr / graph.batch.node.expr
    return int(times) if times.is_Integer else None


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


def _symbols(size: Any) -> frozenset[Any]:
    return frozenset(size.node.expr.free_symbols) if isinstance(size, torch.SymInt) else frozenset()


def same_size(size: Any, other: Any) -> bool:
    if isinstance(size, torch.SymInt) and isinstance(other, torch.SymInt):
        return bool(size.node.expr == other.node.expr)
    return False
