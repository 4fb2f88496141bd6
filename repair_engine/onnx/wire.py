"""Where the weights lie in an ONNX file, so that it can be written back with nothing else changed.

An ONNX file is one protobuf message (https://protobuf.dev/programming-guides/encoding; onnx.proto: ModelProto.graph
is field 7, GraphProto.node 1, .initializer 5, NodeProto.output 2, .op_type 4, .attribute 5, AttributeProto.name 1,
.t 5, TensorProto.data_type 2, .float_data 4, .name 8, .raw_data 9). float32 weights, initializers and the values of
Constant nodes alike, are plain little-endian bytes in it, so a repaired file is the same file with other bytes in those
places: nodes, names, shapes, metadata and what this project does not know stay as they were, by construction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from repair_engine.errors import BadInput

_GRAPH, _NODE, _INITIALIZER = 7, 1, 5
_OUTPUT, _OP_TYPE, _ATTRIBUTE = 2, 4, 5
_ATTRIBUTE_NAME, _TENSOR = 1, 5
_DATA_TYPE, _FLOAT_DATA, _NAME, _RAW_DATA = 2, 4, 8, 9
_FLOAT = 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Span:
    """The bytes start..stop of a file that hold a float32 tensor: an initializer, or the value of a Constant node."""

    name: str
    start: int
    stop: int


def float_spans(data: bytes) -> list[Span]:
    """Spans of all float32 initializers and Constant nodes whose data lies in one piece, in file order.

    Raises:
        BadInput: the bytes are no protobuf message, or one with several graphs.
    """
    view = memoryview(data)
    graphs = [(a, b) for number, kind, a, b in _fields(view, 0, len(view)) if number == _GRAPH and kind == _BYTES]
    if len(graphs) != 1:
        raise BadInput(f"The file holds {len(graphs)} graphs; an ONNX model has one.")
    found = []
    for number, kind, start, stop in _fields(view, *graphs[0]):
        span = None
        if number == _INITIALIZER and kind == _BYTES:
            span = _span(view, start, stop)
        elif number == _NODE and kind == _BYTES:
            span = _constant(view, start, stop)
        if span is not None:
            found.append(span)
    return found


def split(data: bytes, spans: Sequence[Span]) -> tuple[bytes, list[int]]:
    """A file without the bytes of `spans` (in file order), and how many of its bytes come before each."""
    pieces, lengths, position = [], [], 0
    for span in spans:
        pieces.append(data[position : span.start])
        lengths.append(span.start - position)
        position = span.stop
    return b"".join([*pieces, data[position:]]), lengths


def assemble(rest: bytes, lengths: Sequence[int], tensors: Sequence[torch.Tensor]) -> Iterator[bytes]:
    """The file's bytes again, from `split`'s answer and the float32 tensors of its spans."""
    position = 0
    for length, tensor in zip(lengths, tensors, strict=True):
        yield rest[position : position + length]
        position += length
        yield tensor.detach().contiguous().reshape(-1).numpy().astype("<f4", copy=False).tobytes()
    yield rest[position:]


def read_span(data: bytes, span: Span, shape: Sequence[int]) -> torch.Tensor:
    """The tensor at a span, float32, with memory of its own."""
    flat = torch.frombuffer(bytearray(data[span.start : span.stop]), dtype=torch.float32)
    return flat.reshape(tuple(shape))


def by_name(spans: Sequence[Span]) -> Mapping[str, Span]:
    return {span.name: span for span in spans}


def _span(view: memoryview, start: int, stop: int) -> Span | None:
    name, data_type, pieces = "", 0, []
    for number, kind, a, b in _fields(view, start, stop):
        if number == _NAME and kind == _BYTES:
            name = bytes(view[a:b]).decode("utf-8", "replace")
        elif number == _DATA_TYPE and kind == _VARINT:
            data_type, _ = _varint(view, a, b)
        elif number in (_FLOAT_DATA, _RAW_DATA):
            pieces.append((kind, a, b))
    if data_type != _FLOAT or len(pieces) != 1 or pieces[0][0] != _BYTES:
        return None
    return Span(name, pieces[0][1], pieces[0][2])


def _constant(view: memoryview, start: int, stop: int) -> Span | None:
    """The span of a Constant node's tensor, named for the node's output."""
    output, op, tensor = "", "", None
    for number, kind, a, b in _fields(view, start, stop):
        if kind != _BYTES:
            continue
        if number == _OUTPUT:
            output = bytes(view[a:b]).decode("utf-8", "replace")
        elif number == _OP_TYPE:
            op = bytes(view[a:b]).decode("utf-8", "replace")
        elif number == _ATTRIBUTE:
            parts = {(n, k): (x, y) for n, k, x, y in _fields(view, a, b)}
            named = parts.get((_ATTRIBUTE_NAME, _BYTES))
            if named and bytes(view[named[0] : named[1]]) == b"value":
                tensor = parts.get((_TENSOR, _BYTES))
    found = _span(view, *tensor) if op == "Constant" and tensor else None
    return None if found is None else Span(output, found.start, found.stop)


def _fields(view: memoryview, position: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(field number, wire type, start, stop) of each field of a message."""
    while position < end:
        key, position = _varint(view, position, end)
        number, kind = key >> 3, key & 7
        start = position
        if kind == _VARINT:
            _, position = _varint(view, position, end)
        elif kind == _FIXED64:
            position += 8
        elif kind == _FIXED32:
            position += 4
        elif kind == _BYTES:
            length, start = _varint(view, position, end)
            position = start + length
        else:
            raise BadInput(f"The file is not an ONNX model, or it is damaged at byte {start:,}.")
        if position > end or number == 0:
            raise BadInput(f"The file is not an ONNX model, or it is cut short or damaged at byte {start:,}.")
        yield number, kind, start, position


def _varint(view: memoryview, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while position < end and shift < 64:
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
        shift += 7
    raise BadInput(f"The file is not an ONNX model, or it is cut short or damaged at byte {position:,}.")
