"""What a graph computes of its own constants alone, such as the masks of shifted windows: computed once, at import.

By the onnx package's reference evaluator, in the child process.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from repair_engine.errors import BadInput

_FOLDED = {
    "Add", "And", "Cast", "Concat", "ConstantOfShape", "Div", "Equal", "Expand", "Flatten", "Gather", "Greater",
    "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Mod", "Mul", "Neg", "Not", "Or", "Range", "Reshape",
    "ScatterND", "Shape", "Slice", "Split", "Squeeze", "Sub", "Tile", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip
_MAX_ELEMENTS = 1 << 22
_IMAGES = 3


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
        if proto.op_type in _FOLDED and all(value in known for value in proto.input if value):
            known.update(proto.output)
            computed.append(proto)
        else:
            left.append(proto)
    read = {value for proto in left for value in proto.input}
    wanted = [value for proto in computed for value in proto.output if value in read]
    return left, _values(computed, wanted, constants, opset, name) if wanted else {}


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
        if proto is None or proto.op_type not in _FOLDED or (image in proto.input and proto.op_type != "Shape"):
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
    from onnx import TensorProto, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    given = {value for proto in protos for value in proto.input} & set(constants)
    tensors = []
    for value in sorted(given):
        held = constants[value]
        tensor = numpy_helper.from_array(held, value) if isinstance(held, np.ndarray) else TensorProto()
        if not isinstance(held, np.ndarray):
            tensor.CopyFrom(held)
            tensor.name = value
        tensors.append(tensor)
    outputs = [helper.make_empty_tensor_value_info(value) for value in wanted]
    graph = helper.make_graph(list(protos), "constants", [], outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    try:
        found = [np.asarray(array) for array in ReferenceEvaluator(model).run(None, {})]
    except Exception as error:
        raise BadInput(
            f"{name}: what it computes of its constants cannot be computed: {type(error).__name__}: {str(error)[:300]}"
        ) from error
    large = next((value for value, array in zip(wanted, found) if math.prod(array.shape) > _MAX_ELEMENTS), None)
    if large is not None:
        raise BadInput(f"{name}: the constant {large!r} that it computes has more than {_MAX_ELEMENTS:,} elements.")
    return dict(zip(wanted, found))
