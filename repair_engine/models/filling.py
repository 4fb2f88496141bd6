"""Modules of which the parameters mean nothing until a checkpoint is loaded into them."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class ConstantFill(TorchDispatchMode):
    """Fills with the middle of a distribution instead of drawing: drawing is most of the time of a build.

    A constant, not nothing: trunc_normal_ draws again until all numbers are within its bounds.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: it is never compiled, and to skip it torch would import its compiler, for more than a second."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.normal_.default:
            return args[0].fill_(args[1] if len(args) > 1 else 0.0)
        if func is torch.ops.aten.uniform_.default:
            low, high = args[1:3] if len(args) > 2 else (0.0, 1.0)
            return args[0].fill_((low + high) / 2)
        return func(*args, **(kwargs or {}))
