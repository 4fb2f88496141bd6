"""Elementwise activations: which operators count as one, and how to solve act(b) = m for b.

A written filter's output is act(b) for the bias b that is stored, so the constant that a filter is ablated to
must be reachable: b is solved here, rounded to the stored dtype by the caller, and the constant is then
*defined* as act(b) (see `repair_engine.network.constants`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

aten = torch.ops.aten

# Where the right-hand, increasing branch starts. SiLU, GELU, hardswish and mish fall before they rise, so a
# mean may have two roots; the right-hand one is the stable choice.
_BRANCH_START: dict[object, float] = {
    aten.silu.default: -1.2784645427610738,
    aten.gelu.default: -0.7517915246935645,
    aten.hardswish.default: -1.5,
    aten.mish.default: -1.1924,
}

# Solved by bisection on all of their range.
_MONOTONE = {
    aten.elu.default,
    aten.selu.default,
    aten.celu.default,
    aten.sigmoid.default,
    aten.hardsigmoid.default,
    aten.tanh.default,
    aten.softplus.default,
    aten.hardtanh.default,
    aten.clamp.default,
    aten.clamp_min.default,
}

_IDENTITY_ON_RANGE = {aten.relu.default, aten.hardtanh.default, aten.clamp.default, aten.clamp_min.default}

ACTIVATIONS = frozenset(_MONOTONE | set(_BRANCH_START) | {aten.relu.default, aten.leaky_relu.default})


@dataclass(frozen=True)
class Activation:
    """One elementwise operator with the constants it was called with.

    Attributes:
        op: the ATen overload, or None for the identity (no activation at the site).
        args: positional arguments after the tensor.
        kwargs: keyword arguments.
    """

    op: Callable[..., torch.Tensor] | None = None
    args: tuple[object, ...] = ()
    kwargs: tuple[tuple[str, object], ...] = ()

    @property
    def name(self) -> str:
        return "identity" if self.op is None else str(self.op).split(".")[1]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x if self.op is None else self.op(x, *self.args, **dict(self.kwargs))

    def solve(self, mean: torch.Tensor) -> torch.Tensor:
        """The bias b [C] with act(b) = mean [C], both float64; the right-hand root where there are two.

        A mean outside the open range of the activation (a saturated sigmoid) gives the nearest finite b.
        """
        if self.op is None or self.op in _IDENTITY_ON_RANGE:
            return mean.clone()
        if self.op is aten.leaky_relu.default:
            slope = float(self.args[0] if self.args else dict(self.kwargs).get("negative_slope", 0.01))  # type: ignore[arg-type]
            return torch.where(mean < 0, mean / slope, mean)
        low = torch.full_like(mean, _BRANCH_START.get(self.op, -_SPAN))
        high = torch.full_like(mean, _SPAN)
        high = torch.maximum(high, mean.abs() * 2 + 1)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            below = self(middle) < mean
            low = torch.where(below, middle, low)
            high = torch.where(below, high, middle)
        return (low + high) / 2


_SPAN = 40.0  # sigmoid and tanh are saturated in float64 at 37 and 19; beyond lies no other output
_BISECTIONS = 80  # from a span of 80 to below float64's spacing at 1e-15


def is_activation(op: object) -> bool:
    """True where the operator is elementwise, has no tensor argument but its input, and can be solved."""
    return op in ACTIVATIONS


def describe(activation: Activation) -> str:
    """For reports: `relu`, `hardtanh(0, 6)`."""
    values = ", ".join(f"{a:g}" if isinstance(a, float) and math.isfinite(a) else str(a) for a in activation.args)
    return f"{activation.name}({values})" if values else activation.name
