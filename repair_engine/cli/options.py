"""The command line of the options in `repair_engine.settings`, and the request that they make."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, TypeVar

from repair_engine import settings
from repair_engine.errors import BadInput
from repair_engine.question.request import RepairRequest
from repair_engine.settings import texts
from repair_engine.support.archive import check_not_folder
from repair_engine.verbs import opening
from repair_engine.verbs.asking import request_here

_TYPES: dict[str, Any] = {"whole": int, "real": float}
_FILES = ("model", "data", "guard", "trigger", "triggered", "classes", "repaired", "constants")
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


def request_of(here: settings.ModelFile) -> RepairRequest:
    """The request that a verb's record describes. Raises BadInput."""
    for role in _FILES:
        path = getattr(here, role, None)
        if path and role in ("data", "guard", "triggered"):
            check_not_folder(Path(path), f"--{role}: {path}")
        if path and not Path(path).is_file() and not (role == "model" and Path(path).is_dir()):
            raise BadInput(f"--{role}: there is no file {path}.")
    architecture, file = opening.architecture_of(here)
    return request_here(
        here,
        architecture,
        model=str(file),
        preprocessing=opening.preprocessing_of(here, architecture, file),
        data=here.data,  # type: ignore[attr-defined]
        split_folder=here.split_folder,  # type: ignore[attr-defined]
        classes=here.classes,
        weights=here.weights,
        device=opening.device_for(here.device),
    )
