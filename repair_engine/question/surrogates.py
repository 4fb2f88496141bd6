"""Surrogates: other models for the same task, on which an adversary without access makes transfer attacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from repair_engine.errors import BadInput
from repair_engine.models import formats
from repair_engine.models.architectures import Architecture
from repair_engine.models.preprocessing import Preprocessing
from repair_engine.models.timm_models import PREFIX
from repair_engine.support.words import first_line

_FORM = "FILE:ARCHITECTURE[:NUM_CLASSES][,mean=M/M/M][,std=S/S/S]"
_USUAL_SIDES = (28, 32, 64, 96, 128, 224, 256, 299, 384)


@dataclass(frozen=True)
class Surrogate:
    """One surrogate as it was asked for.

    Attributes:
        file: path of its checkpoint.
        architecture: what the checkpoint fits.
        mean, std: per channel, of pixels in [0, 1]; empty = those of the attacked model.
        name: what the file is called in reports; the path's own name by default.
        weights: "model" or "ema", where the file holds both.
    """

    file: str
    architecture: Architecture
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    name: str = ""
    weights: str | None = None

    @property
    def called(self) -> str:
        return self.name or Path(self.file).name

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Surrogate:
        plain = {**data, "mean": tuple(data["mean"]), "std": tuple(data["std"])}
        return cls(**{**plain, "architecture": Architecture.from_json(data["architecture"])})


@dataclass(frozen=True)
class Opened:
    """A surrogate that is ready: its logits of pixels in [0, 1], and what is said of it in the report."""

    spec: Surrogate
    module: torch.nn.Module
    preprocessing: Preprocessing
    sha256: str

    def logits(self, pixels: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.module(self.preprocessing.standardize(pixels))
        return out


def parse_surrogate(text: str, num_classes: int, register: Mapping[str, str]) -> Surrogate:
    """Reads `FILE:ARCHITECTURE[:NUM_CLASSES][,mean=M/M/M][,std=S/S/S]`.

    Args:
        num_classes: of the attacked model, where the text gives none.
        register: operator's architectures.

    Raises:
        BadInput: another form, or no such file.
    """
    head, *options = text.split(",")
    numbers: dict[str, tuple[float, ...]] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if key.strip() not in ("mean", "std") or not equals:
            raise BadInput(f"--surrogate {text!r}: {option!r} is neither mean=… nor std=….", f"The form is {_FORM}.")
        try:
            numbers[key.strip()] = tuple(float(v) for v in value.split("/"))
        except ValueError:
            raise BadInput(f"--surrogate {text!r}: {option!r} takes numbers, such as mean=0.485/0.456/0.406.") from None
    parts = head.split(":")
    if len(parts) > 2 and parts[-1].isdecimal():
        num_classes = int(parts.pop())
    if len(parts) < 2 or not parts[-1] or num_classes < 1:
        raise BadInput(f"--surrogate {text!r} is not of the form {_FORM}.")
    architecture = parts.pop()
    if len(parts) > 1 and f"{parts[-1]}:" == PREFIX:
        architecture = PREFIX + architecture
        parts.pop()
    file = ":".join(parts)
    if not Path(file).is_file():
        raise BadInput(f"--surrogate: there is no file {file}.")
    return Surrogate(
        file,
        Architecture(architecture, num_classes, register=dict(register)),
        numbers.get("mean", ()),
        numbers.get("std", ()),
    )


def open_surrogates(
    specs: Sequence[Surrogate], preprocessing: Preprocessing, shape: tuple[int, ...], logits: int, device: torch.device
) -> list[Opened]:
    """The surrogates' modules, checked against the attacked model.

    Args:
        preprocessing: of the attacked model.
        shape: of its images, [C, H, W].
        logits: how many it puts out.

    Raises:
        BadInput: a file that cannot be read, or a surrogate of another input size or number of classes.
    """
    return [_open(spec, preprocessing, shape, logits, device) for spec in specs]


def _open(
    spec: Surrogate, preprocessing: Preprocessing, shape: tuple[int, ...], logits: int, device: torch.device
) -> Opened:
    checkpoint = formats.read(spec.file, spec.architecture, spec.weights, spec.called)
    module = checkpoint.module().to(device)
    size = "×".join(map(str, shape))
    if checkpoint.in_channels != shape[0]:
        raise BadInput(
            f"The surrogate {spec.called} takes images of {checkpoint.in_channels} channels; the attacked model's have "
            f"{shape[0]} ({size}).",
            "An attack that transfers is made on a model of the same images.",
        )
    own = replace(
        preprocessing,
        mean=spec.mean or preprocessing.mean,
        std=spec.std or preprocessing.std,
        bgr=preprocessing.bgr and spec.architecture.config is not None,  # only such models' files say it
    )
    try:
        with torch.inference_mode():
            found = module(own.standardize(torch.zeros(2, *shape, device=device)))
    except (RuntimeError, ValueError) as error:  # Unsupported is one: an ONNX graph takes no other size
        sides = [side for side in _USUAL_SIDES if _takes(module, (shape[0], side, side), device)]
        takes = f"it takes {' or '.join(f'{shape[0]}×{s}×{s}' for s in sides)}" if sides else "it fails on them"
        raise BadInput(
            f"The surrogate {spec.called} takes another input size: the attacked model's images are {size}, {takes} "
            f"({first_line(error)}).",
            "An attack that transfers is made on a model of the same images.",
        ) from error
    count = found.shape[1] if found.dim() > 1 else 1
    if count != logits:
        raise BadInput(
            f"The surrogate {spec.called} puts out {count} logits; the attacked model has {logits}.",
            "A surrogate knows the same classes in the same order.",
        )
    return Opened(spec, module, own, checkpoint.sha256)


def _takes(module: torch.nn.Module, shape: tuple[int, ...], device: torch.device) -> bool:
    try:
        with torch.inference_mode():
            module(torch.zeros(2, *shape, device=device))
    except (RuntimeError, ValueError):
        return False
    return True
