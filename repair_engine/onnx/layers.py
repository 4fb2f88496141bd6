"""Convolutions, norms, poolings, products and activations. Source: github.com/onnx/onnx docs/Operators.md."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from repair_engine.onnx.values import MAX_PADDING, Call, Unsupported, Value

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_MAX_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def convolution(call: Call) -> Value:
    x, weight = call.tensor(0), call.tensor(1)
    bias = call.tensor(2) if call.has(2) else None
    dims = weight.dim() - 2
    if dims not in _CONVOLUTIONS:
        raise Unsupported(f"{call.where} is over {dims} dimensions")
    strides, dilations = (call.attribute(a) or [1] * dims for a in ("strides", "dilations"))
    before, after = _pads(call, x, list(weight.shape[2:]), strides, dilations)
    if before != after:
        x, before = F.pad(x, _widths(before, after)), [0] * dims
    group = int(call.attribute("group", 1))
    return _CONVOLUTIONS[dims](x, weight, bias, tuple(strides), tuple(before), tuple(dilations), group)


def batch_norm(call: Call) -> Value:
    x, scale, shift, mean, var = (call.tensor(i) for i in range(5))
    if call.attribute("training_mode", 0) and not call.of_images:  # standardizes a weight, by its own statistics
        return F.batch_norm(x, None, None, scale, shift, True, 0.0, float(call.attribute("epsilon", 1e-5)))
    if sum(bool(o) for o in call.node.outputs) > 1:
        raise Unsupported(f"{call.where} is in training mode")
    return F.batch_norm(x, mean, var, scale, shift, False, 0.0, float(call.attribute("epsilon", 1e-5)))


def instance_norm(call: Call) -> Value:
    x, scale, shift = (call.tensor(i) for i in range(3))
    return F.instance_norm(x, weight=scale, bias=shift, eps=float(call.attribute("epsilon", 1e-5)))


def group_norm(call: Call) -> Value:
    x, scale, shift = (call.tensor(i) for i in range(3))
    groups = int(call.attribute("num_groups", 1))
    if call.opset < 21 and scale.shape[0] != x.shape[1]:  # until opset 21: one number per group
        scale, shift = (t.repeat_interleave(x.shape[1] // groups) for t in (scale, shift))
    return F.group_norm(x, groups, scale, shift, float(call.attribute("epsilon", 1e-5)))


def layer_norm(call: Call) -> Value:
    x, scale = call.tensor(0), call.tensor(1)
    shift = call.tensor(2) if call.has(2) else None
    axis = int(call.attribute("axis", -1)) % x.dim()
    sizes = list(x.shape[axis:])
    return F.layer_norm(x, sizes, scale.expand(sizes), shift, float(call.attribute("epsilon", 1e-5)))


def lrn(call: Call) -> Value:
    size = int(call.attribute("size", 1))
    if size % 2 == 0:
        raise Unsupported(f"{call.where} is over an even number of channels")
    alpha, beta, k = (float(call.attribute(a, d)) for a, d in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    return F.local_response_norm(call.tensor(), size, alpha, beta, k)


def max_pool(call: Call) -> Value:
    x, kernel, strides, dilations = _pooled(call)
    if sum(bool(o) for o in call.node.outputs) > 1:
        raise Unsupported(f"{call.where} gives indices")
    before, after = _pads(call, x, kernel, strides, dilations)
    if before != after or any(2 * b > k for b, k in zip(before, kernel)):
        x, before = F.pad(x, _widths(before, after), value=float("-inf")), [0] * len(kernel)
    ceil = bool(call.attribute("ceil_mode", 0))
    return _MAX_POOLS[len(kernel)](x, kernel, strides, before, dilations, ceil_mode=ceil)


def average_pool(call: Call) -> Value:
    x, kernel, strides, dilations = _pooled(call)
    if len(kernel) != 2 or dilations != [1, 1]:
        raise Unsupported(f"{call.where} is not a plain pooling of images")
    before, after = _pads(call, x, kernel, strides, dilations)
    ceil, padded = bool(call.attribute("ceil_mode", 0)), bool(call.attribute("count_include_pad", 0))
    if before == after and all(2 * b <= k for b, k in zip(before, kernel)):
        return F.avg_pool2d(x, kernel, strides, before, ceil, padded)
    if ceil:
        raise Unsupported(f"{call.where} pads unevenly and rounds up")
    widths = _widths(before, after)
    mean = F.avg_pool2d(F.pad(x, widths), kernel, strides)
    if padded:
        return mean
    inside = x.new_ones(1, 1, *x.shape[2:])
    return mean / F.avg_pool2d(F.pad(inside, widths), kernel, strides)


def global_average(call: Call) -> Value:
    x = call.tensor()
    return F.adaptive_avg_pool2d(x, 1) if x.dim() == 4 else x.mean(tuple(range(2, x.dim())), keepdim=True)


def global_max(call: Call) -> Value:
    x = call.tensor()
    return x.amax(tuple(range(2, x.dim())), keepdim=True)


def reduce(call: Call) -> Value:
    x, axes, keep = call.tensor(), call.ints(1, "axes"), bool(call.attribute("keepdims", 1))
    if not axes:
        if call.attribute("noop_with_empty_axes", 0):
            return x
        raise Unsupported(f"{call.where} is over the batch")
    if call.of_images and any(a % x.dim() == 0 for a in axes):
        raise Unsupported(f"{call.where} is over the batch")
    functions = {"ReduceMean": torch.mean, "ReduceSum": torch.sum, "ReduceMax": torch.amax}
    return functions[call.node.op](x, tuple(axes), keepdim=keep)  # type: ignore[operator]


def gemm(call: Call) -> Value:
    a, b = call.tensor(0), call.tensor(1)
    alpha, beta = float(call.attribute("alpha", 1.0)), float(call.attribute("beta", 1.0))
    a = a.transpose(0, 1) if call.attribute("transA", 0) else a
    b = b if call.attribute("transB", 0) else b.transpose(0, 1)
    c: Any = call.inputs[2] if call.has(2) else None
    if alpha == beta == 1.0 and isinstance(c, torch.Tensor) and c.dim() == 1 and c.shape[0] == b.shape[0]:
        return F.linear(a, b, c)
    product = alpha * F.linear(a, b) if alpha != 1.0 else F.linear(a, b)
    return product if c is None else product + beta * c


def linear(call: Call) -> Value:
    return F.linear(call.tensor(0), call.tensor(1), call.tensor(2) if call.has(2) else None)


def softmax(call: Call) -> Value:
    x, axis = call.tensor(), int(call.attribute("axis", 1 if call.opset < 13 else -1))
    function = F.softmax if call.node.op == "Softmax" else F.log_softmax
    if call.opset >= 13 or axis % x.dim() == x.dim() - 1:
        return function(x, dim=axis)
    return function(x.flatten(axis % x.dim()), dim=-1).reshape(x.shape)  # until opset 13: over all further dimensions


def clip(call: Call) -> Value:
    low, high = call.number(1, "min", None), call.number(2, "max", None)
    x = call.tensor()
    return x if low is None and high is None else torch.clamp(x, low, high)


def hard_sigmoid(call: Call) -> Value:
    alpha, beta = float(call.attribute("alpha", 0.2)), float(call.attribute("beta", 0.5))
    x = call.tensor()
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return F.hardsigmoid(x)
    return torch.clamp(alpha * x + beta, 0.0, 1.0)


def gelu(call: Call) -> Value:
    return F.gelu(call.tensor(), approximate=call.attribute("approximate", "none"))


def prelu(call: Call) -> Value:
    x, slope = call.tensor(0), call.inputs[1]
    if not isinstance(slope, torch.Tensor):
        return F.leaky_relu(x, float(slope))  # type: ignore[arg-type]
    if slope.numel() == 1 or (slope.dim() == x.dim() - 1 and slope.numel() == slope.shape[0] == x.shape[1]):
        return F.prelu(x, slope.reshape(-1))
    return torch.where(x < 0, x * slope, x)


def selu(call: Call) -> Value:
    alpha, gamma = call.attribute("alpha"), call.attribute("gamma")
    given = (alpha is not None and abs(alpha - 1.6732632) > 1e-5) or (
        gamma is not None and abs(gamma - 1.050701) > 1e-5
    )
    if given:
        raise Unsupported(f"{call.where} has constants of its own")
    return F.selu(call.tensor())


def _pooled(call: Call) -> tuple[torch.Tensor, list[int], list[int], list[int]]:
    kernel = list(call.attribute("kernel_shape") or [])
    if len(kernel) not in _MAX_POOLS:
        raise Unsupported(f"{call.where} is over {len(kernel)} dimensions")
    ones = [1] * len(kernel)
    return call.tensor(), kernel, list(call.attribute("strides") or ones), list(call.attribute("dilations") or ones)


def _pads(
    call: Call, x: torch.Tensor, kernel: list[int], strides: list[int], dilations: list[int]
) -> tuple[list[int], list[int]]:
    """Padding before and after each spatial dimension."""
    auto, dims = call.attribute("auto_pad", "NOTSET"), len(kernel)
    if auto in ("NOTSET", ""):
        pads = list(call.attribute("pads") or [0] * 2 * dims)
        if any(p > MAX_PADDING for p in pads):
            raise Unsupported(f"{call.where} pads by more than {MAX_PADDING:,}")
        return pads[:dims], pads[dims:]
    if auto == "VALID":
        return [0] * dims, [0] * dims
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        raise Unsupported(f"{call.where} pads by {auto!r}")
    totals = []
    for size, k, stride, dilation in zip(x.shape[2:], kernel, strides, dilations):
        out = -(-size // stride)
        totals.append(max((out - 1) * stride + (k - 1) * dilation + 1 - size, 0))
    less, more = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return (less, more) if auto == "SAME_UPPER" else (more, less)


def _widths(before: list[int], after: list[int]) -> list[int]:
    """As F.pad takes them: the last dimension first."""
    return [w for pair in reversed(list(zip(before, after))) for w in pair]
