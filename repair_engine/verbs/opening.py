"""Models and images at hand: read once from files, or taken from memory as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from repair_engine import settings
from repair_engine.case.inspection import read_for, usable_size
from repair_engine.data.images import ImageSet
from repair_engine.data.in_memory import columns_of, read_images
from repair_engine.data.patches import Patch, patch_of, read_patch
from repair_engine.errors import BadInput
from repair_engine.models import formats, hf_models
from repair_engine.models.architectures import ONNX, Architecture, parse_register
from repair_engine.models.classes import ClassNames, class_names
from repair_engine.models.formats import Checkpoint, is_onnx
from repair_engine.models.in_memory import NAME, count_logits, device_of, hold
from repair_engine.models.preprocessing import Preprocessing
from repair_engine.question.request import preprocessing_from
from repair_engine.support.archive import check_not_folder
from repair_engine.support.progress import Progress, silent


@dataclass(frozen=True)
class Model:
    """A model at hand.

    Attributes:
        checkpoint: what it is; of a module in memory, a copy (`Checkpoint.held`).
        path: of its file; None: it is in memory.
        weights: "model" or "ema", where the file holds both.
        preprocessing: what its images become, as far as that was said or a Hugging Face folder says it; else None.
        device: where it runs.
        classes: path of a file of class names, or None.
    """

    checkpoint: Checkpoint
    path: Path | None
    weights: str | None
    preprocessing: Preprocessing | None
    device: str
    classes: str | None = None

    @property
    def name(self) -> str:
        if self.path is not None:
            return self.path.name
        return NAME.format(self.checkpoint.architecture.name)

    def module(self) -> torch.nn.Module:
        """The plain module: float32, on the CPU, in eval mode."""
        return self.checkpoint.module()

    def __repr__(self) -> str:
        architecture = self.checkpoint.architecture
        return f"<Model {self.name}: {architecture.name}, {architecture.num_classes} classes, on {self.device}>"


@dataclass(frozen=True)
class Images(ImageSet):
    """A labelled image set at hand.

    Attributes:
        path: of its zip; None: it is in memory.
        split_folder: the part of the zip that was read.
    """

    path: Path | None = None
    split_folder: str = ""

    @property
    def name(self) -> str:
        return self.path.name if self.path is not None else NAME.format(f"{len(self.dataset)} images")

    @property
    def columns(self) -> Mapping[str, tuple[str, ...]]:
        """Name -> value of each image, [N]."""
        return self.dataset.attributes

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.shape))
        columns = f", columns {', '.join(self.columns)}" if self.columns else ""
        return f"<Images {self.name}: {len(self)} of {shape}, {len(self.class_names)} classes{columns}>"


def architecture_of(here: settings.ModelFile) -> tuple[Architecture, Path]:
    """What the options say (an ONNX model needs to be told nothing), and the file of the weights.

    Raises:
        BadInput: there is no such file, or it does not bring its architecture and none is given.
    """
    name, classes = here.architecture, here.num_classes
    place: dict[str, Any] = {"key": here.key, "strip_prefix": here.strip_prefix}
    if Path(here.model).is_dir():
        folder = hf_models.open_folder(here.model)
        if name is not None or here.options:
            raise BadInput(f"--model: the folder {folder.path} brings its architecture.", "Leave --architecture out.")
        if classes not in (None, folder.num_classes):
            raise BadInput(f"--num-classes is {classes}; {folder.path}/config.json has {folder.num_classes} classes.")
        return Architecture(folder.name, folder.num_classes, config=folder.config, **place), folder.weights
    if name is None or classes is None:
        if not Path(here.model).is_file():
            raise BadInput(f"--model: there is no file {here.model}.")
        if not is_onnx(Path(here.model)):
            missing = [o for o, v in (("--architecture", name), ("--num-classes", classes)) if v is None]
            raise BadInput(f"{' and '.join(missing)} must be given: only an ONNX model brings its own.")
    register = parse_register(here.register)
    return Architecture(name or ONNX, classes or 0, here.options or {}, register, **place), Path(here.model)


def preprocessing_of(here: settings.Pixels, architecture: Architecture, file: Path) -> Preprocessing | None:
    """What was given, over the model's own where only a part was; None where nothing was.

    Args:
        file: of the weights; a Hugging Face folder's preprocessing lies beside it.
    """
    given = here.part(settings.Pixels).given()
    whole = {"resize", "crop", "mean", "std"} <= given.keys()
    in_folder = architecture.config is not None and not whole
    return preprocessing_from(architecture, given, hf_models.preprocessing_of(file.parent) if in_folder else None)


def device_for(name: str) -> str:
    """The device of "auto", "cpu" or "cuda". Raises BadInput: there is no GPU."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise BadInput("--device cuda: torch sees no GPU here.", "Use --device cpu, or install a GPU build of torch.")
    return name


def open_model(here: settings.ModelFile) -> Model:
    """A model from a file, or a Hugging Face folder's. Raises BadInput, see `formats.read`."""
    architecture, file = architecture_of(here)
    if not file.is_file():
        raise BadInput(f"--model: there is no file {file}.")
    given = preprocessing_of(here, architecture, file)
    return Model(
        formats.read(file, architecture, here.weights), file, here.weights, given, device_for(here.device), here.classes
    )


def hold_model(
    module: torch.nn.Module,
    example: torch.Tensor | None = None,
    size: tuple[int, int] | None = None,
    device: str | None = None,
) -> Model:
    """A module in memory; what its images are like tells how many classes it has.

    Args:
        example: images as it takes them [N, C, H, W].
        size: without an example, their height and width; None: some are tried.
        device: where it is to run; None: where it lies.

    Raises:
        BadInput: it cannot be copied (`hold`), or takes no such images.
    """
    at = device_of(module)
    checkpoint = hold(module, 2)
    if example is None:
        plain = checkpoint.module()
        size = usable_size(plain, size, checkpoint.in_channels, "cpu")
        logits = count_logits(plain, torch.zeros(2, checkpoint.in_channels, *size))
    else:
        logits = count_logits(checkpoint.module(), example)
    made_by = replace(checkpoint.architecture, num_classes=max(logits, 2))
    return Model(replace(checkpoint, architecture=made_by), None, None, None, device or str(at))


def images_in_memory(
    source: Any,
    names: Sequence[str] = (),
    columns: Mapping[str, Any] | None = None,
    normalized: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    progress: Progress = silent,
) -> Images:
    """Images in memory (`read_images`).

    Raises:
        BadInput: see `read_images`; or they are said to be normalized, and a mean or std is given.
    """
    if normalized and (mean is not None or std is not None):
        raise BadInput(
            "normalized=True says that nothing is to be done to the images, and mean= or std= are given.",
            "Leave one of them out.",
        )
    channels = len(mean or std or ()) or None
    preprocessing = Preprocessing(
        channels=channels or 3, mean=tuple(mean or ()), std=tuple(std or ()), normalized=normalized
    )
    found = read_images(source, names, preprocessing, columns, progress)
    seen = found.images.shape[1]
    if channels is None:
        found = replace(found, preprocessing=replace(preprocessing, channels=seen, mean=(), std=()))
    elif channels != seen:
        raise BadInput(f"mean and std are of {channels} channels; the images have {seen}.")
    return Images(found)


def images_of_zip(
    path: str,
    model: Model,
    classes: str | Sequence[str] | None = None,
    pixels: settings.Pixels | None = None,
    split_folder: str = "",
    columns: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> Images:
    """The images of a zip as a model takes them.

    Args:
        classes: names in the model's order, or the path of a file of them.
        pixels: over the model's own.

    Raises:
        BadInput: see `read_dataset`.
    """
    architecture = model.checkpoint.architecture
    asked = preprocessing_from(architecture, {} if pixels is None else pixels.given(), model.preprocessing)
    classes = model.classes if classes is None else classes
    if classes is None or isinstance(classes, str | Path):
        names = class_names(architecture, classes)
    else:
        names = ClassNames(architecture.num_classes, tuple(map(str, classes)), source="the caller")
    found = read_for(model.checkpoint, path, names, asked, progress, split=split_folder)
    return with_columns(Images(found, Path(path), split_folder), columns)


def check_zip(path: str) -> None:
    """Raises BadInput: there is no such file."""
    check_not_folder(Path(path), f"--data: {path}")
    if not Path(path).is_file():
        raise BadInput(f"--data: there is no file {path}.")


def with_columns(images: Images, columns: Mapping[str, Any] | None) -> Images:
    """The images with further columns. Raises BadInput: one has another length."""
    if not columns:
        return images
    attributes = {**images.dataset.attributes, **columns_of(columns, len(images))}
    return replace(images, dataset=replace(images.dataset, attributes=attributes))


def example_of(images: Images) -> torch.Tensor:
    """Two images as the model takes them, float32 [2, C, H, W]."""
    pixels = torch.from_numpy(np.array(images.dataset.images[:2]))
    return images.dataset.preprocessing.normalize(pixels)


def patch(source: Any, shown: Images) -> Patch:
    """A trigger's patch for these images: from a file's path, Pillow's image, or an array. Raises BadInput."""
    channels = shown.shape[0]
    if not isinstance(source, str | Path):
        return patch_of(source, channels)
    if not Path(source).is_file():
        raise BadInput(f"--trigger: there is no file {source}.")
    return read_patch(source, channels)


def patch_name(source: Any) -> str:
    return Path(source).name if isinstance(source, str | Path) else NAME.format("the patch")


def check_beside(other: Images, shown: Images, which: str) -> None:
    """Raises BadInput: the images beside the main set (`which`, for people), or their classes, are no such ones."""
    if other.shape != shown.shape:
        raise BadInput(
            f"The {which} images have shape {list(other.shape)}, the main set's {list(shown.shape)} ([C, H, W]).",
            "Give both as the model takes them.",
        )
    if other.class_names != shown.class_names:
        what = "The guard set's classes" if which.startswith("guard") else f"The classes of the {which} images"
        raise BadInput(f"{what} are not the main set's.", "Open it with classes=images.class_names.")


def check_same_device(source: Any, model: Any) -> None:
    """Raises BadInput: the images lie on a device (not the CPU) that is not the module's."""
    tensors = [source] if isinstance(source, torch.Tensor) else source if isinstance(source, tuple | list) else []
    for tensor in tensors:
        if not isinstance(tensor, torch.Tensor) or tensor.device.type == "cpu":
            continue
        if isinstance(model, torch.nn.Module) and device_of(model) != tensor.device:
            raise BadInput(
                f"The images are on {tensor.device}, the model is on {device_of(model)}.",
                "Move one of them, as with model.to(images.device). Images on the CPU suit any model.",
            )
