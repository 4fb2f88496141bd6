"""Operators that move, join and cut tensors, and those on sizes. Source: github.com/onnx/onnx docs/Operators.md."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from repair_engine.onnx.values import MAX_PADDING, Call, Unsupported, Value, per_image, static

_ALL = 1 << 31  # an end that is behind all ends


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
        if axis % x.dim() == 0 and _grows(x):
            if step == 1 and isinstance(start, int) and start == 0 and isinstance(end, int) and end >= _ALL:
                continue
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
    if isinstance(value, list) and not isinstance(picked, torch.Tensor):
        return [value[i] for i in picked] if isinstance(picked, list) else value[picked]  # type: ignore[index]
    x = call.tensor()
    if axis % x.dim() == 0 and _grows(x):
        raise Unsupported(f"{call.where} picks images of the batch")
    if isinstance(picked, torch.Tensor):
        return _by_table(call, x, picked, axis % x.dim())
    if isinstance(picked, list):
        size = x.shape[axis]
        return x.index_select(axis, torch.tensor([i + size if i < 0 else i for i in picked], device=x.device))
    return x.select(axis, picked)  # type: ignore[arg-type]


def _by_table(call: Call, x: torch.Tensor, table: torch.Tensor, axis: int) -> torch.Tensor:
    if call.node.inputs[1] not in call.tables:
        raise Unsupported(f"{call.where} picks by a table that it computes")
    places = torch.where(table < 0, table + x.shape[axis], table)
    return x.index_select(axis, places.flatten()).unflatten(axis, table.shape)


def _grows(x: torch.Tensor) -> bool:
    """Whether the first dimension grows with the images. A symbol while the network is captured; at any other time a
    plain number, and nothing is known: `importing` compares images alone with images in a batch."""
    return not isinstance(x.shape[0], int)


def constant_of_shape(call: Call) -> Value:
    sizes, value = call.ints(0) or [], call.attribute("value", 0.0)
    if len(sizes) != 1 or not isinstance(value, int) or not isinstance(sizes[0], int):
        raise Unsupported(f"{call.where} makes a tensor of a size that is known at run time alone")
    return [value] * sizes[0]


def equal(call: Call) -> Value:
    if not all(static(value) for value in call.inputs):  # type: ignore[arg-type]
        raise Unsupported(f"{call.where} compares tensors")
    left, right = paired(*call.inputs)
    return [int(bool(a == b)) for a, b in zip(left, right, strict=True)]


def where(call: Call) -> Value:
    condition, yes, no = call.inputs
    if isinstance(condition, torch.Tensor):
        chosen: Any = torch.where
        return chosen(condition != 0, yes, no)
    if not (static(yes) and static(no)):  # type: ignore[arg-type]
        raise Unsupported(f"{call.where} chooses between tensors by sizes")
    chosen, taken = paired(yes, no)
    return [a if c else b for c, a, b in zip(paired(condition, yes)[0], chosen, taken, strict=True)]


def paired(one: Any, other: Any) -> tuple[list[Any], list[Any]]:
    """Two values of sizes as lists of one length."""
    left, right = (value if isinstance(value, list) else [value] for value in (one, other))
    size = max(len(left), len(right))
    left, right = (value * size if len(value) == 1 else value for value in (left, right))
    return left, right


def shape(call: Call) -> Value:
    if isinstance(call.inputs[0], list):
        return [len(call.inputs[0])]
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
        if to in (6, 7) and not isinstance(value, float):
            return value  # type: ignore[return-value]
        single = value[0] if isinstance(value, list) and len(value) == 1 else value
        if to in (1, 11) and isinstance(single, int | float):  # the width of a head, for the scale of attention
            return float(single)
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
