"""Architectures by name: torchvision's classification models and what the operator registered.

Nothing is downloaded and no pretrained weights are asked for: an `Architecture` only says how to build the
empty module that a checkpoint's tensors are loaded into.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from repair_engine.errors import BadInput
from repair_engine.models import hf_models, timm_models
from repair_engine.models.filling import ConstantFill
from repair_engine.onnx.module import GraphModule
from repair_engine.onnx.plan import GraphPlan
from repair_engine.support.torchvision import import_torchvision

Option = int | float | bool | str
Shapes = Mapping[str, tuple[int, ...]]

# Options that would only cost time or change what the checkpoint decides.
_WITHHELD = {"self", "num_classes", "init_weights", "weights", "progress", "norm_layer", "block", "blocks"}
# Auxiliary heads, by torchvision name: the key prefixes that show that the file has them.
_AUXILIARY = {"inception_v3": ("AuxLogits.",), "googlenet": ("aux1.", "aux2.")}
MAX_IN_CHANNELS = 4
ONNX = "onnx"


@dataclass(frozen=True)
class Architecture:
    """Which empty module a checkpoint fits.

    Attributes:
        name: a torchvision classification model, `timm:NAME`, or a key of `register`.
        num_classes: number of classes (not of logits: a binary classifier may have one logit).
        options: keyword arguments of the factory, already parsed.
        register: operator's architectures, name -> "package.module:factory".
        in_channels: input channels where they differ from the factory's own; None = the factory's.
        outputs: number of logits where it differs from num_classes (1 for a single-logit binary head).
        graph: the graph of an ONNX model (`onnx_graph.GraphPlan` as JSON), which is its own architecture; its name is
            then "onnx", and num_classes 0 means what the graph says. None = built by a factory.
        config: config.json of a Hugging Face folder, which is its own architecture (`hf_models`); None = another one.
        key: the entry of the file that holds the state dict, where several might; "" = found out.
        strip_prefix: of the keys that are the network's, where others stand beside them; "" = found out.
    """

    name: str
    num_classes: int
    options: Mapping[str, Option] = field(default_factory=dict)
    register: Mapping[str, str] = field(default_factory=dict)
    in_channels: int | None = None
    outputs: int | None = None
    graph: Mapping[str, Any] | None = None
    config: Mapping[str, Any] | None = None
    key: str = ""
    strip_prefix: str = ""

    @property
    def is_onnx(self) -> bool:
        return self.name == ONNX and not self.registered

    @property
    def is_timm(self) -> bool:
        return self.name.startswith(timm_models.PREFIX) and not self.registered

    @cached_property
    def plan(self) -> GraphPlan | None:
        """The graph of an ONNX model that has been read."""
        return None if self.graph is None else GraphPlan.from_json(self.graph)

    @property
    def registered(self) -> bool:
        return self.name in self.register

    def check_logits(self, found: int) -> None:
        """Raises BadInput: a network puts out another number of logits than that of its classes."""
        if found not in (self.num_classes, 1 if self.num_classes == 2 else self.num_classes):
            raise BadInput(
                f"The network puts out {found} logits; --num-classes says {self.num_classes}.",
                "Give the number of classes that the model was trained for.",
            )

    def build(self, device: str = "cpu", random_init: bool = False) -> nn.Module:
        """The empty module on 'meta' or 'cpu'.

        With `random_init=False` torchvision's slow random fills are skipped: parameters mean nothing until
        a checkpoint is loaded into them, while computed buffers (Swin's position index) are right.

        Raises:
            BadInput: unknown name, option or factory, or options that the factory refuses.
        """
        if self.plan is not None:
            return GraphModule(self.plan, device)
        if self.config is not None:
            return _call(self.name, hf_models.factory(self.config), {}, device, random_init)
        factory, accepted = _factory(self)
        unknown = sorted(set(self.options) - set(accepted)) if accepted is not None else []
        if unknown:
            raise BadInput(
                f"Architecture {self.name} has no option {', '.join(unknown)}.",
                f"It accepts: {', '.join(accepted or ()) or 'no options'}.",
            )
        arguments: dict[str, Any] = dict(self.options)
        if _accepts(factory, "num_classes"):
            arguments["num_classes"] = self.outputs or self.num_classes
        if self.is_timm:
            arguments |= {"in_chans": self.in_channels} if self.in_channels is not None else {}
            return _call(self.name, factory, arguments, device, random_init)
        if not self.registered:
            arguments["weights"] = None
            if self.name in _AUXILIARY:
                arguments["init_weights"] = False
        module = _call(self.name, factory, arguments, device, random_init)
        if self.in_channels is not None:
            _set_in_channels(module, self.in_channels, device, random_init)
        return module

    def resolve(self, shapes: Shapes) -> Architecture:
        """This architecture with what only the file can tell: auxiliary heads, input channels, one logit.

        Args:
            shapes: the file's keys (as the module names them) and shapes.
        """
        wanted = self
        if self.config is not None:
            return self
        if not self.registered and self.name in _AUXILIARY and "aux_logits" not in self.options:
            has = any(key.startswith(_AUXILIARY[self.name]) for key in shapes)
            wanted = replace(wanted, options={**wanted.options, "aux_logits": has})
        if self.num_classes in (1, 2):
            wanted = _resolve_single_logit(wanted, shapes)
        if not self.registered:
            wanted = _resolve_in_channels(wanted, shapes)
        return wanted

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "num_classes": self.num_classes,
            "options": dict(self.options),
            "register": dict(self.register),
            "in_channels": self.in_channels,
            "outputs": self.outputs,
            "graph": self.graph,
            "config": None if self.config is None else dict(self.config),
            "key": self.key,
            "strip_prefix": self.strip_prefix,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Architecture:
        return cls(**data)


def list_architectures() -> list[str]:
    """Names of torchvision's classification models."""
    import_torchvision()  # a second, which no other architecture needs
    import torchvision.models

    return list(torchvision.models.list_models(module=torchvision.models))


def parse_register(entries: Sequence[str]) -> dict[str, str]:
    """["resnet20=my_models.cifar:resnet20"] -> {"resnet20": "my_models.cifar:resnet20"}."""
    register: dict[str, str] = {}
    for entry in entries:
        name, equals, target = (part.strip() for part in entry.partition("="))
        module, colon, factory = target.partition(":")
        if not (equals and colon and name and module and factory):
            raise BadInput(f"The registered architecture {entry!r} is not of the form NAME=PACKAGE.MODULE:FACTORY.")
        register[name] = target
    return register


def first_convolution(module: nn.Module) -> tuple[str, nn.Conv2d] | None:
    """The first convolution in registration order, which in image classifiers reads the image."""
    for name, child in module.named_modules():
        if isinstance(child, nn.Conv2d):
            return name, child
    return None


def _factory(architecture: Architecture) -> tuple[Callable[..., nn.Module], list[str] | None]:
    """The callable and the names of its options (None: any name)."""
    if architecture.is_onnx:
        raise BadInput(
            "This file is not an ONNX model, so it does not bring its architecture.",
            "Give the architecture (--architecture) and the number of classes (--num-classes) that it was saved from.",
        )
    if architecture.num_classes < 1:
        raise BadInput(f"The number of classes is {architecture.num_classes}; it must be 1 or more.")
    if architecture.registered:
        factory = _import_factory(architecture.name, architecture.register[architecture.name])
        if _takes_any(factory):
            return factory, None
        return factory, [name for name in inspect.signature(factory).parameters if name != "num_classes"]
    if architecture.is_timm:
        return timm_models.factory(architecture.name), None
    names = list_architectures()
    if architecture.name not in names:
        known = sorted([*names, *architecture.register])
        close = difflib.get_close_matches(architecture.name.lower(), known, n=3, cutoff=0.5)
        hint = f"Did you mean {', '.join(close)}? " if close else ""
        raise BadInput(
            f"There is no architecture named {architecture.name!r}.",
            f"{hint}Use a torchvision classification model, such as resnet18, one of timm (timm:NAME), or register "
            "your own (NAME=PACKAGE.MODULE:FACTORY).",
        )
    from torchvision.models import get_model_builder

    builder = get_model_builder(architecture.name)
    return builder, _torchvision_options(architecture.name, builder)


def _torchvision_options(name: str, builder: Callable[..., nn.Module]) -> list[str]:
    """Simple keyword arguments of the model class that torchvision's builder returns."""
    model = inspect.signature(builder).return_annotation
    parameters = dict(inspect.signature(model.__init__).parameters)
    simple = (bool, int, float, str)
    options = [
        key for key, parameter in parameters.items() if key not in _WITHHELD and isinstance(parameter.default, simple)
    ]
    # What builders take themselves, before the class sees it.
    options += [key for key in ("image_size",) if key in parameters]
    return options + (["width_mult", "reduced_tail", "dilated"] if name.startswith("mobilenet_v3") else [])


def _takes_any(factory: Callable[..., Any]) -> bool:
    return any(p.kind == p.VAR_KEYWORD for p in inspect.signature(factory).parameters.values())


def _accepts(factory: Callable[..., Any], name: str) -> bool:
    return _takes_any(factory) or name in inspect.signature(factory).parameters


def _import_factory(name: str, target: str) -> Callable[..., nn.Module]:
    module_name, _, attribute = target.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
        inspect.signature(factory)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise BadInput(
            f"The registered architecture {name} = {target} cannot be used: {error}.",
            "It must name an importable module and a callable in it that returns the module.",
        ) from error
    return factory


def _quickly(factory: Callable[..., nn.Module], arguments: dict[str, Any]) -> nn.Module:
    """Build without drawing random numbers; an operator's factory may do with them what it likes."""
    if (getattr(factory, "__module__", None) or "").startswith("torchvision."):
        with ConstantFill():
            return factory(**arguments)
    with torch.random.fork_rng(devices=[]):
        return factory(**arguments)


def _call(
    name: str, factory: Callable[..., nn.Module], arguments: dict[str, Any], device: str, random_init: bool
) -> nn.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if device == "meta":
                module = _on_meta(factory, arguments)
            elif random_init:
                module = factory(**arguments)
            else:
                module = _quickly(factory, arguments)
    except BadInput:
        raise
    except Exception as error:  # whatever a factory does with options that do not suit it
        shown = ", ".join(f"{key}={value!r}" for key, value in arguments.items() if key != "weights")
        raise BadInput(f"Architecture {name} cannot be built with {shown}: {error}") from error
    if not isinstance(module, nn.Module):
        raise BadInput(f"The factory of architecture {name} returned a {type(module).__name__}, not a module.")
    return module


def _on_meta(factory: Callable[..., nn.Module], arguments: dict[str, Any]) -> nn.Module:
    try:
        with torch.device("meta"), ConstantFill():  # of nothing; normal numbers there would import torch's compiler
            return factory(**arguments)
    except Exception:
        # RegNet and others compute sizes from tensors: build for real, then drop the data
        return _quickly(factory, arguments).to("meta")


def _set_in_channels(module: nn.Module, channels: int, device: str, random_init: bool) -> None:
    found = first_convolution(module)
    assert found is not None  # in_channels is set by resolve(), which has seen the convolution
    name, old = found
    with torch.device(device) if random_init else torch.device("meta"):
        new = nn.Conv2d(
            channels,
            old.out_channels,
            old.kernel_size,  # type: ignore[arg-type]
            old.stride,  # type: ignore[arg-type]
            old.padding,  # type: ignore[arg-type]
            old.dilation,  # type: ignore[arg-type]
            old.groups,
            old.bias is not None,
            old.padding_mode,
        )
    if not random_init and device != "meta":
        new = new.to_empty(device=device)
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, new)


def _resolve_single_logit(wanted: Architecture, shapes: Shapes) -> Architecture:
    """Two classes and a head of one row: the file is a binary classifier with its threshold at 0."""
    if wanted.registered and not _accepts(_factory(wanted)[0], "num_classes"):
        return replace(wanted, num_classes=2)
    two = {key: tuple(t.shape) for key, t in replace(wanted, outputs=2).build("meta").state_dict().items()}
    heads = [key for key, shape in shapes.items() if key in two and shape[:1] == (1,) and two[key][:1] == (2,)]
    if heads and all(shapes[key][1:] == two[key][1:] for key in heads):
        return replace(wanted, num_classes=2, outputs=1)
    return wanted


def _resolve_in_channels(wanted: Architecture, shapes: Shapes) -> Architecture:
    found = first_convolution(wanted.build("meta"))
    if found is None:
        return wanted
    name, convolution = found
    own, shape = tuple(convolution.weight.shape), shapes.get(f"{name}.weight", ())
    fits = len(shape) == 4 and shape[0] == own[0] and shape[2:] == own[2:] and convolution.groups == 1
    if not fits or shape[1] == own[1] or not 1 <= shape[1] <= MAX_IN_CHANNELS:
        return wanted
    if wanted.options.get("transform_input") and shape[1] != 3:
        raise BadInput(
            f"The option transform_input needs 3 input channels; the file's {name}.weight has {shape[1]}.",
            "Leave transform_input out.",
        )
    return replace(wanted, in_channels=shape[1])
