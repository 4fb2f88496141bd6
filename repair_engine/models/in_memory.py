"""A module in memory as a checkpoint: what else is read from a file is taken from it, and it stays as it is."""

from __future__ import annotations

import copy
import hashlib

import torch
from torch import Tensor, nn

from repair_engine.errors import BadInput
from repair_engine.models.architectures import Architecture
from repair_engine.models.formats.checkpoint import Checkpoint, Source
from repair_engine.support.words import first_line

NAME = "{} in memory"  # what stands in reports where a file's name would


def hold(module: nn.Module, num_classes: int) -> Checkpoint:
    """The checkpoint of a module.

    Args:
        module: a classifier [B, C, H, W] -> [B, classes]; copied, its modes, hooks, gradients and device with it.
        num_classes: 2 where it has a single logit.

    Raises:
        BadInput: it cannot be copied, has no parameters, lies on several devices, or holds NaN or infinite numbers.
    """
    device_of(module)
    try:
        held = copy.deepcopy(module)
    except Exception as error:  # modules may refuse in many ways
        raise BadInput(
            f"The module {_class_of(module)} cannot be copied (the one given is never changed): {first_line(error)}",
            "Tensors that forward() leaves behind as attributes stand in the way, as those of "
            "torch.nn.utils.weight_norm do; torch.nn.utils.parametrizations.weight_norm leaves none.",
        ) from error
    tensors = {key: value.detach().cpu() for key, value in held.state_dict().items() if isinstance(value, Tensor)}
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise BadInput(
                f"The module's tensor {key} holds NaN or infinite numbers.",
                "The training has diverged; use an earlier state.",
            )
    versions = {
        str(key): {"version": int(value["version"])}
        for key, value in getattr(held.state_dict(), "_metadata", {}).items()
        if isinstance(value.get("version"), int)
    }
    return Checkpoint(
        Architecture(_class_of(module), num_classes),
        tensors,
        Source("safetensors", ".safetensors", {key: key for key in tensors}, module_versions=versions),
        sha256_of(tensors),
        held=held,
    )


def device_of(module: nn.Module) -> torch.device:
    """Where all of a module's tensors lie. Raises BadInput: it has none, or they lie on several devices."""
    devices = {tensor.device for tensor in (*module.parameters(), *module.buffers())}
    if not devices:
        raise BadInput(f"The module {_class_of(module)} has no parameters: there is no filter to value.")
    if len(devices) > 1:
        raise BadInput(
            f"The module lies on several devices: {', '.join(sorted(map(str, devices)))}.", "Move it to one of them."
        )
    return devices.pop()


def count_logits(module: nn.Module, example: Tensor) -> int:
    """How many logits a module in eval mode gives for images [N, C, H, W].

    Raises:
        BadInput: it takes no such images, or does not return one tensor [N, classes] or [N].
    """
    try:
        with torch.no_grad():
            found = module(example)
    except Exception as error:  # whatever forward() does with images that do not suit it
        raise BadInput(
            f"The model takes no images of shape {list(example.shape[1:])} ([C, H, W]): {first_line(error)}",
            "Give the images as it was trained with: the same size, the same number of channels.",
        ) from error
    if not isinstance(found, Tensor) or found.dim() not in (1, 2) or len(found) != len(example):
        shape = f"a tensor of shape {list(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise BadInput(
            f"The model returns {shape} for {len(example)} images; one tensor of logits [images, classes] is needed.",
            "Wrap it in a module whose forward() returns the logits alone.",
        )
    return int(found.shape[1]) if found.dim() == 2 else 1


def sha256_of(tensors: dict[str, Tensor]) -> str:
    """Of names, dtypes, shapes and bytes: two modules with the same weights have the same."""
    digest = hashlib.sha256()
    for key, tensor in tensors.items():
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _class_of(module: nn.Module) -> str:
    return type(module).__name__
