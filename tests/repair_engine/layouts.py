"""Checkpoints in the layouts that people's files have, made on the spot: a name -> how it is made and what happens."""

from __future__ import annotations

import argparse
import datetime
import pathlib
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import nn

from repair_engine.models.architectures import Architecture
from repair_engine.models.formats import Checkpoint
from repair_engine.models.formats.convert import parse

State = dict[str, Any]
REGISTER = {"two": f"{__name__}:two", "dense": f"{__name__}:dense"}


class Two(nn.Module):
    """Two convolutions under `features`, and a head `fc`."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1, bias=False),
            nn.BatchNorm2d(6), nn.ReLU(),
        )  # fmt: skip
        self.fc = nn.Linear(6, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.features(x).mean((2, 3)))


class Dense(nn.Module):
    """With a DenseNet's names."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        layer = OrderedDict(norm1=nn.BatchNorm2d(3), relu1=nn.ReLU(), conv1=nn.Conv2d(3, 4, 1, bias=False))
        layer |= OrderedDict(norm2=nn.BatchNorm2d(4), relu2=nn.ReLU(), conv2=nn.Conv2d(4, 5, 3, bias=False))
        self.denseblock1 = nn.Sequential(OrderedDict(denselayer1=nn.Sequential(layer)))
        self.classifier = nn.Linear(5, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.denseblock1(x).mean((2, 3)))


def two(num_classes: int = 3) -> nn.Module:
    return Two(num_classes)


def dense(num_classes: int = 3) -> nn.Module:
    return Dense(num_classes)


class AttributeDict(dict):  # type: ignore[type-arg]
    """As pytorch_lightning's."""


_PARSING = "pytorch_lightning.utilities.parsing"
AttributeDict.__module__ = _PARSING


def sd(module: nn.Module | Callable[[int], nn.Module] = Two, seed: int = 0) -> State:
    """The state dict of a module, or of a seeded one of that class."""
    torch.manual_seed(seed)
    return dict((module if isinstance(module, nn.Module) else module(3)).state_dict())


def put(prefix: str, state: State | None = None) -> State:
    return {prefix + key: value for key, value in (state or sd()).items()}


def inner(part: str, at: str = "features.") -> State:
    return {key.replace(at, f"{at}{part}."): value for key, value in sd().items()}


def without(start: str, state: State | None = None) -> State:
    return {key: value for key, value in (state or sd()).items() if not key.startswith(start)}


def head(**layers: nn.Module) -> State:
    """Its head replaced: name -> module."""
    more = {f"{name}.{key}": value for name, module in layers.items() for key, value in module.state_dict().items()}
    return without("fc.") | more


def _normed(function: Callable[..., nn.Module]) -> State:
    module = Two(3)
    function(module.features[0])
    return sd(module)


def _pruned() -> State:
    from torch.nn.utils import prune

    module = Two(3)
    prune.l1_unstructured(module.features[0], "weight", 0.5)
    return sd(module)


def _old_dense() -> State:
    renamed = sd(Dense)
    for part in ("norm1", "norm2", "conv1", "conv2"):
        renamed = {key.replace(f".{part}.", f".{part[:-1]}.{part[-1]}."): value for key, value in renamed.items()}
    return {key: value for key, value in renamed.items() if not key.endswith("tracked")}


def _six() -> State:
    return {**sd(), "features.0.weight": torch.randn(4, 6, 3, 3)}


@dataclass(frozen=True)
class Layout:
    """Attributes:
    make: the object that torch.save writes.
    said: words of the message where it is refused, all of them; () = read, and it comes back as it was.
    dropped: entries that are not written back.
    asked: fields of the Architecture: `key`, `strip_prefix`, `name`, `num_classes`.
    """

    make: Callable[[], Any]
    said: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    asked: Mapping[str, Any] = field(default_factory=dict)


_WN, _SN = nn.utils.weight_norm, nn.utils.spectral_norm
_PWN, _PSN = nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm
_FOLD = "torch.save(model.state_dict(), 'weights.pth')"
_REGISTER = ("--register", "--architecture mine")

LAYOUTS: dict[str, Layout] = {
    # read
    "the examples of PyTorch: a tensor `best_acc1`": Layout(
        lambda: {"epoch": 3, "state_dict": put("module."), "best_acc1": torch.tensor(71.2), "optimizer": {}},
        dropped=("best_acc1", "optimizer"),
    ),
    "tensors of a scheduler and a scaler beside": Layout(
        lambda: {"model": sd(), "scaler": {"scale": torch.tensor(2.0)}, "lr": torch.tensor([0.1])},
        dropped=("scaler", "lr"),
    ),
    "an entry of an unknown name, the only one with tensors": Layout(lambda: {"classifier": sd(), "epoch": 2}),
    "prefix `backbone.`": Layout(lambda: put("backbone.")),
    "prefix `encoder.`": Layout(lambda: put("encoder.")),
    "prefix `model.` in Lightning's `state_dict`": Layout(lambda: {"state_dict": put("model."), "epoch": 1}),
    "prefix `net.`": Layout(lambda: put("net.")),
    "prefix `student.model.`": Layout(lambda: put("student.model.")),
    "`model.` beside a loss's `criterion.weight`": Layout(
        lambda: {"state_dict": {**put("model."), "criterion.weight": torch.ones(3)}}
    ),
    "`net.` beside metrics' `train_acc.tp`": Layout(
        lambda: {"train_acc.tp": torch.tensor(4), **put("net."), "loss_fn.pos_weight": torch.ones(3)}
    ),
    "`_orig_mod.` before all keys": Layout(lambda: put("_orig_mod.")),
    "`_orig_mod.module.`": Layout(lambda: put("_orig_mod.module.")),
    "`module._orig_mod.model.`": Layout(lambda: put("module._orig_mod.model.")),
    "`_fsdp_wrapped_module.` at two depths": Layout(
        lambda: put("_fsdp_wrapped_module.", inner("_fsdp_wrapped_module"))
    ),
    "`_checkpoint_wrapped_module.` in the middle": Layout(
        lambda: {k.replace("features.3.", "features.3._checkpoint_wrapped_module."): v for k, v in sd().items()}
    ),
    "FSDP and checkpointing nested, under `model.`": Layout(
        lambda: put("model._fsdp_wrapped_module.", inner("_fsdp_wrapped_module._checkpoint_wrapped_module"))
    ),
    "`module.` in the middle": Layout(lambda: inner("module")),
    "`_forward_module.` (Fabric, DeepSpeed)": Layout(lambda: put("_forward_module.")),
    "DenseNet's old keys `norm.1`": Layout(_old_dense, asked={"name": "dense"}),
    "DenseNet's old keys under `module.`": Layout(lambda: put("module.", _old_dense()), asked={"name": "dense"}),
    "`argparse.Namespace` among the extras": Layout(
        lambda: {"state_dict": sd(), "args": argparse.Namespace(lr=0.1, path=pathlib.PurePosixPath("x"))},
        dropped=("args",),
    ),
    "NumPy scalars and arrays among the extras": Layout(
        lambda: {"best": np.float64(0.9), "model": sd(), "curve": np.arange(3.0), "n": np.int64(3)},
        dropped=("best", "curve", "n"),
    ),
    "a date and Lightning's hyper-parameters": Layout(
        lambda: {"state_dict": put("model."), "when": datetime.datetime(2026, 1, 2), "h": AttributeDict(lr=1)},
        dropped=("when", "h"),
    ),
    "`--key`: teacher of {teacher, student}": Layout(
        lambda: {"student": sd(), "teacher": put("module."), "epoch": 1}, dropped=("student",), asked={"key": "teacher"}
    ),
    "`--key` two levels in": Layout(
        lambda: {"nets": {"a": sd(), "b": sd(seed=1)}, "epoch": 1}, asked={"key": "nets.a"}, dropped=("b",)
    ),
    "`--strip-prefix`: `encoder_q.` beside `encoder_k.`": Layout(
        lambda: {**put("encoder_k.", sd(seed=1)), **put("encoder_q.")}, asked={"strip_prefix": "encoder_q."}
    ),
    "`--strip-prefix` without its dot, under `module.`": Layout(
        lambda: {"state_dict": {**put("module.model."), "module.temperature": torch.ones(1)}},
        asked={"strip_prefix": "model"},
    ),
    # refused
    "{teacher, student} without a choice": Layout(
        lambda: {"student": sd(), "teacher": sd()}, ("several state dicts: student, teacher", "--key student")
    ),
    "`--key` of an entry that is not there": Layout(
        lambda: {"model": sd()}, ("no state dict under 'net'", "'model'", "--key"), asked={"key": "net"}
    ),
    "`encoder_q.` beside `encoder_k.`": Layout(
        lambda: {**put("encoder_q."), **put("encoder_k.")},
        ("2 times", "encoder_q., encoder_k.", "--strip-prefix encoder_q."),
    ),
    "`backbone.` beside another head": Layout(
        lambda: {**put("backbone."), "projector.weight": torch.ones(3, 3)},
        ("'backbone.'", "projector.weight", "--strip-prefix backbone."),
    ),
    "`--strip-prefix` that no key has": Layout(
        lambda: put("model."), ("no key begins with the prefix 'net.'", "model."), asked={"strip_prefix": "net."}
    ),
    "fc replaced by a Sequential": Layout(
        lambda: head(fc=nn.Sequential(nn.Dropout(), nn.Linear(6, 3))),
        ("custom head in place of fc", "fc.1.weight", *_REGISTER),
    ),
    "fc replaced by two layers, under `model.`": Layout(
        lambda: put("model.", head(fc=nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)))),
        ("custom head", "fc.2.weight", "nn.Linear(6, 5), nn.Linear(5, num_classes)", *_REGISTER),
    ),
    "a head of another name": Layout(
        lambda: head(classifier=nn.Linear(6, 3)), ("another name than fc", "classifier.weight", *_REGISTER)
    ),
    "no head at all": Layout(lambda: without("fc."), ("no head", "fc.weight", "whole classifier")),
    "weight norm": Layout(lambda: _normed(_WN), ("weight norm", "remove_weight_norm(m)", _FOLD)),
    "weight norm as a parametrization": Layout(
        lambda: _normed(_PWN), ("weight norm as a parametrization", "remove_parametrizations(m, 'weight')", _FOLD)
    ),
    "spectral norm": Layout(lambda: _normed(_SN), ("spectral norm", "remove_spectral_norm(m)", _FOLD)),
    "spectral norm as a parametrization": Layout(
        lambda: _normed(_PSN), ("spectral norm as a parametrization", "remove_parametrizations(m, 'weight')", _FOLD)
    ),
    "pruning masks": Layout(_pruned, ("pruning masks", "prune.remove(m, 'weight')", _FOLD)),
    "a quantized tensor": Layout(
        lambda: {**sd(), "fc.weight": torch.quantize_per_tensor(torch.randn(3, 6), 0.1, 0, torch.qint8)},
        ("quantized tensor", "float_model.state_dict()"),
    ),
    "packed weights of a quantized layer": Layout(
        lambda: {
            **without("fc."),
            "fc.scale": torch.ones(()),
            "fc.zero_point": torch.zeros(()).long(),
            "fc.weight": torch.ones(3, 6),
        },
        ("quantized network", "fc.zero_point", "float_model.state_dict()"),
    ),
    "LoRA adapters": Layout(lambda: {**sd(), "fc.lora_A.weight": torch.ones(2, 6)}, ("LoRA", "merge_and_unload()")),
    "six input channels": Layout(_six, ("features.0.weight", "6 input channels", "[:, :3]")),
    "another number of classes": Layout(
        lambda: sd(Two(7)),
        ("with 7 classes", "--num-classes 7"),
    ),
    "timm's keys for a torchvision name": Layout(
        lambda: {"conv_stem.weight": torch.ones(32, 3, 3, 3), "blocks.0.0.conv_dw.weight": torch.ones(32, 1, 3, 3)},
        ("timm's", "--architecture timm:efficientnet_b0"),
        asked={"name": "efficientnet_b0"},
    ),
    "timm's keys of a RegNet": Layout(
        lambda: {"stem.conv.weight": torch.ones(32, 3, 3, 3)},
        ("--architecture timm:regnety_016",),
        asked={"name": "regnet_y_1_6gf"},
    ),
    "Hugging Face's keys for a torchvision name": Layout(
        lambda: {"vit.embeddings.cls_token": torch.ones(1, 1, 768), "classifier.weight": torch.ones(3, 768)},
        ("transformers", "config.json"),
        asked={"name": "vit_b_16"},
    ),
    "an object of the training program": Layout(
        lambda: {"state_dict": sd(), "config": Two(3)},
        ("asks to run", "tests.repair_engine.layouts.Two", "sd = model.state_dict()"),
    ),
    "settings in a class of the user's own": Layout(
        lambda: {"state_dict": sd(), "config": Layout(dict)},
        ("asks to run tests.repair_engine.layouts.Layout", 'torch.save(file["state_dict"], "weights.pth")'),
    ),
    "an epoch among the tensors": Layout(
        lambda: {**sd(), "epoch": 3}, ("other entries, such as 'epoch' (int)", "isinstance(v, torch.Tensor)")
    ),
}


def read(layout: Layout, folder: Path) -> Checkpoint:
    """Writes the file and reads it. Raises BadInput."""
    there = dict.fromkeys(("pytorch_lightning", "pytorch_lightning.utilities"), ModuleType("package"))
    with patch.dict(sys.modules, {**there, _PARSING: sys.modules[__name__]}):  # as if it were installed
        torch.save(layout.make(), folder / "in.pth")
    asked = {"name": "two", "num_classes": 3, **layout.asked}
    return parse(folder / "in.pth", Architecture(register=REGISTER, **asked), None, "in.pth")
