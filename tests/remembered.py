"""Captures that the tests of one process make again and again, remembered: a third of the suite's time.

A capture is taken again only for the same modules: the same classes with equal plain attributes and the very same
other ones, no hooks, equal tensors, and images of the same shape. What torch looks up anew for each capture of any
network is remembered too: a quarter of the time of a small one.
"""

from __future__ import annotations

import hashlib
import typing
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

import torch
import torch.export.exported_program

from repair_engine.network import graph, network

_KEPT = 48
_PLAIN = (int, float, bool, str, bytes, type(None), torch.dtype, torch.Size)
_OWN = set(torch.nn.Module().__dict__)


class _Same:
    """One object, kept so that its place in memory is not another's."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


def _plain(value: object) -> Hashable:
    if isinstance(value, _PLAIN):
        return type(value), value
    if isinstance(value, (tuple, list)):
        return type(value), tuple(map(_plain, value))
    return _Same(value)


def _of_module(name: str, module: torch.nn.Module) -> Hashable:
    own = module.__dict__
    if any(value for key, value in own.items() if key in _OWN and "hooks" in key):
        raise TypeError("hooks")
    return name, type(module), tuple((key, _plain(value)) for key, value in own.items() if key not in _OWN)


def _key(module: torch.nn.Module, example: torch.Tensor) -> Hashable:
    content = hashlib.sha256()
    tensors = [*module.named_parameters(), *module.named_buffers()]  # also those that no state dict has
    for _, tensor in (*tensors, ("", example)):
        if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or tensor.device.type != "cpu":
            raise TypeError("not a plain tensor")
        content.update(f"{tensor.dtype} {tuple(tensor.shape)} {tensor.stride()}".encode())
    for _, tensor in tensors:
        content.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    names = tuple(name for name, _ in tensors)
    return tuple(_of_module(*one) for one in module.named_modules()), names, content.digest()


def _own_tensors(found: graph.FlatGraph) -> graph.FlatGraph:
    return replace(found, tensors={node: tensor.clone() for node, tensor in found.tensors.items()})


def remember(capture: Callable[..., graph.FlatGraph]) -> Callable[..., graph.FlatGraph]:
    kept: OrderedDict[Hashable, graph.FlatGraph] = OrderedDict()

    def remembered(module: torch.nn.Module, example: torch.Tensor) -> graph.FlatGraph:
        try:
            key: Any = _key(module.eval(), example)
        except (TypeError, RuntimeError):
            return capture(module, example)
        if key not in kept:
            kept[key] = _own_tensors(capture(module, example))
            if len(kept) > _KEPT:
                kept.popitem(last=False)
        kept.move_to_end(key)
        return _own_tensors(kept[key])

    return remembered


def _operators_kept(collect: Callable[[], set]) -> Callable[[], set]:
    """torch's walk over all operators of all libraries, made again where there is another library."""
    kept: dict[Hashable, set] = {}

    def collected() -> set:
        libraries = frozenset(torch.ops._dir)
        if libraries not in kept:
            kept[libraries] = collect()
        return kept[libraries]

    return collected


def install() -> None:
    program = torch.export.exported_program
    program._collect_all_valid_cia_ops = _operators_kept(program._collect_all_valid_cia_ops)
    torch._ops.Callable = typing.Callable  # made into types a hundred thousand times; typing's are remembered
    network.capture = remember(network.capture)
