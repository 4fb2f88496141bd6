"""The command line of the options in `repair_engine.settings`, and the request that they make."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, TypeVar

import torch

from repair_engine import settings
from repair_engine.errors import BadInput
from repair_engine.models import hf_models
from repair_engine.models.architectures import ONNX, Architecture, parse_register
from repair_engine.models.formats import is_onnx
from repair_engine.models.preprocessing import Preprocessing
from repair_engine.question.objectives import Metric
from repair_engine.question.request import RepairRequest, preprocessing_from
from repair_engine.question.surrogates import parse_surrogate
from repair_engine.settings import texts
from repair_engine.support.archive import check_not_folder

_TYPES: dict[str, Any] = {"whole": int, "real": float}
_FILES = ("model", "data", "guard", "classes", "repaired", "constants")
Asked = TypeVar("Asked", bound=settings.Settings)


def add_options(parser: argparse.ArgumentParser, record: type[settings.Settings]) -> None:
    """One argument for each option of the record, in groups by the class that declares it."""
    by = settings.declared_by(record)
    for kind in dict.fromkeys(by.values()):
        said = (kind.__doc__ or "").splitlines()[0].rstrip(".")
        group = parser.add_argument_group("Of this verb" if kind is record or vars(kind).get("verb") else said)
        for name, one in settings.options(record).items():
            if by[name] is kind:
                _add(group, one)


def _add(group: argparse._ArgumentGroup, one: settings.Option) -> None:
    more: dict[str, Any] = {"help": texts.help_of(one).replace("%", "%%")}
    if one.metavar:
        more["metavar"] = one.metavar
    if one.positional:
        more |= {"nargs": "+"} if one.kind == "texts" else {}
        group.add_argument(one.name, **more)
        return
    more |= {"dest": one.name, "default": None, "required": one.required}
    if one.kind == "flag":
        del more["required"]
        if one.off:
            either = group.add_mutually_exclusive_group()
            either.add_argument(texts.flag_of(one), action="store_true", **more)
            either.add_argument(one.off, dest=one.name, action="store_false", default=None, help="the opposite")
        else:
            group.add_argument(texts.flag_of(one), action="store_true", **more)
    elif one.kind == "reals":
        group.add_argument(texts.flag_of(one), nargs="+", **more)
    elif one.kind == "pairs" or (one.kind == "texts" and not one.commas):
        group.add_argument(texts.flag_of(one), action="append", **more)
    else:
        more |= {"choices": tuple(one.words)} if one.words else {}
        group.add_argument(texts.flag_of(one), type=_TYPES.get(one.kind, str), **more)


def read(args: argparse.Namespace, record: type[Asked]) -> Asked:
    """The record that the arguments describe. Raises BadInput."""
    said = settings.options(record)
    return record(
        **{name: _value(one, given) for name, one in said.items() if (given := getattr(args, name)) is not None}
    )


def _value(one: settings.Option, given: Any) -> Any:
    if one.kind == "pairs":
        return texts.pairs(one, given)
    if one.kind in ("reals", "size") or one.commas:
        return texts.parse(one, given if isinstance(given, str) else " ".join(given))
    return given


def architecture_of(here: settings.ModelFile) -> tuple[Architecture, str, hf_models.Folder | None]:
    """What the options say (an ONNX model needs to be told nothing), the file of the weights, and the Hugging Face
    folder that it lies in. Raises BadInput."""
    name, classes = here.architecture, here.num_classes
    place: dict[str, Any] = {"key": here.key, "strip_prefix": here.strip_prefix}
    if Path(here.model).is_dir():
        folder = hf_models.open_folder(here.model)
        if name is not None or here.options:
            raise BadInput(f"--model: the folder {folder.path} brings its architecture.", "Leave --architecture out.")
        if classes not in (None, folder.num_classes):
            raise BadInput(f"--num-classes is {classes}; {folder.path}/config.json has {folder.num_classes} classes.")
        whole = Architecture(folder.name, folder.num_classes, config=folder.config, **place)
        return whole, str(folder.weights), folder
    if name is None or classes is None:
        if not Path(here.model).is_file():
            raise BadInput(f"--model: there is no file {here.model}.")
        if not is_onnx(Path(here.model)):
            missing = [o for o, v in (("--architecture", name), ("--num-classes", classes)) if v is None]
            raise BadInput(f"{' and '.join(missing)} must be given: only an ONNX model brings its own.")
    register = parse_register(here.register)
    return Architecture(name or ONNX, classes or 0, here.options or {}, register, **place), here.model, None


def preprocessing_of(
    here: settings.ModelFile, architecture: Architecture, folder: hf_models.Folder | None
) -> Preprocessing | None:
    """What was given, over the model's own where only a part was; None where nothing was."""
    given = here.part(settings.Pixels).given()
    whole = {"resize", "crop", "mean", "std"} <= given.keys()
    base = None if folder is None or whole else hf_models.preprocessing_of(folder.path)
    return preprocessing_from(architecture, given, base)


def request_of(here: settings.ModelFile) -> RepairRequest:
    """The request that a verb's record describes; the attack verb's metric is attack-success. Raises BadInput."""
    for role in _FILES:
        path = getattr(here, role, None)
        if path and role in ("data", "guard"):
            check_not_folder(Path(path), f"--{role}: {path}")
        if path and not Path(path).is_file() and not (role == "model" and Path(path).is_dir()):
            raise BadInput(f"--{role}: there is no file {path}.")
    architecture, weights_file, folder = architecture_of(here)
    surrogates = [
        parse_surrogate(text, architecture.num_classes, architecture.register)
        for text in getattr(here, "surrogate", ())
    ]
    files = {name: getattr(here, name) for name in ("guard", "guard_split_folder", "constants") if hasattr(here, name)}
    return RepairRequest.of(
        here,
        model=weights_file,
        architecture=architecture,
        metric=Metric.parse(getattr(here, "metric", "attack-success")),
        preprocessing=preprocessing_of(here, architecture, folder),
        surrogates=tuple(surrogates),
        data=here.data,  # type: ignore[attr-defined]
        split_folder=here.split_folder,  # type: ignore[attr-defined]
        classes=here.classes,
        weights=here.weights,
        device=device_of(here.device),
        **files,
    )


def device_of(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise BadInput("--device cuda: torch sees no GPU here.", "Use --device cpu, or install a GPU build of torch.")
    return name
