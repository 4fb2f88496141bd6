"""One call of the Python API made ready: its model and images fitted to each other, its options, this process."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from repair_engine import settings
from repair_engine.case.preparing import Given
from repair_engine.data.in_memory import fit_classes
from repair_engine.errors import BadInput
from repair_engine.models.in_memory import hold
from repair_engine.question.request import RepairRequest
from repair_engine.support.bars import Bars
from repair_engine.support.process import prepare_process
from repair_engine.support.progress import Progress, Teller
from repair_engine.support.scratch import scratch
from repair_engine.verbs import asking, opening
from repair_engine.verbs.opening import Images, Model
from repair_engine.verbs.results import Repaired, place_of

Told = bool | Progress | None  # no one; a progress bar; or who is told (what is being done, share done of it)
_TRIGGER = ("trigger", "triggered")
_ABOUT_IMAGES = ("columns", "classes", "normalized", "mean", "std", "guard", *_TRIGGER, "device", "progress")


@dataclass(frozen=True)
class Run:
    """One call made ready."""

    request: RepairRequest
    given: Given
    model: Model
    folder: Path
    teller: Teller


@contextmanager
def ready(verb: str, model: Any, images: Any, metric: str, progress: Told, options: dict[str, Any]) -> Iterator[Run]:
    """A verb's call on a model and images; options are taken out of `options`. Raises BadInput."""
    with python_words(), set_up(progress) as teller, scratch(verb) as folder:
        about = [
            name
            for name in _ABOUT_IMAGES
            if (verb == "repair" or name != "guard") and (verb != "attack" or name not in _TRIGGER)
        ]
        asking.check_names(verb, options, (*asking.keywords_of(verb), *about))
        guard, trigger, triggered = (options.pop(name, None) for name in ("guard", *_TRIGGER))
        at_hand, shown = fitted(model, images, options, teller)
        given = Given(at_hand.checkpoint, shown.dataset)
        roles: dict[str, Model | Images] = {"model": at_hand, "data": shown}
        if guard is not None:
            roles["guard"] = other = _beside(guard, at_hand, shown, teller)
            opening.check_beside(other, shown, "guard set's")
            given = replace(given, guard=other.dataset)
        if triggered is not None:
            roles["triggered"] = other = _beside(triggered, at_hand, shown, teller)
            opening.check_beside(other, shown, "triggered")
            given = replace(given, triggered=other.dataset)
        asked = {name: value for name, value in options.items() if name not in _ABOUT_IMAGES}
        if asked.get("values") is not None:
            asked["values"] = place_of(asked["values"])
        paths = {role: str(one.path) if one.path else one.name for role, one in roles.items()}
        names = {role: one.name for role, one in roles.items()}
        if trigger is not None:
            given = replace(given, trigger=opening.patch(trigger, shown))
            paths["trigger"] = names["trigger"] = opening.patch_name(trigger)
        request = asking.request_of(
            verb,
            at_hand.checkpoint.architecture,
            metric,
            asked,
            **paths,
            names=names,
            weights=at_hand.weights,
            split_folder=shown.split_folder,
            device=at_hand.device,
            preprocessing=shown.dataset.preprocessing,
        )
        yield Run(request, given, at_hand, folder, teller)


def fitted(model: Any, images: Any, options: Mapping[str, Any], teller: Teller) -> tuple[Model, Images]:
    """Both, fitted to each other."""
    if isinstance(images, str | Path):
        opening.check_zip(str(images))
        model = model_alone(model, None, options)
    shown = images_of(images, model, options, teller)
    if isinstance(model, Model):
        found = model if options.get("device") is None else replace(model, device=opening.device_for(options["device"]))
    elif isinstance(model, torch.nn.Module):
        device = options.get("device")
        found = opening.hold_model(
            model, opening.example_of(shown), device=None if device is None else opening.device_for(device)
        )
    else:
        raise _no_model(model)
    return found, replace(shown, dataset=fit_classes(shown.dataset, found.checkpoint.architecture.num_classes))


def model_alone(model: Any, size: tuple[int, int] | None, options: Mapping[str, Any]) -> Model:
    """A model without images; `size` is theirs, None: some are tried. Raises BadInput."""
    if isinstance(model, Model):
        return model
    if isinstance(model, torch.nn.Module):
        return opening.hold_model(model, size=size, device=options.get("device"))
    raise _no_model(model)


def images_of(source: Any, model: Any, options: Mapping[str, Any], teller: Teller) -> Images:
    """Images at hand as `model` takes them (None: as they are). Raises BadInput."""
    told = {name: options[name] for name in ("normalized", "mean", "std", "classes") if options.get(name)}
    if isinstance(source, Images):
        if told:
            raise BadInput(f"{' and '.join(told)}: these images were opened before.", "Say it to open_images().")
        return opening.with_columns(source, options.get("columns"))
    if isinstance(source, str | Path):
        return of_zip(source, model, options, teller)
    opening.check_same_device(source, model)
    return opening.images_in_memory(
        source, told.get("classes", ()), options.get("columns"), bool(told.get("normalized")), told.get("mean"),
        told.get("std"), progress=teller.stage,
    )  # fmt: skip


def of_zip(
    path: str | Path, model: Model, options: Mapping[str, Any], teller: Teller, split_folder: str = ""
) -> Images:
    """The images of a zip as a model takes them. Raises BadInput."""
    if options.get("normalized"):
        raise BadInput("normalized=True is about images in memory; those of a zip are pixels.", "Leave it out.")
    said = {name: options[name] for name in settings.options(settings.Pixels) if options.get(name) is not None}
    pixels = settings.from_keywords(settings.Pixels, **said) if said else None
    return opening.images_of_zip(
        str(path), model, options.get("classes"), pixels, split_folder, options.get("columns"), teller.stage
    )


def _beside(source: Any, model: Model, shown: Images, teller: Teller) -> Images:
    """A guard set, or triggered images: the classes are the main set's, and so is what is done to the pixels."""
    if isinstance(source, Images):
        return source
    given = shown.dataset.preprocessing
    if isinstance(source, str | Path):
        opening.check_zip(str(source))
        as_shown = replace(model, preprocessing=given)
        return opening.images_of_zip(str(source), as_shown, shown.class_names, progress=teller.stage)
    told = {"classes": shown.class_names, "normalized": given.normalized}
    found = images_of(source, model, told, teller)
    return replace(found, dataset=replace(found.dataset, preprocessing=given))


def mended_by(repaired: Any, run: Run) -> tuple[Any, str]:
    """The repaired checkpoint or its path (None: there is none), and what it is called. Raises BadInput."""
    if isinstance(repaired, Repaired):
        if not repaired.written:
            raise BadInput("repaired: no repair was found, so there is no repaired model.", "Leave it out.")
        return repaired.edited, f"{run.model.name}, repaired"
    if isinstance(repaired, torch.nn.Module):
        return hold(repaired, run.model.checkpoint.architecture.num_classes), "the repaired module in memory"
    if isinstance(repaired, Model):
        return repaired.checkpoint, repaired.name
    return (None if repaired is None else str(repaired)), ""


def side_of(resizing: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width that a resizing ends in."""
    side = resizing.get("crop") or resizing.get("resize")
    return None if side is None else (side, side) if isinstance(side, int) else (side[0], side[1])


def _no_model(model: Any) -> BadInput:
    if isinstance(model, str | Path):
        return BadInput(f"The model is a path, {model}.", "Open it first: open_model(PATH, architecture, num_classes).")
    return BadInput(f"The model is a {type(model).__name__}; an nn.Module, or what open_model gave, is needed.")


@contextmanager
def set_up(progress: Told) -> Iterator[Teller]:
    """This process, and torch's modes of this thread, as runs need them; the modes go back to what they were."""
    prepare_process()
    teller = _teller(progress)
    try:
        with ExitStack() as modes:
            modes.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", module="torch")
            modes.enter_context(torch.inference_mode(False))
            modes.enter_context(torch.enable_grad())
            for kind in ("cpu", "cuda"):
                if torch.is_autocast_enabled(kind):
                    modes.enter_context(torch.autocast(kind, enabled=False))
            if torch.get_default_device().type != "cpu":
                modes.enter_context(torch.device("cpu"))
            yield teller
    finally:
        teller.close()


def _teller(progress: Told) -> Teller:
    if progress is None or progress is False:
        return Teller()
    if progress is True:
        return Bars(quiet=False, notebook=True)
    return Teller(progress)


@contextmanager
def python_words() -> Iterator[None]:
    """Errors name options as Python does: max_clean_drop, and not --max-clean-drop."""
    try:
        yield
    except BadInput as error:
        error.problem, error.mend = _as_keywords(error.problem), _as_keywords(error.mend)
        error.args = (f"{error.whole}\n{error.mend}" if error.mend else error.whole,)
        raise


def _as_keywords(said: str) -> str:
    return re.sub(r"--([a-z][a-z-]*[a-z])", lambda found: found[1].replace("-", "_"), said)


def with_register(options: dict[str, Any]) -> None:
    """`register` as the command line has it, NAME=FACTORY, of a mapping."""
    if isinstance(register := options.get("register"), Mapping):
        options["register"] = tuple(f"{name}={factory}" for name, factory in register.items())


@contextmanager
def or_closed(stack: ExitStack) -> Iterator[None]:
    """Where the work fails or is stopped, the folder for its results goes, too."""
    try:
        yield
    except BaseException:
        stack.close()
        raise
