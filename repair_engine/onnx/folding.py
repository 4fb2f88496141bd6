"""What a graph computes of its own constants or sizes alone, such as the masks of shifted windows: once, at import.

Of constants by the onnx package's reference evaluator, of sizes as `reference.evaluate`, in the child process.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from repair_engine.errors import BadInput
from repair_engine.onnx.reference import evaluate

FOLDED = {
    "Add", "And", "Cast", "Concat", "ConstantOfShape", "Div", "Equal", "Expand", "Flatten", "Gather", "Greater",
    "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Mod", "Mul", "Neg", "Not", "Or", "Range", "Reshape",
    "ScatterND", "Shape", "Slice", "Split", "Squeeze", "Sub", "Tile", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip
_OF_SIZES = FOLDED | {"Pow", "Sqrt"}  # also the scale of attention
_MAX_ELEMENTS = 1 << 22
_IMAGES = 3
_BATCHES = (1, 2, 5)  # numbers of images for which sizes are looked at


def fold(
    protos: Sequence[Any], constants: Mapping[str, Any], opset: int, name: str
) -> tuple[list[Any], dict[str, np.ndarray]]:
    """The nodes that are left, and the values that the others give.

    Args:
        protos: the nodes in order, but for constants.
        constants: name -> array or tensor message of what no repair changes.

    Raises:
        BadInput: they cannot be computed, or are too large.
    """
    known = set(constants)
    computed, left = [], []
    for proto in protos:
        if proto.op_type in FOLDED and all(value in known for value in proto.input if value):
            known.update(proto.output)
            computed.append(proto)
        else:
            left.append(proto)
    read = {value for proto in left for value in proto.input}
    wanted = [value for proto in computed for value in proto.output if value in read]
    return left, _values(computed, wanted, constants, opset, name) if wanted else {}


def fold_sizes(
    protos: Sequence[Any],
    tensors: Mapping[str, Any],
    constants: Mapping[str, Any],
    image: tuple[str, Sequence[int | None]],
    opset: int,
    name: str,
) -> tuple[list[Any], dict[str, np.ndarray]]:
    """As `fold`, of what is computed of the sizes of tensors: what is the same for any number of images.

    torch's older exporter writes shifts and masks of windows so. The whole graph is run for it on a few black images.

    Args:
        tensors: all weights and constants, name -> array or tensor message.
        constants: those of them that no repair changes.
        image: the input's name and dimensions; free ones but for the batch leave all as it is.

    Raises:
        BadInput: it cannot be run, or a constant is too large.
    """
    of_sizes: set[str] = set()
    for proto in protos:
        known = all(value in constants or value in of_sizes for value in proto.input if value)
        if proto.op_type == "Shape" or (proto.op_type in _OF_SIZES and known):
            of_sizes.update(proto.output)
    value, (batch, *sizes) = image
    if None in sizes:
        return list(protos), {}
    wanted = [output for proto in protos for output in proto.output if output in of_sizes]
    model = _model(protos, wanted, tensors, opset, (value, [None, *sizes]))
    runs = []
    for count in _BATCHES if batch is None else (batch,):
        try:
            runs.append(evaluate(model, {value: np.zeros((count, *sizes), np.float32)}))  # type: ignore[arg-type]
        except Exception as error:
            raise BadInput(
                f"{name}: what it computes of sizes cannot be computed: {type(error).__name__}: {str(error)[:300]}",
                "Export it by torch's newer exporter: torch.onnx.export(…, dynamo=True).",
            ) from error
    same = {
        output: found[0]
        for output, *found in zip(wanted, *runs, strict=True)
        if all(one.dtype == found[0].dtype and np.array_equal(one, found[0]) for one in found)
    }
    _check_size(same, name)
    return [proto for proto in protos if not same.keys() >= set(proto.output)], same


def draw_reshapes(
    protos: Sequence[Any], constants: Mapping[str, Any], image: str, opset: int
) -> tuple[list[Any], dict[str, np.ndarray]]:
    """Each Gather of all numbers of a flattened tensor in their order becomes a Reshape: torch's exporter writes a pool
    behind a change of layout (as in Swin and ConvNeXt) as such a Gather, its table made of the number of images.

    Returns:
        The nodes, and the shapes that the Reshapes read. Whether it computes the same is checked with the whole import.
    """
    from onnx import helper

    maker = {value: proto for proto in protos for value in proto.output}
    made, shapes = list(protos), {}
    for place, proto in enumerate(protos):
        flat = maker.get(proto.input[0]) if proto.op_type == "Gather" and proto.input[1] not in constants else None
        if flat is None or flat.op_type != "Reshape" or not _is_flat(constants.get(flat.input[1])):
            continue
        table = _table(proto.input[1], maker, constants, image, opset)
        if table is None or len(table) != _IMAGES or not np.array_equal(table.flatten(), np.arange(table.size)):
            continue
        shape = f"{proto.output[0]}:shape"
        shapes[shape] = np.array([-1, *table.shape[1:]], dtype=np.int64)
        made[place] = helper.make_node("Reshape", [flat.input[0], shape], list(proto.output), proto.name)
    return made, shapes


def _is_flat(target: Any) -> bool:
    from onnx import numpy_helper

    if target is None:
        return False
    return (target if isinstance(target, np.ndarray) else numpy_helper.to_array(target)).tolist() == [-1]


def _table(
    value: str, maker: Mapping[str, Any], constants: Mapping[str, Any], image: str, opset: int
) -> np.ndarray | None:
    """What a value is for three images, where it depends on nothing but their number."""
    behind: dict[int, Any] = {}
    frontier = [value]
    while frontier:
        one = frontier.pop()
        proto = maker.get(one)
        if one in constants or (one == image) or (proto is not None and id(proto) in behind):
            continue
        if proto is None or proto.op_type not in FOLDED or (image in proto.input and proto.op_type != "Shape"):
            return None
        behind[id(proto)] = proto
        frontier += [name for name in proto.input if name]
    order = [proto for proto in dict.fromkeys(map(id, maker.values())) if proto in behind]
    images = np.zeros((_IMAGES, 1, 1, 1), np.float32)
    try:
        return _values([behind[i] for i in order], [value], {**constants, image: images}, opset, "")[value]
    except BadInput:
        return None


def _values(
    protos: Sequence[Any], wanted: Sequence[str], constants: Mapping[str, Any], opset: int, name: str
) -> dict[str, np.ndarray]:
    from onnx.reference import ReferenceEvaluator

    given = {value for proto in protos for value in proto.input} & set(constants)
    model = _model(protos, wanted, {value: constants[value] for value in sorted(given)}, opset)
    try:
        found = [np.asarray(array) for array in ReferenceEvaluator(model).run(None, {})]
    except Exception as error:
        raise BadInput(
            f"{name}: what it computes of its constants cannot be computed: {type(error).__name__}: {str(error)[:300]}"
        ) from error
    values = dict(zip(wanted, found))
    _check_size(values, name)
    return values


def _check_size(values: Mapping[str, np.ndarray], name: str) -> None:
    large = next((value for value, array in values.items() if math.prod(array.shape) > _MAX_ELEMENTS), None)
    if large is not None:
        raise BadInput(f"{name}: the constant {large!r} that it computes has more than {_MAX_ELEMENTS:,} elements.")


def _model(
    protos: Sequence[Any],
    wanted: Sequence[str],
    tensors: Mapping[str, Any],
    opset: int,
    image: tuple[str, Sequence[int | None]] | None = None,
) -> Any:
    """A model of these nodes that gives the wanted values; its input is the image, or it has none."""
    from onnx import TensorProto, helper, numpy_helper

    held = []
    for value, array in tensors.items():
        tensor = numpy_helper.from_array(array, value) if isinstance(array, np.ndarray) else TensorProto()
        if not isinstance(array, np.ndarray):
            tensor.CopyFrom(array)
            tensor.name = value
        held.append(tensor)
    inputs = [] if image is None else [helper.make_tensor_value_info(image[0], TensorProto.FLOAT, image[1])]
    outputs = [helper.make_empty_tensor_value_info(value) for value in wanted]
    graph = helper.make_graph(list(protos), "constants", inputs, outputs, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
