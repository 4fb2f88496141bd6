"""The engine on a model and images at hand: `score`, `explain`, `repair`, `attack`, `evaluate`, `inspect`, `compare`.

A model is an nn.Module, or what `open_model` read from a file; the one given is never changed. Images are a torch
Dataset or DataLoader of (image, label), arrays (images [N, C, H, W], labels [N]), or what `open_images` read.
Options are keywords by the names of the command line (`budget`, `seed`, `max_clean_drop`, …; docs/python.md).

All of them raise BadInput for what cannot be used, saying what is wrong and how to mend it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from repair_engine import settings
from repair_engine.case.preparing import Given
from repair_engine.data.in_memory import fit_classes
from repair_engine.documents.compare import compare as compare_results
from repair_engine.errors import BadInput
from repair_engine.models.in_memory import hold
from repair_engine.pages.compare_page import render as render_comparison
from repair_engine.question.request import RepairRequest
from repair_engine.support.bars import Bars
from repair_engine.support.process import prepare_process
from repair_engine.support.progress import Progress, Teller
from repair_engine.support.scratch import scratch
from repair_engine.verbs import asking, opening, running
from repair_engine.verbs.attack import run as run_attack
from repair_engine.verbs.opening import Images, Model
from repair_engine.verbs.results import (
    Attacked,
    Comparison,
    Evaluation,
    Explanation,
    Inspection,
    Repaired,
    Scores,
    in_a_folder,
    place_of,
    write_json,
)

Told = bool | Progress | None  # no one; a progress bar; or who is told (what is being done, share done of it)
_ABOUT_IMAGES = ("columns", "classes", "normalized", "mean", "std", "guard", "device", "progress")


def score(model: Any, images: Any, *, metric: str, progress: Told = None, **options: Any) -> Scores:
    """The Shapley value of every filter for a metric, with intervals.

    Args:
        metric: accuracy, recall:CLASS, subgroup-recall:COLUMN, or attack-success.
        columns: name -> value of each image, [N]: what metadata.csv is to a zip.
        classes: class names in the model's order; by default the Dataset's own.
        normalized: the images are as the model takes them. Otherwise uint8 pixels, or floating point in [0, 1].
        mean, std: per channel, of pixels in [0, 1], where the model needs them and the images are not normalized.
        device: where it runs; by default where the model lies.
        progress: True shows a bar; a function is told (what is being done, share done) and may raise to stop.
        options: see docs/python.md.
    """
    with _ready("score", model, images, metric, progress, options) as run:
        found = running.score(run.request, run.folder, run.teller, run.given)
        stack, folder = in_a_folder("scores")
        found.write(folder)
        return Scores(found.document, stack, folder)


def explain(model: Any, images: Any, *, metric: str, progress: Told = None, **options: Any) -> Explanation:
    """Which filters a metric is made of: values, removal curves against other rankings, pictures. See `score`."""
    with _ready("explain", model, images, metric, progress, options) as run:
        stack, folder = in_a_folder("explanation")
        with _or_closed(stack):
            document = running.explain(run.request, run.folder, folder, run.teller, run.given)
        return Explanation(document, stack, folder)


def repair(model: Any, images: Any, *, metric: str, progress: Told = None, **options: Any) -> Repaired:
    """The culprits of a behaviour ablated, within limits, in a copy of the model. See `score`.

    Args:
        guard: a second image set on which the limit of clean accuracy must hold, too; as `images`.
        values: `Scores` of the same model and images, or the folder they were saved in: then nothing is searched.

    Raises:
        VerificationFailed: the repaired model does not reproduce what was measured.
    """
    with _ready("repair", model, images, metric, progress, options) as run:
        stack, folder = in_a_folder("repair")
        with _or_closed(stack):
            document = running.repair(run.request, run.folder, folder, run.teller, run.given)
        assert run.given.model is not None
        return Repaired(document, stack, folder, run.given.model)


def evaluate(
    model: Any, images: Any, *, metric: str, ablate: str | Sequence[str] = (), progress: Told = None, **options: Any
) -> Evaluation:
    """The metric by split and over all images; with `ablate` (filters site:channel) also without these. See `score`."""
    names = ablate.split(",") if isinstance(ablate, str) else ablate
    with _ready("evaluate", model, images, metric, progress, options) as run:
        return Evaluation(running.evaluate(run.request, [n.strip() for n in names], run.folder, run.teller, run.given))


def attack(
    model: Any, images: Any, *, repaired: Any = None, all_images: bool = False, progress: Told = None, **options: Any
) -> Attacked:
    """What adversaries achieve against a model, and against its repair. See `score`.

    Args:
        repaired: what `repair` gave, or its module, or a `Model`; then the rows before and after.
        all_images: attack all of them, not the report split alone.
    """
    with _ready("attack", model, images, "attack-success", progress, options) as run:
        mended, name = _mended(repaired, run)
        found = run_attack(run.request, mended, all_images, run.folder, run.teller.stage, name, run.given)
        stack, folder = in_a_folder("attack")
        found.write(folder)
        return Attacked(found.document, stack, folder)


def inspect(model: Any, images: Any = None, *, progress: Told = None, **options: Any) -> Inspection:
    """Sites and units of a model, what is no player and why; of images, where given, classes and columns.

    Args:
        units: which kinds are players: "all", "filters", "hidden" or "heads".
    """
    with _python_words(), _set_up(progress) as teller:
        asking.check_names(
            "inspect", options, ("columns", "classes", "normalized", "mean", "std", "size", "device", "units")
        )
        size = options.pop("size", None)
        units = settings.Players(units=options.pop("units", "all")).units
        if images is not None:
            at_hand, shown = _at_hand(model, images, options, teller)
            dataset = shown.dataset
            document = running.inspect(at_hand.checkpoint, dataset.preprocessing, dataset, at_hand.device, units=units)
        else:
            at_hand = _model_alone(model, size, options)
            document = running.inspect(at_hand.checkpoint, at_hand.preprocessing, None, at_hand.device, size, units)
        return Inspection(document)


def compare(first: Any, second: Any, *, names: tuple[str, str] = ("A", "B")) -> Comparison:
    """Do two results of `score`, `explain` or `repair`, or of folders with them, hold the same filters responsible?"""
    with _python_words():
        document = compare_results(place_of(first), place_of(second), names)
        stack, folder = in_a_folder("comparison")
        write_json(document, folder / "compare.json")
        (folder / "compare.html").write_text(render_comparison(document), encoding="utf-8")
        return Comparison(document, stack, folder)


def open_model(
    path: str | Path, architecture: str | None = None, num_classes: int | None = None, **options: Any
) -> Model:
    """A model from a file (safetensors, .pth, .onnx) or a Hugging Face folder; what the functions here take as model.

    Args:
        architecture: torchvision's name, timm:NAME, or a registered one; ONNX and folders bring their own.
        options: those of the command line about the model: options (of the architecture, a mapping), register
            ({NAME: "PACKAGE.MODULE:FACTORY"}), weights, key, strip_prefix, classes (a file), device; and resize, crop,
            mean, std, interpolation, which say what its images become.
    """
    with _python_words(), _set_up(None):
        known = [name for name in settings.keywords(settings.ModelFile) if name not in ("model", "json")]
        asking.check_names("open_model", options, known)
        if isinstance(register := options.get("register"), Mapping):
            options["register"] = tuple(f"{name}={factory}" for name, factory in register.items())
        asked = {"model": str(path), "architecture": architecture, "num_classes": num_classes, **options}
        given = {name: value for name, value in asked.items() if value is not None}
        return opening.open_model(settings.from_keywords(settings.ModelFile, **given))


def open_images(
    source: Any,
    model: Any = None,
    *,
    columns: Mapping[str, Any] | None = None,
    classes: str | Sequence[str] | None = None,
    normalized: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    split_folder: str = "",
    progress: Told = None,
    **resizing: Any,
) -> Images:
    """Images read once: from a zip as `model` takes them, or from what is in memory.

    Args:
        source: the path of a zip (class/image.png), or a Dataset, a DataLoader, or (images, labels).
        model: a module or `Model`; needed for a zip.
        classes: names in the model's order, or for a zip the path of a file of them.
        split_folder: the top folder of the zip to read alone.
        resizing: resize, crop, interpolation; of a zip.
    """
    with _python_words(), _set_up(progress) as teller:
        asking.check_names("open_images", resizing, ("resize", "crop", "interpolation", "channels"))
        options = {"columns": columns, "classes": classes, "normalized": normalized, "mean": mean, "std": std}
        if isinstance(source, str | Path):
            if model is None:
                raise BadInput("The images of a zip are read as a model takes them.", "open_images(PATH, model)")
            opening.check_zip(str(source))
            return _of_zip(source, _model_alone(model, _side(resizing), {}), options | resizing, teller, split_folder)
        if resizing or split_folder:
            named = ", ".join([*resizing, *(["split_folder"] if split_folder else [])])
            raise BadInput(f"{named}: these are about a zip; images in memory are taken as they are.")
        return _images(source, None, options, teller)


@dataclass(frozen=True)
class _Run:
    """One call made ready."""

    request: RepairRequest
    given: Given
    model: Model
    folder: Path
    teller: Teller


@contextmanager
def _ready(verb: str, model: Any, images: Any, metric: str, progress: Told, options: dict[str, Any]) -> Iterator[_Run]:
    with _python_words(), _set_up(progress) as teller, scratch(verb) as folder:
        about = [name for name in _ABOUT_IMAGES if verb == "repair" or name != "guard"]
        asking.check_names(verb, options, (*asking.keywords_of(verb), *about))
        guard = options.pop("guard", None)
        at_hand, shown = _at_hand(model, images, options, teller)
        given = Given(at_hand.checkpoint, shown.dataset)
        roles: dict[str, Model | Images] = {"model": at_hand, "data": shown}
        if guard is not None:
            roles["guard"] = other = _guard(guard, at_hand, shown, teller)
            opening.check_guard(other, shown)
            given = replace(given, guard=other.dataset)
        if shown.dataset.preprocessing.normalized and metric == "attack-success":
            raise BadInput(
                "Attacks change pixels in [0, 1]; these images are normalized already.",
                "Give pixels (uint8, or floating point in [0, 1]), and mean= and std= as the model needs them.",
            )
        asked = {name: value for name, value in options.items() if name not in _ABOUT_IMAGES}
        if asked.get("values") is not None:
            asked["values"] = place_of(asked["values"])
        paths = {role: str(one.path) if one.path else one.name for role, one in roles.items()}
        request = asking.request_of(
            verb,
            at_hand.checkpoint.architecture,
            metric,
            asked,
            **paths,
            names={role: one.name for role, one in roles.items()},
            weights=at_hand.weights,
            split_folder=shown.split_folder,
            device=at_hand.device,
            preprocessing=shown.dataset.preprocessing,
        )
        yield _Run(request, given, at_hand, folder, teller)


def _at_hand(model: Any, images: Any, options: Mapping[str, Any], teller: Teller) -> tuple[Model, Images]:
    """Both, fitted to each other."""
    if isinstance(images, str | Path):
        opening.check_zip(str(images))
        model = _model_alone(model, None, options)
    shown = _images(images, model, options, teller)
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


def _model_alone(model: Any, size: tuple[int, int] | None, options: Mapping[str, Any]) -> Model:
    if isinstance(model, Model):
        return model
    if isinstance(model, torch.nn.Module):
        return opening.hold_model(model, size=size, device=options.get("device"))
    raise _no_model(model)


def _images(source: Any, model: Any, options: Mapping[str, Any], teller: Teller) -> Images:
    told = {name: options[name] for name in ("normalized", "mean", "std", "classes") if options.get(name)}
    if isinstance(source, Images):
        if told:
            raise BadInput(f"{' and '.join(told)}: these images were opened before.", "Say it to open_images().")
        return opening.with_columns(source, options.get("columns"))
    if isinstance(source, str | Path):
        return _of_zip(source, model, options, teller)
    opening.check_same_device(source, model)
    return opening.images_in_memory(
        source, told.get("classes", ()), options.get("columns"), bool(told.get("normalized")), told.get("mean"),
        told.get("std"), progress=teller.stage,
    )  # fmt: skip


def _of_zip(
    path: str | Path, model: Model, options: Mapping[str, Any], teller: Teller, split_folder: str = ""
) -> Images:
    if options.get("normalized"):
        raise BadInput("normalized=True is about images in memory; those of a zip are pixels.", "Leave it out.")
    said = {name: options[name] for name in settings.options(settings.Pixels) if options.get(name) is not None}
    pixels = settings.from_keywords(settings.Pixels, **said) if said else None
    return opening.images_of_zip(
        str(path), model, options.get("classes"), pixels, split_folder, options.get("columns"), teller.stage
    )


def _guard(source: Any, model: Model, shown: Images, teller: Teller) -> Images:
    """A guard set: its classes are the main set's, and so is what is done to its pixels."""
    if isinstance(source, Images):
        return source
    given = shown.dataset.preprocessing
    if isinstance(source, str | Path):
        opening.check_zip(str(source))
        as_shown = replace(model, preprocessing=given)
        return opening.images_of_zip(str(source), as_shown, shown.class_names, progress=teller.stage)
    told = {"classes": shown.class_names, "normalized": given.normalized}
    found = _images(source, model, told, teller)
    return replace(found, dataset=replace(found.dataset, preprocessing=given))


def _mended(repaired: Any, run: _Run) -> tuple[Any, str]:
    if isinstance(repaired, Repaired):
        if not repaired.written:
            raise BadInput("repaired: no repair was found, so there is no repaired model.", "Leave it out.")
        return repaired.edited, f"{run.model.name}, repaired"
    if isinstance(repaired, torch.nn.Module):
        return hold(repaired, run.model.checkpoint.architecture.num_classes), "the repaired module in memory"
    if isinstance(repaired, Model):
        return repaired.checkpoint, repaired.name
    return (None if repaired is None else str(repaired)), ""


def _side(resizing: Mapping[str, Any]) -> tuple[int, int] | None:
    side = resizing.get("crop") or resizing.get("resize")
    return None if side is None else (side, side) if isinstance(side, int) else (side[0], side[1])


def _no_model(model: Any) -> BadInput:
    if isinstance(model, str | Path):
        return BadInput(f"The model is a path, {model}.", "Open it first: open_model(PATH, architecture, num_classes).")
    return BadInput(f"The model is a {type(model).__name__}; an nn.Module, or what open_model gave, is needed.")


@contextmanager
def _set_up(progress: Told) -> Iterator[Teller]:
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
def _python_words() -> Iterator[None]:
    """Errors name options as Python does: max_clean_drop, and not --max-clean-drop."""
    try:
        yield
    except BadInput as error:
        error.problem, error.mend = _as_keywords(error.problem), _as_keywords(error.mend)
        error.args = (f"{error.whole}\n{error.mend}" if error.mend else error.whole,)
        raise


def _as_keywords(said: str) -> str:
    return re.sub(r"--([a-z][a-z-]*[a-z])", lambda found: found[1].replace("-", "_"), said)


@contextmanager
def _or_closed(stack: ExitStack) -> Iterator[None]:
    """Where the work fails or is stopped, the folder for its results goes, too."""
    try:
        yield
    except BaseException:
        stack.close()
        raise
