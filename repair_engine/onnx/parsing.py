"""An ONNX message -> `GraphPlan`: what is in the file is checked here, before any of it is run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from repair_engine.errors import BadInput
from repair_engine.onnx.channels_last import draw_activations, draw_biases
from repair_engine.onnx.folding import FOLDED, draw_reshapes, fold, fold_sizes
from repair_engine.onnx.fusing import fuse
from repair_engine.onnx.linears import draw_linears
from repair_engine.onnx.operators import SUPPORTED
from repair_engine.onnx.plan import Attribute, Constant, GraphPlan, Node, Size, Weight
from repair_engine.onnx.standardized import INSTEAD_OF_STANDARDIZED, STANDARDIZED, of_images, standardizes
from repair_engine.onnx.wire import Span

MIN_OPSET, MAX_OPSET = 9, 23
MAX_NODES = 20_000
MAX_CONSTANT_BYTES = 32 << 20
_EXPORT = (
    "Export it again in eval mode as one float32 file of standard operators, for example with torch.onnx.export(model, "
    "images, 'model.onnx', opset_version=18, external_data=False)."
)
# Inputs that must be known when the graph is built, by position.
_STATIC: dict[str, tuple[int, ...]] = {
    "Clip": (1, 2),
    "Dropout": (1, 2),
    "Expand": (1,),
    "Gather": (1,),
    "Pad": (1, 2, 3),
    "ReduceMax": (1,),
    "ReduceMean": (1,),
    "ReduceSum": (1,),
    "Reshape": (1,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Unsqueeze": (1,),
}
_ELEMENTWISE = {"Add", "Sub", "Mul", "Div", "Pow", "Max", "Min"}
_ENDS = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid"}


def read_plan(model: Any, spans: Sequence[Span], name: str) -> GraphPlan:
    """The plan of an `onnx.ModelProto`.

    Args:
        spans: of the file's float32 initializers (`wire.float_spans`).
        name: the file's name, for messages.

    Raises:
        BadInput: anything that cannot be imported exactly, naming it.
    """
    graph = model.graph
    opset = _opset(model, name)
    _check_structure(model, name)
    initializers = _initializers(graph, name)
    image = _image(graph, initializers, name)
    if len(graph.output) != 1:
        shown = ", ".join(repr(o.name) for o in graph.output[:6]) or "none"
        raise BadInput(
            f"{name} has {len(graph.output)} outputs ({shown}); one is needed: the logits or the probabilities.",
            "Export the classifier's output alone.",
        )
    output = graph.output[0].name
    needed = _needed(graph.node, output)
    # a Constant node of float32 is an initializer in all but name
    inline = {p.output[0]: p.attribute[0].t for p in needed if _is_weight(p)}
    _check_twice(initializers, inline, name)
    inner = {p.output[0]: _constant_value(p, name) for p in needed if p.op_type == "Constant" and not _is_weight(p)}
    protos = [p for p in needed if p.op_type != "Constant"]
    fixed = {**_fixed({**initializers, **inline}, protos), **inner}
    protos, folded = fold(protos, fixed, opset, name)
    dims = [_dimension(d) for d in image.type.tensor_type.shape.dim]
    size, channels_last = _layout(dims, image.name, name)
    unread = {called(proto) for proto in protos} - SUPPORTED
    if unread and unread <= FOLDED:
        fixed |= folded
        protos, sized = fold_sizes(protos, {**initializers, **inline, **fixed}, fixed, (image.name, dims), opset, name)
        folded |= sized
    protos, shapes = draw_reshapes(protos, {**fixed, **folded}, image.name, opset)
    protos, folded = _needed(protos, output), {**folded, **shapes}
    _check_operators(protos, image.name, name)
    nodes = [_node(proto, name) for proto in protos]
    nodes, logits, ends = _without_end(nodes, output, opset)
    weights, more = _weights({**initializers, **inline}, nodes, {s.name: s for s in spans}, name)
    found = {key: Constant.of(array) for key, array in (inner | folded).items()}
    constants = _limited({**found, **more}, nodes, name)
    _check_order(nodes, {image.name, *constants, *weights}, logits, name)
    nodes, weights = draw_linears(*draw_biases(nodes, weights, logits), logits)
    return GraphPlan(
        opset=opset,
        producer=" ".join(_text(p) for p in (model.producer_name, model.producer_version) if p)[:100],
        input=image.name,
        size=size,
        channels_last=channels_last,
        batch=dims[0],
        logits=logits,
        output=output,
        ends=ends,
        nodes=tuple(draw_activations(fuse(nodes, constants), constants, logits)),
        constants=constants,
        weights=weights,
    )


def _text(value: str | bytes) -> str:
    """protobuf gives bytes for a string field that is no UTF-8."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _is_weight(proto: Any) -> bool:
    a = proto.attribute[0] if proto.op_type == "Constant" and len(proto.attribute) == 1 else None
    return a is not None and a.name == "value" and a.t.data_type == 1


def _check_twice(initializers: Mapping[str, Any], inline: Mapping[str, Any], name: str) -> None:
    twice = next((key for key in inline if key in initializers), None)
    if twice is not None:
        raise BadInput(f"{name}: the value {twice!r} is given twice.")


def _dimension(dim: Any) -> int | None:
    """A size, or None where it is free: named, left out, or what some exporters write for that, -1 or 0."""
    return int(dim.dim_value) if dim.WhichOneof("value") == "dim_value" and dim.dim_value > 0 else None


def _opset(model: Any, name: str) -> int:
    versions = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    if len(versions) != 1:
        raise BadInput(f"{name} does not say which version of the standard operators it uses.", _EXPORT)
    if not MIN_OPSET <= versions[0] <= MAX_OPSET:
        raise BadInput(
            f"{name} uses opset {versions[0]}; opsets {MIN_OPSET} to {MAX_OPSET} are supported.",
            "Export it again with opset_version=18.",
        )
    return int(versions[0])


def _check_structure(model: Any, name: str) -> None:
    graph = model.graph
    if len(model.functions):
        shown = ", ".join(f.name for f in model.functions[:5])
        raise BadInput(
            f"{name} defines {len(model.functions)} functions of its own ({shown}).",
            "Inline them: onnx.inliner.inline_local_functions(model).",
        )
    if len(graph.sparse_initializer):
        raise BadInput(f"{name} holds sparse initializers; they cannot be edited exactly.", _EXPORT)
    if len(model.training_info):
        raise BadInput(f"{name} holds training information; only graphs for inference are read.", _EXPORT)
    if not 0 < len(graph.node) <= MAX_NODES:
        raise BadInput(f"{name} has {len(graph.node):,} nodes; 1 to {MAX_NODES:,} are read.")
    outside = [t.name for t in _all_tensors(graph) if t.data_location == 1 or len(t.external_data)]
    if outside:
        raise BadInput(
            f"{name} keeps {len(outside)} of its tensors in other files (external data), such as {outside[0]!r}.",
            "Save it as one file: torch.onnx.export(…, external_data=False), or onnx.save(onnx.load('model.onnx'), "
            "'one_file.onnx').",
        )


def _all_tensors(graph: Any) -> Iterable[Any]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _initializers(graph: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for tensor in graph.initializer:
        if not tensor.name or tensor.name in found:
            raise BadInput(f"{name}: the initializer {tensor.name!r} has no name, or the name of another one.")
        found[tensor.name] = tensor
    return found


def _image(graph: Any, initializers: Mapping[str, Any], name: str) -> Any:
    inputs = [i for i in graph.input if i.name not in initializers]
    if len(inputs) != 1:
        shown = ", ".join(repr(i.name) for i in inputs[:6]) or "none"
        raise BadInput(f"{name} has {len(inputs)} inputs ({shown}); one is needed: the images.", _EXPORT)
    kind = inputs[0].type.tensor_type
    if kind.elem_type != 1:
        raise BadInput(
            f"{name}: the input {inputs[0].name!r} is of type {_type_name(kind.elem_type)}; float32 images are needed."
        )
    return inputs[0]


def _layout(dims: Sequence[int | None], input_name: str, name: str) -> tuple[Size, bool]:
    if len(dims) != 4:
        raise BadInput(
            f"{name}: the input {input_name!r} has {len(dims)} dimensions; images are "
            "[batch, channels, height, width] or [batch, height, width, channels]."
        )
    few = [d is not None and 1 <= d <= 4 for d in dims]
    channels_last = few[3] and not few[1]
    channels, height, width = (dims[i] for i in ((3, 1, 2) if channels_last else (1, 2, 3)))
    return (channels, height, width), channels_last


def _needed(nodes: Sequence[Any], output: str) -> list[Any]:
    """The nodes that the output depends on, in the graph's order."""
    wanted, kept = {output}, []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]


def called(node: Any) -> str:
    """The operator of a node, with its domain where that is not ONNX's own."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"


def _check_operators(nodes: Sequence[Any], image: str, name: str) -> None:
    unknown = Counter(called(n) for n in nodes if called(n) not in SUPPORTED)
    if unknown:
        shown = ", ".join(f"{op} ({count})" for op, count in sorted(unknown.items()))
        raise BadInput(
            f"{name} uses {len(unknown)} operators that are not supported, in {sum(unknown.values())} of "
            f"{len(nodes)} nodes: {shown}." + (f" {STANDARDIZED}" if standardizes(nodes, image) else ""),
            INSTEAD_OF_STANDARDIZED
            if standardizes(nodes, image)
            else "Quantized graphs and custom operators cannot be edited exactly. "
            + _EXPORT
            + (
                " The older exporter computes shifts and masks anew for every image: fix height and width, or add "
                "dynamo=True." * (not unknown.keys().isdisjoint({"Mod", "Range", "ScatterND"}))
            ),
        )
    seen = of_images(nodes, image)
    for node in nodes:
        training = any(a.name == "training_mode" and a.i for a in node.attribute)
        if training and (node.op_type != "BatchNormalization" or seen.intersection(node.output)):
            raise BadInput(f"{name}: {node.op_type} {node.name!r} is in training mode.", _EXPORT)


def _fixed(initializers: Mapping[str, Any], protos: Sequence[Any]) -> dict[str, Any]:
    """The initializers that are no parameters: whole numbers, single numbers, and what is put into masks."""
    read_by: dict[str, set[str]] = {}
    for proto in protos:
        for value in proto.input:
            read_by.setdefault(value, set()).add(proto.op_type)
    return {
        key: tensor
        for key, tensor in initializers.items()
        if tensor.data_type != 1 or np.prod(tensor.dims, dtype=object) == 1 or read_by.get(key) == {"ScatterND"}
    }


def _node(proto: Any, name: str) -> Node:
    attributes = {a.name: _attribute(a, proto, name) for a in proto.attribute}
    return Node(proto.op_type, tuple(proto.input), tuple(proto.output), attributes, proto.name)


def _constant_value(proto: Any, name: str) -> np.ndarray:
    if len(proto.attribute) == 1:
        a = proto.attribute[0]
        if a.name == "value":
            return _array(a.t, name)
        if a.name in ("value_int", "value_ints"):
            return np.asarray(a.i if a.name == "value_int" else list(a.ints), dtype=np.int64)
        if a.name in ("value_float", "value_floats"):
            return np.asarray(a.f if a.name == "value_float" else list(a.floats), dtype=np.float32)
    raise BadInput(f"{name}: the constant {proto.output[0]!r} is of a kind that is not supported.", _EXPORT)


def _attribute(a: Any, proto: Any, name: str) -> Attribute:
    kinds = {1: a.f, 2: a.i, 3: a.s.decode("utf-8", "replace"), 6: list(a.floats), 7: list(a.ints)}
    if a.type == 4 and proto.op_type == "ConstantOfShape" and (array := _array(a.t, name)).size == 1:
        return array.item()
    if a.type not in kinds:
        raise BadInput(f"{name}: {proto.op_type} {proto.name!r} has an attribute {a.name!r} that is not supported.")
    return kinds[a.type]


def _without_end(nodes: list[Node], output: str, opset: int) -> tuple[list[Node], str, str]:
    """The nodes up to the logits, the logits' name and what the output is of them."""
    while nodes and nodes[-1].outputs[0] == output and nodes[-1].op == "Identity":
        output, nodes = nodes[-1].inputs[0], nodes[:-1]
    last = nodes[-1] if nodes else None
    if last is None or last.outputs[0] != output or last.op not in _ENDS:
        return nodes, output, ""
    axis = last.attributes.get("axis", 1 if opset < 13 else -1)
    if last.op != "Sigmoid" and axis not in (1, -1):
        return nodes, output, ""
    return nodes[:-1], last.inputs[0], _ENDS[last.op]


def _weights(
    initializers: Mapping[str, Any],
    nodes: Sequence[Node],
    spans: Mapping[str, Span],
    name: str,
) -> tuple[dict[str, Weight], dict[str, Constant]]:
    """Initializers that the nodes read: float32 tensors are weights, the rest are constants."""
    uses: dict[str, list[tuple[str, int]]] = {}
    for node in nodes:
        for position, value in enumerate(node.inputs):
            if value in initializers:
                uses.setdefault(value, []).append((node.op, position))
    fixed: dict[str, Constant] = {}
    tensors: dict[str, Any] = {}
    for key, used in uses.items():
        tensor = initializers[key]
        static = any(position in _STATIC.get(op, ()) for op, position in used)
        count = int(np.prod(tensor.dims, dtype=object))
        single = not tensor.dims or (count == 1 and all(op in _ELEMENTWISE for op, _ in used))
        if tensor.data_type in (10, 11, 16) and not static and not single:
            raise BadInput(
                f"{name}: the initializer {key!r} is of type {_type_name(tensor.data_type)}; only float32 graphs are "
                "edited.",
                _EXPORT,
            )
        if tensor.data_type == 1 and not static and not single and key in spans:
            if min(tensor.dims) < 1 or count * 4 != spans[key].stop - spans[key].start:
                raise BadInput(f"{name}: the initializer {key!r} does not fill its shape {list(tensor.dims)}.")
            tensors[key] = tensor
        else:
            fixed[key] = Constant.of(_array(tensor, name))
    keys = module_keys(list(tensors))
    return {k: Weight(keys[k], tuple(int(d) for d in t.dims)) for k, t in tensors.items()}, fixed


def module_keys(names: Sequence[str]) -> dict[str, str]:
    """Names of initializers -> keys of a state dict: the same wherever a module can have such a key."""
    keys: dict[str, str] = {}
    prefixes = {name[:i] for name in names for i, c in enumerate(name) if c == "."}
    taken = set(names)
    for name in names:
        parts = name.split(".")
        fits = name not in prefixes and all(p and p[0] != "_" and not hasattr(_Probe, p) for p in parts)
        key = name
        while not fits:
            key = key.replace(".", "_") + "_"
            fits = key not in taken and key not in prefixes
        taken.add(key)
        keys[name] = key
    return keys


def _limited(constants: dict[str, Constant], nodes: Sequence[Node], name: str) -> dict[str, Constant]:
    used = {value for node in nodes for value in node.inputs}
    kept = {key: constant for key, constant in constants.items() if key in used}
    size = sum(len(c.data) for c in kept.values())
    if size > MAX_CONSTANT_BYTES:
        raise BadInput(f"{name}: its constants take {size:,} bytes; at most {MAX_CONSTANT_BYTES:,} are read.", _EXPORT)
    return kept


def _check_order(nodes: Sequence[Node], known: set[str], logits: str, name: str) -> None:
    for node in nodes:
        missing = [value for value in node.inputs if value and value not in known]
        if missing:
            raise BadInput(f"{name}: {node.op} {node.name!r} reads {missing[0]!r}, which nothing before it gives.")
        again = [value for value in node.outputs if value and value in known]
        if again:
            raise BadInput(f"{name}: the value {again[0]!r} is given twice.")
        known.update(node.outputs)
    if logits not in known:
        raise BadInput(f"{name}: nothing gives its output {logits!r}.")


def _array(tensor: Any, name: str) -> np.ndarray:
    import onnx.numpy_helper

    if int(np.prod(tensor.dims, dtype=object)) * 8 > 4 * MAX_CONSTANT_BYTES:
        raise BadInput(f"{name}: the constant {tensor.name!r} of shape {list(tensor.dims)} is too large.", _EXPORT)
    try:
        array = np.asarray(onnx.numpy_helper.to_array(tensor))
    except Exception as error:
        raise BadInput(f"{name}: the tensor {tensor.name!r} cannot be read: {error}") from error
    if array.dtype.kind not in "fiub" or array.dtype.name == "bfloat16":
        raise BadInput(f"{name}: the tensor {tensor.name!r} is of type {array.dtype}, which is not supported.", _EXPORT)
    return array


def _type_name(code: int) -> str:
    import onnx

    return str(onnx.TensorProto.DataType.Name(code)) if code in onnx.TensorProto.DataType.values() else str(code)


def _probe() -> Any:
    import torch

    return torch.nn.Module()


_Probe = _probe()  # what names a module's attributes have already
