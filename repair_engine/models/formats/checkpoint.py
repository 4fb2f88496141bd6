"""Records: a checkpoint is an architecture and tensors, nothing executable."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from repair_engine.errors import BadInput
from repair_engine.models.architectures import Architecture, first_convolution

Scalar = int | float | bool | str | None


@dataclass(frozen=True)
class Level:
    """One dictionary around the state dict, such as {"epoch": 3, "state_dict": …}.

    Attributes:
        key: the entry that leads further in.
        scalars: the other entries that are kept, in order; entries that are not scalars are dropped.
        position: how many of `scalars` stand before `key`.
    """

    key: str
    scalars: Mapping[str, Scalar] = field(default_factory=dict)
    position: int = 0


@dataclass(frozen=True)
class Source:
    """How the tensors lay in the file, so that `write` can give the same back.

    Attributes:
        format: "safetensors", "state_dict" (torch.save) or "onnx".
        suffix: of the file's name, such as ".pth".
        names: module's key -> key in the file, in the file's order.
        wrapper: dictionaries around the state dict, outermost first.
        prefix: what was stripped from the front of the keys, for display.
        metadata: safetensors' own string metadata.
        module_versions: the `_metadata` of an OrderedDict, submodule -> {"version": int}; None = a dict.
        averaged: an averaged model's `n_averaged`, where the file has it.
        dropped: entries beside the state dict that are not written back, such as "optimizer".
        order: all keys of the file's state dict, where some belong to no part of the module (`Checkpoint.beside`).
        lengths: of an ONNX file, how many bytes of `Checkpoint.rest` come before each tensor.
        turned: module's keys of an ONNX file's weights that lie transposed in it.
        checked: of an ONNX file, against what its import was checked.
    """

    format: str
    suffix: str
    names: Mapping[str, str]
    wrapper: tuple[Level, ...] = ()
    prefix: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    module_versions: Mapping[str, Mapping[str, Scalar]] | None = None
    averaged: int | None = None
    dropped: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    lengths: tuple[int, ...] = ()
    turned: tuple[str, ...] = ()
    checked: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Source:
        levels = tuple(Level(**level) for level in data["wrapper"])
        lists = {name: tuple(data.get(name, ())) for name in ("dropped", "order", "lengths", "turned")}
        return cls(**{**data, "wrapper": levels, **lists})


@dataclass(frozen=True)
class Checkpoint:
    """A model as data.

    Attributes:
        architecture: resolved, so that it fits the tensors: auxiliary heads, input channels, single logit.
        tensors: module's key -> tensor on the CPU, in the file's order and stored dtypes.
        source: how the file was laid out.
        sha256: of the file that the tensors were read from.
        rest: of an ONNX file, all of its bytes but the tensors'.
        beside: key in the file -> tensor that no part of the module reads (a loss's class weights); written back.
        held: a copy of the module in memory that the tensors are of (`in_memory.hold`); None = built by `architecture`.
    """

    architecture: Architecture
    tensors: Mapping[str, Tensor]
    source: Source
    sha256: str
    rest: bytes = b""
    beside: Mapping[str, Tensor] = field(default_factory=dict)
    held: nn.Module | None = None

    def module(self) -> nn.Module:
        """The plain module: float32, on the CPU, in eval mode, strictly loaded, without gradients."""
        if self.held is not None:
            return loaded(self.held, self.tensors).cpu().float().eval().requires_grad_(False)
        module = self.architecture.build("cpu").float()
        state = {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in self.tensors.items()}
        for key, own in module.state_dict().items():
            if is_batch_count(key) and key not in state:
                state[key] = torch.zeros_like(own)
        module.load_state_dict(state, strict=True)
        return module.eval().requires_grad_(False)

    def edited(self, edits: Mapping[str, Tensor]) -> Checkpoint:
        """This checkpoint with some tensors replaced; their shapes must agree, dtypes are the stored ones.

        Raises:
            BadInput: an edit of a key that the checkpoint lacks, or of another shape.
        """
        tensors = dict(self.tensors)
        for key, tensor in edits.items():
            if key not in tensors or tensors[key].shape != tensor.shape:
                own = tuple(tensors[key].shape) if key in tensors else "missing"
                raise BadInput(f"The edit of {key} has shape {tuple(tensor.shape)}; the checkpoint's is {own}.")
            tensors[key] = tensor.detach().to(device="cpu", dtype=tensors[key].dtype)
        return replace(self, tensors=tensors)

    @property
    def dtypes(self) -> dict[str, torch.dtype]:
        """Module's key -> dtype in the file."""
        return {key: tensor.dtype for key, tensor in self.tensors.items()}

    @property
    def in_channels(self) -> int:
        """Channels of the image that the first convolution reads (3 where there is no convolution)."""
        if self.architecture.plan is not None:
            return self.architecture.plan.size[0] or 3
        found = first_convolution(self.held or self.architecture.build("meta"))
        return found[1].in_channels if found else 3


def loaded(module: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """A copy of a module with these tensors in the place of its own: same dtypes, device, modes and hooks."""
    made = copy.deepcopy(module)
    own = made.state_dict()
    with torch.no_grad():
        for key, tensor in tensors.items():
            own[key].copy_(tensor)
    return made


def is_batch_count(key: str) -> bool:
    """Batch norm's step counter: old files lack it, and in eval mode nothing reads it."""
    return key.rpartition(".")[2] == "num_batches_tracked"
