"""An imported graph as a torch module: images in, logits out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from repair_engine.onnx.operators import OPERATORS
from repair_engine.onnx.plan import Constant, GraphPlan, Node
from repair_engine.onnx.standardized import of_images
from repair_engine.onnx.values import MAX_ELEMENTS, Call, Unsupported, Value


class GraphModule(nn.Module):
    """Runs the nodes in order. Weights are buffers under the initializers' names, or close to them (`plan.weights`).

    Every operator is one call of torch, so `torch.export` sees through it. Nothing of the file is executed.
    """

    def __init__(self, plan: GraphPlan, device: str = "cpu") -> None:
        super().__init__()
        self._plan = plan
        for weight in plan.weights.values():
            _register(self, weight.key, torch.empty(weight.shape, device=device))
        self._static: dict[str, Value] = {}
        self._tables: dict[str, str] = {}
        for i, (name, constant) in enumerate(plan.constants.items()):
            value = _static(constant)
            if isinstance(value, torch.Tensor):
                self._tables[name] = f"_table_{i}"
                self.register_buffer(f"_table_{i}", value.to(device), persistent=False)
            else:
                self._static[name] = value
        self._of_images = of_images(plan.nodes, plan.input)
        self._last_use = {value: i for i, node in enumerate(plan.nodes) for value in node.inputs}
        self._last_use[plan.logits] = len(plan.nodes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [batch, classes] of images [batch, channels, height, width]."""
        plan = self._plan
        self._check_size(images)
        values: dict[str, Value] = dict(self._static)
        values |= {name: getattr(self, buffer) for name, buffer in self._tables.items()}
        values |= {name: _find(self, weight.key) for name, weight in plan.weights.items()}
        values[plan.input] = images.permute(0, 2, 3, 1) if plan.channels_last else images
        for index, node in enumerate(plan.nodes):
            self._run(node, values)
            for value in node.inputs:
                if self._last_use.get(value) == index:
                    values.pop(value, None)
        logits = values[plan.logits]
        if not isinstance(logits, torch.Tensor):
            raise Unsupported("the graph's output does not depend on the images")
        if logits.dim() > 2 and all(s == 1 for s in logits.shape[2:]):
            logits = logits.flatten(1)
        return logits

    def _run(self, node: Node, values: dict[str, Value]) -> None:
        inputs = tuple(values[name] if name else None for name in node.inputs)
        made = OPERATORS[node.op](
            Call(node, inputs, self._plan.opset, self._plan.batch, node.outputs[0] in self._of_images, self._tables)
        )
        parts = made if isinstance(made, tuple) else (made,)
        for name, part in zip(node.outputs, parts):
            if isinstance(part, torch.Tensor):
                sizes: list[Any] = [s for s in part.shape if isinstance(s, int)]
                limit = MAX_ELEMENTS * (part.shape[0] if len(sizes) == part.dim() and part.dim() else 1)
                if math.prod(sizes) > limit:
                    raise Unsupported(f"{node.op} {node.name!r} makes a tensor of shape {tuple(part.shape)}")
            values[name] = part

    def _check_size(self, images: torch.Tensor) -> None:
        for wanted, given in zip(self._plan.size, images.shape[1:]):
            if wanted is not None and wanted != given:
                sizes = "×".join("any" if s is None else str(s) for s in self._plan.size)
                raise Unsupported(f"the graph takes images of {sizes}, not {'×'.join(map(str, images.shape[1:]))}")


def _static(constant: Constant) -> Value:
    """Integers of up to one dimension as lists, single numbers as numbers, everything else as a tensor."""
    array = constant.array()
    if array.dtype.kind in "iub" and array.ndim <= 1:
        return [int(v) for v in array] if array.ndim else int(array)
    if array.dtype.kind == "f" and array.size == 1:
        return float(array.reshape(-1)[0])
    if array.dtype.kind == "f":
        return torch.from_numpy(array.astype(np.float32))
    return torch.from_numpy(array.astype(np.int64))


def _register(module: nn.Module, key: str, tensor: torch.Tensor) -> None:
    *path, last = key.split(".")
    for part in path:
        if part not in module._modules:
            module.add_module(part, nn.Module())
        module = module._modules[part]  # type: ignore[assignment]
    module.register_buffer(last, tensor)


def _find(module: nn.Module, key: str) -> torch.Tensor:
    *path, last = key.split(".")
    for part in path:
        module = module._modules[part]  # type: ignore[assignment]
    found = module._buffers[last]
    assert found is not None
    return found
