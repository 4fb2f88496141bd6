"""The engine on a model and images at hand: `score`, `explain`, `repair`, `attack`, `evaluate`, `inspect`, `compare`,
`verify`.

A model is an nn.Module, or what `open_model` read from a file; the one given is never changed. Images are a torch
Dataset or DataLoader of (image, label), arrays (images [N, C, H, W], labels [N]), or what `open_images` read.
Options are keywords by the names of the command line (`budget`, `seed`, `max_clean_drop`, …; docs/python.md).

All of them raise BadInput for what cannot be used, saying what is wrong and how to mend it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from repair_engine import settings
from repair_engine.documents.compare import compare as compare_results
from repair_engine.errors import BadInput
from repair_engine.pages.compare_page import render as render_comparison
from repair_engine.support.outputs import write_json
from repair_engine.verbs import asking, opening, running
from repair_engine.verbs.attack import run as run_attack
from repair_engine.verbs.auditing import audit
from repair_engine.verbs.opening import Images, Model
from repair_engine.verbs.ready import (
    Told,
    fitted,
    images_of,
    mended_by,
    model_alone,
    of_zip,
    or_closed,
    python_words,
    ready,
    set_up,
    side_of,
    with_register,
)
from repair_engine.verbs.results import (
    Attacked,
    Comparison,
    Evaluation,
    Explanation,
    Inspection,
    Repaired,
    Scores,
    Verified,
    in_a_folder,
    place_of,
)


def score(model: Any, images: Any, *, metric: str, progress: Told = None, **options: Any) -> Scores:
    """The Shapley value of every filter for a metric, with intervals.

    Args:
        metric: accuracy, recall:CLASS, subgroup-recall:COLUMN, attack-success, trigger-success:CLASS,
            hidden-trigger, corrupted-accuracy (or corrupted-accuracy:KIND,KIND), forget:CLASS or forget:COLUMN=VALUE.
        trigger: of trigger-success, or of hidden-trigger for the report alone: the patch, a file's path, Pillow's
            image, or an array [C, h, w].
        triggered: in the patch's place: images that carry the trigger, with their true labels; as `images`.
        columns: name -> value of each image, [N]: what metadata.csv is to a zip.
        classes: class names in the model's order; by default the Dataset's own.
        normalized: the images are as the model takes them. Otherwise uint8 pixels, or floating point in [0, 1].
        mean, std: per channel, of pixels in [0, 1], where the model needs them and the images are not normalized.
        device: where it runs; by default where the model lies.
        progress: True shows a bar; a function is told (what is being done, share done) and may raise to stop.
        options: see docs/python.md.
    """
    with ready("score", model, images, metric, progress, options) as run:
        found = running.score(run.request, run.folder, run.teller, run.given)
        stack, folder = in_a_folder("scores")
        found.write(folder)
        return Scores(found.document, stack, folder)


def explain(model: Any, images: Any, *, metric: str, progress: Told = None, **options: Any) -> Explanation:
    """Which filters a metric is made of: values, removal curves against other rankings, pictures. See `score`."""
    with ready("explain", model, images, metric, progress, options) as run:
        stack, folder = in_a_folder("explanation")
        with or_closed(stack):
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
    with ready("repair", model, images, metric, progress, options) as run:
        stack, folder = in_a_folder("repair")
        with or_closed(stack):
            document = running.repair(run.request, run.folder, folder, run.teller, run.given)
        assert run.given.model is not None
        return Repaired(document, stack, folder, run.given.model)


def evaluate(
    model: Any, images: Any, *, metric: str, ablate: str | Sequence[str] = (), progress: Told = None, **options: Any
) -> Evaluation:
    """The metric by split and over all images; with `ablate` (filters site:channel) also without these. See `score`."""
    names = ablate.split(",") if isinstance(ablate, str) else ablate
    with ready("evaluate", model, images, metric, progress, options) as run:
        return Evaluation(running.evaluate(run.request, [n.strip() for n in names], run.folder, run.teller, run.given))


def attack(
    model: Any, images: Any, *, repaired: Any = None, all_images: bool = False, progress: Told = None, **options: Any
) -> Attacked:
    """What adversaries achieve against a model, and against its repair. See `score`.

    Args:
        repaired: what `repair` gave, or its module, or a `Model`; then the rows before and after.
        all_images: attack all of them, not the report split alone.
    """
    with ready("attack", model, images, settings.Attack.metric, progress, options) as run:
        mended, name = mended_by(repaired, run)
        found = run_attack(run.request, mended, all_images, run.folder, run.teller.stage, name, run.given)
        stack, folder = in_a_folder("attack")
        found.write(folder)
        return Attacked(found.document, stack, folder)


def inspect(model: Any, images: Any = None, *, progress: Told = None, **options: Any) -> Inspection:
    """Sites and units of a model, what is no player and why; of images, where given, classes and columns.

    Args:
        units: which kinds are players: "all", "filters", "hidden" or "heads".
    """
    with python_words(), set_up(progress) as teller:
        asking.check_names(
            "inspect", options, ("columns", "classes", "normalized", "mean", "std", "size", "device", "units")
        )
        size = options.pop("size", None)
        units = settings.Players(units=options.pop("units", "all")).units
        if images is not None:
            at_hand, shown = fitted(model, images, options, teller)
            dataset = shown.dataset
            document = running.inspect(at_hand.checkpoint, dataset.preprocessing, dataset, at_hand.device, units=units)
        else:
            at_hand = model_alone(model, size, options)
            document = running.inspect(at_hand.checkpoint, at_hand.preprocessing, None, at_hand.device, size, units)
        return Inspection(document)


def compare(first: Any, second: Any, *, names: tuple[str, str] = ("A", "B")) -> Comparison:
    """Do two results of `score`, `explain` or `repair`, or of folders with them, hold the same filters responsible?"""
    with python_words():
        document = compare_results(place_of(first), place_of(second), names)
        stack, folder = in_a_folder("comparison")
        write_json(document, folder / "compare.json")
        (folder / "compare.html").write_text(render_comparison(document), encoding="utf-8")
        return Comparison(document, stack, folder)


def verify(
    repair: Any,
    *,
    model: str | Path | None = None,
    data: str | Path | None = None,
    key: str | Path | None = None,
    **options: Any,
) -> Verified:
    """A finished repair, checked from its files; see docs/commands.md. What does not hold is said, not raised.

    Args:
        repair: the folder that a repair was saved in, or what `repair` gave.
        model: the original's file: the repair is made again from it.
        data: the zip of its images: every prediction is made again.
        key: a file of a server's public keys: whether its receipt is signed by one of them.
        options: those of the command line: register ({NAME: "PACKAGE.MODULE:FACTORY"}), classes (a file), split_folder,
            device.

    Raises:
        BadInput: there is no report of a repair, or what was given beside it cannot be read.
    """
    with python_words(), set_up(None):
        known = [name for name in settings.keywords(settings.Verify) if name not in ("repair", "json")]
        asking.check_names("verify", options, known)
        with_register(options)
        files = {"model": model, "data": data, "key": key}
        given = {name: str(path) for name, path in files.items() if path is not None}
        return Verified(audit(settings.from_keywords(settings.Verify, repair=place_of(repair), **given, **options)))


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
    with python_words(), set_up(None):
        known = [name for name in settings.keywords(settings.ModelFile) if name not in ("model", "json")]
        asking.check_names("open_model", options, known)
        with_register(options)
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
    with python_words(), set_up(progress) as teller:
        asking.check_names("open_images", resizing, ("resize", "crop", "interpolation", "channels"))
        options = {"columns": columns, "classes": classes, "normalized": normalized, "mean": mean, "std": std}
        if isinstance(source, str | Path):
            if model is None:
                raise BadInput("The images of a zip are read as a model takes them.", "open_images(PATH, model)")
            opening.check_zip(str(source))
            return of_zip(source, model_alone(model, side_of(resizing), {}), options | resizing, teller, split_folder)
        if resizing or split_folder:
            named = ", ".join([*resizing, *(["split_folder"] if split_folder else [])])
            raise BadInput(f"{named}: these are about a zip; images in memory are taken as they are.")
        return images_of(source, None, options, teller)
