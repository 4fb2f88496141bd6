"""Operators that move, join and cut tensors, and those on sizes. Source: github.com/onnx/onnx docs/Operators.md."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from repair_engine.onnx.values import MAX_PADDING, Call, Unsupported, Value, per_image, static


def reshape(call: Call) -> Value:
    target = call.ints(1, "shape")
    if target is None:
        raise Unsupported(f"{call.where} has no shape")
    value = call.inputs[0]
    if isinstance(value, list | int):
        if target in ([-1], [1]):
            return list(value) if isinstance(value, list) else [value]
        if target == [] and isinstance(value, list) and len(value) == 1:
            return value[0]
        raise Unsupported(f"{call.where} reshapes sizes")
    x = call.tensor()
    if not call.attribute("allowzero", 0):
        target = [x.shape[i] if isinstance(s, int) and s == 0 else s for i, s in enumerate(target)]
    return x.reshape(_with_batch(x, target, call.fixed_batch))


def _with_batch(x: torch.Tensor, target: list[Any], fixed: int | None) -> list[Any]:
    """The target with the batch size in front, where the target says it as −1 or as the size of the export."""
    size = per_image(x)
    if not target or size is None or not isinstance(target[0], int):
        return target
    first, rest = target[0], target[1:]
    if not all(isinstance(s, int) for s in rest):
        return target
    known = math.prod(s for s in rest if s != -1)
    if first == -1 and known == size:
        return [x.shape[0], *rest]
    if fixed is not None and first == fixed and known and size % known == 0 and (-1 in rest or known == size):
        return [x.shape[0], *(size // known if s == -1 else s for s in rest)]
    return target


def flatten(call: Call) -> Value:
    x, axis = call.tensor(), int(call.attribute("axis", 1))
    axis = axis + x.dim() if axis < 0 else axis
    size = per_image(x)
    if axis == 1 and size is not None:
        return x.reshape(x.shape[0], size)
    return x.reshape(math.prod(x.shape[:axis]), -1)


def transpose(call: Call) -> Value:
    x = call.tensor()
    return x.permute(call.attribute("perm") or list(range(x.dim()))[::-1])


def squeeze(call: Call) -> Value:
    axes, value = call.ints(1, "axes"), call.inputs[0]
    if isinstance(value, list):
        if len(value) != 1:
            raise Unsupported(f"{call.where} squeezes {len(value)} sizes")
        return value[0]
    x = call.tensor()
    if axes is None:
        axes = [i for i in range(1, x.dim()) if x.shape[i] == 1]
    return x.squeeze(tuple(axes))


def unsqueeze(call: Call) -> Value:
    axes, value = call.ints(1, "axes") or [], call.inputs[0]
    if static(value):  # type: ignore[arg-type]
        if isinstance(value, list):
            raise Unsupported(f"{call.where} makes a table of sizes")
        return [value]
    x = call.tensor()
    rank = x.dim() + len(axes)
    for axis in sorted(a + rank if a < 0 else a for a in axes):
        x = x.unsqueeze(axis)
    return x


def concat(call: Call) -> Value:
    if all(value is not None and static(value) for value in call.inputs):
        joined: list[Any] = []
        for value in call.inputs:
            joined += value if isinstance(value, list) else [value]
        return joined
    if not all(isinstance(value, torch.Tensor) for value in call.inputs):
        raise Unsupported(f"{call.where} joins tensors and sizes")
    return torch.cat(list(call.inputs), dim=int(call.attribute("axis", 1)))  # type: ignore[arg-type]


def split(call: Call) -> tuple[Value, ...]:
    x, axis = call.tensor(), int(call.attribute("axis", 0))
    sizes = call.ints(1, "split")
    if sizes is None:
        parts = len(call.node.outputs)
        whole = x.shape[axis]
        each = -(-whole // parts)
        sizes = [min(each, whole - i * each) for i in range(parts)]
    return torch.split(x, sizes, dim=axis)


def slice_(call: Call) -> Value:
    starts, ends = call.ints(1, "starts"), call.ints(2, "ends")
    if starts is None or ends is None:
        raise Unsupported(f"{call.where} has no bounds")
    axes = call.ints(3, "axes") or list(range(len(starts)))
    steps = call.ints(4, "steps") or [1] * len(starts)
    value = call.inputs[0]
    if isinstance(value, list):
        return value[slice(starts[0], ends[0], steps[0])]
    x = call.tensor()
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if axis % x.dim() == 0:
            raise Unsupported(f"{call.where} cuts the batch")
        if step == 1:
            size = x.shape[axis]
            start, end = (max(b + size, 0) if b < 0 else min(b, size) for b in (start, end))
            x = x.narrow(axis, start, max(end - start, 0))
        elif step == -1 and end < -x.shape[axis]:
            x = x.flip(axis)
        elif step > 0:
            picked = range(x.shape[axis])[slice(start, end, step)]
            x = x.index_select(axis, torch.tensor(list(picked), device=x.device))
        else:
            raise Unsupported(f"{call.where} has a negative step")
    return x


def gather(call: Call) -> Value:
    value, picked, axis = call.inputs[0], call.inputs[1], int(call.attribute("axis", 0))
    if isinstance(picked, torch.Tensor):
        raise Unsupported(f"{call.where} picks by a table")
    if isinstance(value, list):
        return [value[i] for i in picked] if isinstance(picked, list) else value[picked]  # type: ignore[index]
    x = call.tensor()
    if axis % x.dim() == 0:
        raise Unsupported(f"{call.where} picks images of the batch")
    if isinstance(picked, list):
        size = x.shape[axis]
        return x.index_select(axis, torch.tensor([i + size if i < 0 else i for i in picked], device=x.device))
    return x.select(axis, picked)  # type: ignore[arg-type]


def shape(call: Call) -> Value:
    sizes = list(call.tensor().shape)
    return sizes[slice(call.attribute("start", 0), call.attribute("end"))]


def expand(call: Call) -> Value:
    x, target = call.tensor(), call.ints(1) or []
    missing = len(target) - x.dim()
    own = [1] * missing + list(x.shape)
    sizes = [o if isinstance(t, int) and t == 1 else t for o, t in zip(own, [1] * -missing + target, strict=True)]
    return x.expand(sizes)


def cast(call: Call) -> Value:
    value, to = call.inputs[0], int(call.attribute("to", 1))
    if static(value):  # type: ignore[arg-type]
        if to in (6, 7):
            return value  # type: ignore[return-value]
        raise Unsupported(f"{call.where} makes other numbers of sizes")
    if to != 1:
        raise Unsupported(f"{call.where} leaves float32")
    return call.tensor().float()


def pad(call: Call) -> Value:
    x, pads = call.tensor(), call.ints(1, "pads")
    if pads is None:
        raise Unsupported(f"{call.where} has no widths")
    value = call.number(2, "value", 0.0) or 0.0
    axes = call.ints(3) or list(range(x.dim()))
    before, after = dict(zip(axes, pads[: len(axes)])), dict(zip(axes, pads[len(axes) :]))
    widths = [w for axis in reversed(range(x.dim())) for w in (before.get(axis, 0), after.get(axis, 0))]
    mode = call.attribute("mode", "constant")
    if any(widths[-2:]):
        raise Unsupported(f"{call.where} pads the batch")
    if any(abs(w) > MAX_PADDING for w in widths):
        raise Unsupported(f"{call.where} pads by more than {MAX_PADDING:,}")
    if mode == "constant":
        return F.pad(x, widths, value=value)
    modes = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    if mode not in modes or any(widths[4:]):
        raise Unsupported(f"{call.where} pads by {mode!r}")
    return F.pad(x, widths[:4], mode=modes[mode])
