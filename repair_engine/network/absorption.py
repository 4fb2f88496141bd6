"""Where a constant can go when a convolution has neither a bias nor a norm of its own (DenseNet: norm before conv).

The convolution's row is set to 0, so its channel is 0 instead of m everywhere. Along operators that commute with
adding a constant to a whole channel (concatenation, sums, poolings that pad nothing into their means) that is a shift
by −m; a batch norm at the end of every such way takes it up exactly: its running mean −= m. Zero padding does no harm:
a convolution is never passed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from repair_engine.network.graph import BATCH_NORM, KEEPS_CONSTANTS, FlatGraph, aten, is_number


@dataclass(frozen=True)
class Absorber:
    """A batch norm that takes up a shift.

    Attributes:
        mean: key of its running mean.
        offset: channel of the batch norm at which the convolution's channel 0 arrives.
        times: over how many ways the shift arrives.
    """

    mean: str
    offset: int
    times: int


def absorbers(
    graph: FlatGraph, conv: fx.Node, uses: Mapping[str, int], dtypes: Mapping[str, torch.dtype] | None
) -> tuple[Absorber, ...] | str:
    """The batch norms that together take up any shift of the convolution's output, or why there are none.

    Args:
        uses: key of the state dict -> how many operators read it.
        dtypes: key of the state dict -> dtype in the file. In half precision the running means of several norms
            would be rounded apart: no common constant. None = float32.
    """
    shifted: dict[fx.Node, Counter[int]] = {conv: Counter({0: 1})}
    found: Counter[tuple[str, int]] = Counter()
    for node in graph.nodes:
        if is_number(node) or not any(i in shifted for i in node.all_input_nodes):
            continue
        if node.target is BATCH_NORM:
            key = _running_mean(graph, node, shifted)
            if not key or uses[key] > 1:
                return f"batch norm {node.name} has no running mean of its own to edit"
            if dtypes is not None and dtypes[key].itemsize < 4:
                return f"{key}, which would have to take it up, is stored in half precision"
            for offset, times in shifted[node.args[0]].items():  # type: ignore[index]
                found[key, offset] += times
            continue
        arrived = _passed(node, shifted)
        if arrived is None:
            return f"it also goes into {_operator(node)}"
        shifted[node] = arrived
    if graph.logits in shifted:
        return "it also goes into the logits"
    return tuple(Absorber(key, offset, times) for (key, offset), times in found.items())


def _running_mean(graph: FlatGraph, norm: fx.Node, shifted: Mapping[fx.Node, Any]) -> str:
    if any(a in shifted for a in norm.args[1:] if isinstance(a, fx.Node)):
        return ""
    mean = norm.args[3]
    return graph.names.get(mean, "") if isinstance(mean, fx.Node) else ""


def _passed(node: fx.Node, shifted: Mapping[fx.Node, Counter[int]]) -> Counter[int] | None:
    """Channel offsets at which the shift leaves an operator; None where it does not leave as a shift."""
    arrived: Counter[int] = Counter()
    if node.target in KEEPS_CONSTANTS or (node.target is aten.avg_pool2d.default and _averages_no_padding(node)):
        return shifted[node.args[0]]  # type: ignore[index]
    if node.target is aten.cat.default:
        parts, dim = node.args[0], node.args[1] if len(node.args) > 1 else 0
        if dim not in (1, 1 - len(node.meta["val"].shape)):
            return None
        start = 0
        for part in parts:  # type: ignore[union-attr]
            for offset, times in shifted.get(part, Counter()).items():  # type: ignore[arg-type]
                arrived[start + offset] += times
            start += int(part.meta["val"].shape[1])  # type: ignore[union-attr]
        return arrived
    if node.target is aten.add.Tensor and not node.kwargs and len(node.args) == 2:
        for term in node.args:
            if isinstance(term, fx.Node) and term in shifted:
                if term.meta["val"].shape != node.meta["val"].shape:
                    return None
                arrived.update(shifted[term])
        return arrived
    return None


def _averages_no_padding(node: fx.Node) -> bool:
    """avg_pool2d(x, kernel, stride, padding, ceil_mode, count_include_pad, divisor_override)."""
    names = ("x", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
    given: dict[str, Any] = {**dict(zip(names, node.args)), **node.kwargs}
    padding = given.get("padding", 0)
    padded = any(padding) if isinstance(padding, list | tuple) else bool(padding)
    return given.get("divisor_override") is None and not (padded and given.get("count_include_pad", True))


def _operator(node: fx.Node) -> str:
    return str(node.target).removeprefix("aten.").partition(".")[0]
