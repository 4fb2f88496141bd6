"""A GPU that is pretended on the CPU: real results, and a real GPU's refusals.

Tensors "on cuda" hold their numbers in ordinary memory, and every operator that is called checks that its tensors are
on one device. What forgets to move a tensor there or back raises, as it would on a GPU; how fast, or with which
rounding, a GPU computes is not seen.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map

from repair_engine.network import network
from repair_engine.network.graph import FlatGraph, capture

CUDA = torch.device("cuda", 0)


class OnGpu(torch.Tensor):
    """A tensor that says it is on the GPU; its numbers are in `.numbers`, on the CPU.

    To torch's own code, which would look for a driver (the autograd engine does), it is on "meta".
    """

    numbers: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, numbers: torch.Tensor) -> OnGpu:
        made = torch.Tensor._make_wrapper_subclass(
            cls, numbers.size(), numbers.stride(), numbers.storage_offset(), dtype=numbers.dtype, device="meta",
        )  # fmt: skip
        made.numbers = numbers
        return made

    @classmethod
    def __torch_dispatch__(cls, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(operator, args, kwargs or {})

    @property
    def device(self) -> torch.device:
        return CUDA

    @property
    def is_cuda(self) -> bool:
        return True

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")

    __array__ = numpy

    def __repr__(self) -> str:
        return f"OnGpu({self.numbers!r})"


class Pretend(TorchDispatchMode):
    """Sends what is made on, or moved to, "cuda" there."""

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(operator, args, kwargs or {})


def run(operator: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operator on the CPU's numbers, its result on the device that a GPU's would be on."""
    given = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
    name = operator.name()
    asked = kwargs.get("device")
    if asked is not None:
        target = torch.device(asked).type in ("cuda", "meta")  # `to(other)` asks for what the other truly is
        kwargs = {**kwargs, "device": torch.device("cpu")}
    else:
        target = any(isinstance(t, OnGpu) for t in given)
    kwargs.pop("pin_memory", None)
    moves = name in ("aten::_to_copy", "aten::copy_")
    indices = name.startswith(("aten::index", "aten::_index"))  # indices on the CPU are let into a GPU's tensor
    if target and not moves:
        for i, t in enumerate(given):
            if not isinstance(t, OnGpu) and t.dim() > 0 and not (indices and i):
                raise RuntimeError(f"{name}: Expected all tensors to be on the same device, but found cuda:0 and cpu")
    if name == "aten::copy_":
        target = isinstance(args[0], OnGpu)
    found = operator(*tree_map(_down, args), **tree_map(_down, kwargs))
    if not target or name == "aten::_local_scalar_dense":
        return found
    # What an operator writes into comes back as the very tensor that was given.
    known = {id(t.numbers): t for t in given if isinstance(t, OnGpu)}
    return tree_map(lambda t: known.get(id(t), OnGpu(t)) if type(t) is torch.Tensor else t, found)


def _down(given: Any) -> Any:
    return given.numbers if isinstance(given, OnGpu) else given


@contextmanager
def pretended(memory: int = 8 << 30) -> Iterator[None]:
    """Within, torch says that there is one GPU, of so many bytes. Capturing (torch.export) goes on on the CPU."""
    torch._C._ensureCUDADeviceGuardSet()  # without a driver, choosing a device would fail
    cuda, future = torch.cuda, torch.__future__
    before = future.get_overwrite_module_params_on_conversion(), torch.backends.cudnn.enabled
    future.set_overwrite_module_params_on_conversion(True)  # else `Module.to` would keep parameters of the old type
    torch.backends.cudnn.enabled = False  # its operators are not the CPU's
    there = SimpleNamespace(total_memory=memory)
    try:
        with (
            mock.patch.object(network, "capture", _capture),
            mock.patch.object(cuda, "is_available", return_value=True),
            mock.patch.object(cuda, "is_bf16_supported", return_value=True),
            mock.patch.object(cuda, "get_device_properties", return_value=there),
            mock.patch.object(cuda, "synchronize", return_value=None),
            mock.patch.object(cuda, "_lazy_init", return_value=None),
            mock.patch.object(torch, "tensor", _tensor),
            mock.patch.object(torch, "inference_mode", torch.no_grad),  # its tensors cannot be wrapped and viewed
            Pretend(),
        ):
            yield
    finally:
        future.set_overwrite_module_params_on_conversion(before[0])
        torch.backends.cudnn.enabled = before[1]


_real_tensor, _real_inference_mode = torch.tensor, torch.inference_mode


def _tensor(data: Any, *, device: Any = None, **others: Any) -> torch.Tensor:
    """`torch.tensor`, which would ask for a driver before any operator is called."""
    made = _real_tensor(data, **others)
    return made if device is None else made.to(device)


def _capture(module: torch.nn.Module, example: torch.Tensor) -> FlatGraph:
    """`capture` on the CPU, its tensors then on the GPU."""
    assert isinstance(example, OnGpu)
    tensors = [*module.parameters(), *module.buffers()]
    assert all(isinstance(t.data, OnGpu) for t in tensors), "a part of the module is on the CPU"
    with (
        _disable_current_modes(),
        mock.patch.object(torch.cuda, "is_available", return_value=False),
        mock.patch.object(torch, "inference_mode", _real_inference_mode),
        mock.patch.object(torch, "tensor", _real_tensor),
    ):
        at_home = copy.deepcopy(module, {id(t): _home(t) for t in tensors})
        graph = capture(at_home, example.numbers)
    return dataclasses.replace(graph, tensors={node: OnGpu(t) for node, t in graph.tensors.items()})


def _home(tensor: torch.Tensor) -> torch.Tensor:
    numbers = tensor.detach().numbers
    return torch.nn.Parameter(numbers.clone()) if isinstance(tensor, torch.nn.Parameter) else numbers
