"""The operators that are imported, by name."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F

from repair_engine.onnx import layers, shaping
from repair_engine.onnx.values import Call, Unsupported, Value, static

Operator = Callable[[Call], Value | tuple[Value, ...]]


def _unary(function: Callable[..., torch.Tensor], **defaults: float) -> Operator:
    """An elementwise function whose attributes, with these defaults, are its arguments in order."""

    def run(call: Call) -> Value:
        arguments = [float(call.attribute(name, default)) for name, default in defaults.items()]
        return function(call.tensor(), *arguments)

    return run


def _binary(function: Callable[[Any, Any], Any]) -> Operator:
    def run(call: Call) -> Value:
        a, b = call.inputs
        if a is None or b is None:
            raise Unsupported(f"{call.where} lacks an input")
        if static(a) and static(b):
            return _on_sizes(call, a, b)
        return function(a, b)

    return run


_SIZES: Mapping[str, Callable[[Any, Any], Any]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "Div": operator.floordiv,
}


def _on_sizes(call: Call, a: Any, b: Any) -> Value:
    function = _SIZES.get(call.node.op)
    real, listed = (any(isinstance(value, kind) for value in (a, b)) for kind in (float, list))
    if function is None or (real and listed):
        raise Unsupported(f"{call.where} computes with constants alone")
    if real:
        return a / b if call.node.op == "Div" else function(a, b)
    if not isinstance(a, list) and not isinstance(b, list):
        return function(a, b)
    return [function(x, y) for x, y in zip(*shaping.paired(a, b), strict=True)]


def _extreme(function: Callable[..., torch.Tensor], clamp: str) -> Operator:
    """Max or Min of tensors, or of a tensor and scalars."""

    def run(call: Call) -> Value:
        tensors = [v for v in call.inputs if isinstance(v, torch.Tensor)]
        out = tensors[0]
        for other in tensors[1:]:
            out = function(out, other)
        for scalar in (v for v in call.inputs if isinstance(v, int | float)):
            out = torch.clamp(out, min=scalar) if clamp == "min" else torch.clamp(out, max=scalar)
        return out

    return run


def _same(call: Call) -> Value:
    value = call.inputs[0]
    if value is None:
        raise Unsupported(f"{call.where} lacks its input")
    return value


def _sqrt(call: Call) -> Value:
    value = call.inputs[0]
    return math.sqrt(value) if isinstance(value, float) else torch.sqrt(call.tensor())


def _dropout(call: Call) -> Value:
    if call.has(2) and call.inputs[2]:
        raise Unsupported(f"{call.where} is in training mode")
    return _same(call)


def _sum(call: Call) -> Value:
    total = call.tensor()
    for i in range(1, len(call.inputs)):
        total = total + call.tensor(i)
    return total


OPERATORS: Mapping[str, Operator] = {
    "Abs": _unary(torch.abs),
    "Add": _binary(operator.add),
    "AveragePool": layers.average_pool,
    "BatchNormalization": layers.batch_norm,
    "Cast": shaping.cast,
    "Celu": _unary(F.celu, alpha=1.0),
    "Clip": layers.clip,
    "Concat": shaping.concat,
    "ConstantOfShape": shaping.constant_of_shape,
    "Conv": layers.convolution,
    "Div": _binary(operator.truediv),
    "Dropout": _dropout,
    "Elu": _unary(F.elu, alpha=1.0),
    "Equal": shaping.equal,
    "Erf": _unary(torch.erf),
    "Exp": _unary(torch.exp),
    "Expand": shaping.expand,
    "Flatten": shaping.flatten,
    "Gather": shaping.gather,
    "Gelu": layers.gelu,
    "Gemm": layers.gemm,
    "GlobalAveragePool": layers.global_average,
    "GlobalMaxPool": layers.global_max,
    "GroupNormalization": layers.group_norm,
    "HardSigmoid": layers.hard_sigmoid,
    "HardSwish": _unary(F.hardswish),
    "Identity": _same,
    "IsNaN": _unary(torch.isnan),
    "InstanceNormalization": layers.instance_norm,
    "LRN": layers.lrn,
    "LayerNormalization": layers.layer_norm,
    "LeakyRelu": _unary(F.leaky_relu, alpha=0.01),
    "Log": _unary(torch.log),
    "LogSoftmax": layers.softmax,
    "MatMul": _binary(torch.matmul),
    "Max": _extreme(torch.maximum, "min"),
    "MaxPool": layers.max_pool,
    "Min": _extreme(torch.minimum, "max"),
    "Mish": _unary(F.mish),
    "Mul": _binary(operator.mul),
    "Neg": _unary(torch.neg),
    "PRelu": layers.prelu,
    "Pad": shaping.pad,
    "Pow": _binary(operator.pow),
    "Reciprocal": _unary(torch.reciprocal),
    "ReduceMax": layers.reduce,
    "ReduceMean": layers.reduce,
    "ReduceSum": layers.reduce,
    "Relu": _unary(F.relu),
    "Reshape": shaping.reshape,
    "Selu": layers.selu,
    "Shape": shaping.shape,
    "Sigmoid": _unary(torch.sigmoid),
    "Slice": shaping.slice_,
    "Softmax": layers.softmax,
    "Softplus": _unary(F.softplus),
    "Softsign": _unary(F.softsign),
    "Split": shaping.split,
    "Sqrt": _sqrt,
    "Squeeze": shaping.squeeze,
    "Sub": _binary(operator.sub),
    "Sum": _sum,
    "Tanh": _unary(torch.tanh),
    "Transpose": shaping.transpose,
    "Unsqueeze": shaping.unsqueeze,
    "Where": shaping.where,
    # made by `fusing` and `linears`, not ONNX operators
    "Linear": layers.linear,
    "Silu": _unary(F.silu),
}

SUPPORTED = frozenset(OPERATORS) - {"Linear", "Silu"}
