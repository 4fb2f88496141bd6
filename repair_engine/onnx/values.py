"""What flows between the operators of an imported graph: tensors, and sizes known while the graph is built."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from repair_engine.onnx.plan import Attribute, Node

MAX_ELEMENTS = 1 << 27  # of one tensor, per image
MAX_PADDING = 4096

Static = int | float | list  # an int, a float, or a list of ints; an int may be torch's symbol of the batch size
Value = torch.Tensor | Static


class Unsupported(ValueError):
    """An operator is used in a way that is not imported exactly."""


@dataclass(frozen=True)
class Call:
    """One operator with its inputs.

    Attributes:
        inputs: values; None = left out.
        opset: version of the standard operators.
        fixed_batch: the batch size that the graph was exported for; None = any.
        of_images: whether it depends on the images: else its first dimension is no batch (a weight that is computed).
        tables: names of the inputs that are constant tensors.
    """

    node: Node
    inputs: tuple[Value | None, ...]
    opset: int
    fixed_batch: int | None
    of_images: bool = True
    tables: Collection[str] = ()

    def tensor(self, position: int = 0) -> torch.Tensor:
        value = self.inputs[position]
        if not isinstance(value, torch.Tensor):
            raise Unsupported(f"{self.where}: input {position} is not a tensor")
        return value

    def has(self, position: int) -> bool:
        return len(self.inputs) > position and self.inputs[position] is not None

    def ints(self, position: int, attribute: str = "") -> list[Any] | None:
        """A list of sizes from an input, or from an attribute as older opsets have it; None if neither is given."""
        if self.has(position):
            value = self.inputs[position]
            if isinstance(value, torch.Tensor):
                raise Unsupported(f"{self.where}: input {position} depends on the images")
            return list(value) if isinstance(value, list) else [value]
        found = self.attribute(attribute) if attribute else None
        return None if found is None else list(found) if isinstance(found, list) else [found]

    def number(self, position: int, attribute: str, default: float | None) -> float | None:
        """A scalar from an input, or from an attribute as older opsets have it."""
        if self.has(position):
            value = self.inputs[position]
            if isinstance(value, torch.Tensor):
                raise Unsupported(f"{self.where}: input {position} is not a constant")
            single: Any = value[0] if isinstance(value, list) else value
            return float(single)
        found = self.attribute(attribute)
        return default if found is None else float(found)

    def attribute(self, name: str, default: Attribute | None = None) -> Any:
        return self.node.attributes.get(name, default)

    @property
    def where(self) -> str:
        return f"{self.node.op} {self.node.name or self.node.outputs[0]!r}"


def static(value: Value) -> bool:
    return not isinstance(value, torch.Tensor)


def per_image(x: torch.Tensor) -> int | None:
    """Elements per image, where all dimensions but the first are plain numbers."""
    sizes: Sequence[Any] = x.shape[1:]
    return math.prod(sizes) if all(isinstance(s, int) for s in sizes) else None
