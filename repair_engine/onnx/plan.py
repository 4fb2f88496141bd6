"""Records: an ONNX graph as plain data, in the form that the module is built from. JSON-able."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

Size = tuple[int | None, int | None, int | None]  # channels, height, width; None = any
Attribute = int | float | str | list[int] | list[float]


@dataclass(frozen=True)
class Node:
    """One operator: `inputs` and `outputs` are names of values ("" = left out)."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True)
class Constant:
    """A value of the graph that no repair changes: shapes, axes, scalars, small tables."""

    dtype: str
    shape: tuple[int, ...]
    data: str  # base64, little-endian

    @classmethod
    def of(cls, array: np.ndarray) -> Constant:
        array = np.asarray(array)
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        return cls(array.dtype.name, array.shape, base64.b64encode(little.tobytes()).decode())

    def array(self) -> np.ndarray:
        flat = np.frombuffer(base64.b64decode(self.data), dtype=np.dtype(self.dtype).newbyteorder("<"))
        return flat.reshape(self.shape).astype(self.dtype)


@dataclass(frozen=True)
class Weight:
    """A float32 initializer.

    Attributes:
        key: in the module's state dict.
        shape: there.
        turned: a linear layer's weight, [in, out] in the file and [out, in] in the module.
    """

    key: str
    shape: tuple[int, ...]
    turned: bool = False


@dataclass(frozen=True)
class GraphPlan:
    """An ONNX classifier.

    Attributes:
        opset: version of the standard operators.
        producer: what wrote the file, for reports.
        input: name of the images' value.
        size: (channels, height, width) of the input, None where the graph leaves it open.
        channels_last: the images go in as [batch, height, width, channels].
        batch: the batch size that the graph is fixed to; None = any.
        logits: name of the value that holds the logits.
        output: name of the graph's output.
        ends: what the graph's output is of the logits: "" (the logits), "softmax", "log_softmax" or "sigmoid".
        nodes: in topological order; the last softmax or sigmoid is not among them.
        constants, weights: name of a value -> what it is.
    """

    opset: int
    producer: str
    input: str
    size: Size
    channels_last: bool
    batch: int | None
    logits: str
    output: str
    ends: str
    nodes: tuple[Node, ...]
    constants: Mapping[str, Constant]
    weights: Mapping[str, Weight]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> GraphPlan:
        return cls(
            **{
                **data,
                "size": tuple(data["size"]),
                "nodes": tuple(
                    Node(**{**n, "inputs": tuple(n["inputs"]), "outputs": tuple(n["outputs"])}) for n in data["nodes"]
                ),
                "constants": {
                    k: Constant(v["dtype"], tuple(v["shape"]), v["data"]) for k, v in data["constants"].items()
                },
                "weights": {k: Weight(**{**v, "shape": tuple(v["shape"])}) for k, v in data["weights"].items()},
            }
        )
