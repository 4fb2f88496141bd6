"""Images in memory as an image set: a Dataset, a DataLoader, or arrays (images, labels), read once and in order."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image

from repair_engine.data.reading import Dataset, twins
from repair_engine.errors import BadInput
from repair_engine.models.preprocessing import Preprocessing
from repair_engine.support.progress import Progress, silent

WHAT = "Give a torch Dataset or DataLoader that yields (image, label), or a pair of arrays (images, labels)."
_ROWS = "Give images as [N, C, H, W]: uint8 pixels, or floating point as the model takes them."


def read_images(
    source: Any,
    class_names: Sequence[str],
    preprocessing: Preprocessing,
    columns: Mapping[str, Sequence[Any]] | None = None,
    progress: Progress = silent,
) -> Dataset:
    """The image set of what is in memory.

    Args:
        source: a Dataset or DataLoader of (image, label), or a pair (images [N, C, H, W], labels [N]). Images are uint8
            pixels, or floating point: in [0, 1], or as the network takes them where `preprocessing.normalized` says so;
            those of a Dataset may be Pillow's.
        class_names: in the model's order; empty: the source's `classes`, else "0", "1", … (`fit_classes`).
        columns: name -> value of each image, [N], as the columns of metadata.csv.

    Raises:
        BadInput: whatever cannot be used, with how to give it.
    """
    with torch.random.fork_rng(devices=[]):  # shuffling and augmenting draw from torch's generator, the caller's
        images, labels, notes = _pair(source, progress)
    pixels, classes = pixels_of(images, preprocessing), labels_of(labels)
    if len(pixels) != len(classes):
        raise BadInput(f"There are {len(pixels)} images and {len(classes)} labels.", "Give one label for each image.")
    names = tuple(map(str, class_names)) or tuple(map(str, _classes_of(source))) or _numbers(int(classes.max()) + 1)
    if int(classes.min()) < 0:
        raise BadInput(f"There is a label {int(classes.min())}; classes are numbered from 0.")
    hashes = tuple(hashlib.sha256(image.tobytes()).hexdigest() for image in pixels)
    width = len(str(len(pixels) - 1))
    file_names = tuple(f"{i:0{width}}" for i in range(len(pixels)))
    return Dataset(
        file_names=file_names,
        labels=classes,
        class_names=names,
        attributes=columns_of(columns or {}, len(pixels)),
        images=pixels,
        pixel_hashes=hashes,
        preprocessing=preprocessing,
        sha256=hashlib.sha256("\n".join(map("{} {}".format, hashes, classes)).encode()).hexdigest(),
        warnings=tuple(twins(hashes, classes, file_names)),
        notes=notes,
    )


def fit_classes(dataset: Dataset, count: int) -> Dataset:
    """The image set for a model of so many classes: where nobody named them, they are numbers.

    Raises:
        BadInput: a label is beyond them, or there is another number of names.
    """
    names, highest = dataset.class_names, int(dataset.labels.max())
    if names == _numbers(len(names)) and len(names) < count:
        names = _numbers(count)
    if highest >= count:
        raise BadInput(
            f"There is a label {highest}; the model has {count} classes, 0 to {count - 1}.",
            "Give the labels in the model's numbering, or the model that was trained for these classes.",
        )
    if len(names) != count:
        raise BadInput(
            f"There are {len(names)} class names; the model has {count} classes.",
            "Give one name for each class, in the model's order: classes=[…].",
        )
    return replace(dataset, class_names=names)


def columns_of(columns: Mapping[str, Any], n: int) -> dict[str, tuple[str, ...]]:
    """The columns' values as text, missing ones (None, NaN) as "". Raises BadInput: a length is not `n`."""
    found = {}
    for name, values in columns.items():
        if isinstance(values, str) or not isinstance(values, Iterable):
            raise BadInput(f"columns: {name!r} is {values!r}; a column has one value for each image.")
        plain = values.tolist() if hasattr(values, "tolist") else list(values)
        if len(plain) != n:
            raise BadInput(
                f"columns: {name!r} has {len(plain)} values; there are {n} images.",
                "Give one value for each image, in the order of the images.",
            )
        found[str(name)] = tuple("" if _missing(value) else str(value) for value in plain)
    return found


def pixels_of(images: Any, preprocessing: Preprocessing) -> np.ndarray:
    """uint8 or float32 [N, C, H, W]. Raises BadInput: another shape or type, NaN, or pixels that are not in [0, 1]."""
    if isinstance(images, torch.Tensor):
        images = images.detach().cpu()
        images = (images.float() if images.dtype == torch.bfloat16 else images).numpy()
    array = np.asarray(images)
    if array.dtype == object:
        raise BadInput("The images are no array: they differ in shape, or are no numbers.", _ROWS)
    shape = list(array.shape)
    if array.ndim != 4:
        more = " images[:, None] adds the channel." if array.ndim == 3 else ""
        raise BadInput(f"The images have shape {shape}; [N, C, H, W] is needed.", _ROWS + more)
    if not array.size:
        raise BadInput(f"There are no images: the array has shape {shape}.")
    if shape[1] > 4 and shape[3] in (1, 3, 4):
        raise BadInput(
            f"The images have shape {shape}: channels last, [N, H, W, C].",
            "Give images.transpose(0, 3, 1, 2) (NumPy) or images.permute(0, 3, 1, 2) (torch).",
        )
    if array.dtype == np.uint8:
        if preprocessing.normalized:
            raise BadInput(
                "normalized=True, but the images are uint8 pixels.",
                "Give them as the network takes them (floating point), or mean= and std= instead.",
            )
        return np.ascontiguousarray(array)
    if not np.issubdtype(array.dtype, np.floating):
        raise BadInput(
            f"The images are {array.dtype}.", "Give uint8 pixels (images.astype('uint8')), or floating point."
        )
    array = np.ascontiguousarray(array, dtype=np.float32)
    bad = ~np.isfinite(array).all(axis=(1, 2, 3))
    if bad.any():
        raise BadInput(
            f"{int(bad.sum())} of {len(array)} images hold NaN or infinite pixels; the first is number "
            f"{int(bad.argmax())}.",
            "Take them out, or mend what makes them.",
        )
    low, high = float(array.min()), float(array.max())
    if not preprocessing.normalized and (low < 0 or high > 1):
        raise BadInput(
            f"The pixels are floating point, from {low:.3g} to {high:.3g}; unless more is said they lie in [0, 1].",
            "Where they are as the model takes them (normalized already), say normalized=True. Else divide by 255 or "
            "give uint8, and say mean= and std= where the model needs them.",
        )
    return array


def labels_of(labels: Any) -> np.ndarray:
    """int64 [N]. Raises BadInput: they are one-hot, floating point, or no numbers."""
    array = labels.detach().cpu().numpy() if isinstance(labels, torch.Tensor) else np.asarray(labels)
    if array.ndim == 2 and array.shape[1] == 1:
        raise BadInput(f"The labels have shape {list(array.shape)}; [N] is needed.", "Give labels[:, 0].")
    if array.ndim != 1:
        raise BadInput(
            f"The labels have shape {list(array.shape)}, one number for each class; class indices [N] are needed.",
            "Of one-hot labels give labels.argmax(1).",
        )
    if np.issubdtype(array.dtype, np.floating):
        raise BadInput("The labels are floating point; class indices are needed.", "Give labels as integers.")
    if not (np.issubdtype(array.dtype, np.integer) or array.dtype == bool):
        raise BadInput(
            f"The labels are {array.dtype}, such as {array[0]!r}; class indices are needed.",
            "Give integers, and the names of the classes in the model's order as classes=[…].",
        )
    return array.astype(np.int64)


def _pair(source: Any, progress: Progress) -> tuple[Any, Any, tuple[str, ...]]:
    """Images, labels, and notes for the report."""
    if isinstance(source, torch.utils.data.DataLoader):
        return _from_loader(source, progress)
    if isinstance(source, tuple | list) and len(source) == 2 and all(map(_like_array, source)):
        return source[0], source[1], ()
    if _like_array(source):
        raise BadInput("The images come without labels.", "Give a pair: (images, labels).")
    if isinstance(source, torch.utils.data.IterableDataset) or not hasattr(source, "__getitem__"):
        if not isinstance(source, Iterable):
            raise BadInput(f"Images cannot be read from a {type(source).__name__}.", WHAT)
        items: Iterable[Any] = source
    else:
        items = (source[i] for i in range(_length(source)))
    images, labels = [], []
    for item in items:
        image, label = _two(item, "The dataset")
        images.append(_one(image))
        labels.append(label.detach().cpu().numpy() if isinstance(label, torch.Tensor) else label)
        if hasattr(source, "__len__"):
            progress("reading the images", len(images) / max(len(source), 1))
    if not images:
        raise BadInput("The dataset is empty.", WHAT)
    return _stacked(images), labels, ()


def _from_loader(source: Any, progress: Progress) -> tuple[Any, Any, tuple[str, ...]]:
    images, labels = [], []
    for batch in source:
        some, classes = _two(batch, "The DataLoader")
        if not isinstance(some, torch.Tensor) or not isinstance(classes, torch.Tensor):
            raise BadInput(
                f"The DataLoader yields ({type(some).__name__}, {type(classes).__name__}); two tensors are needed: "
                "images [B, C, H, W] and labels [B].",
                WHAT,
            )
        images.append(some.detach().cpu())
        labels.append(classes.detach().cpu())
        progress("reading the images", _share(sum(map(len, labels)), source))
    if not images:
        raise BadInput("The DataLoader is empty.", WHAT)
    shuffled = isinstance(getattr(source, "sampler", None), torch.utils.data.RandomSampler)
    note = "The loader shuffles: images are numbered in the order in which they were read, once."
    return _stacked(images, joined=True), torch.cat(labels), (note,) if shuffled else ()


def _share(done: int, loader: Any) -> float:
    try:
        return min(done / max(len(loader.dataset), 1), 1.0)
    except TypeError:  # an iterable dataset has no length
        return 0.0


def _two(item: Any, who: str) -> tuple[Any, Any]:
    """The image and the label of an item, or of a batch. Raises BadInput: it is something else."""
    if isinstance(item, Mapping):
        keys = ", ".join(map(repr, islice(item, 6)))
        raise BadInput(
            f"{who} yields dictionaries, with the keys {keys}; (image, label) is needed.",
            "Wrap it in a Dataset whose __getitem__ returns (item[IMAGE], item[LABEL]), or give two arrays.",
        )
    if not isinstance(item, tuple | list):
        raise BadInput(f"{who} yields a {type(item).__name__}; (image, label) is needed.", WHAT)
    if len(item) != 2:
        raise BadInput(
            f"{who} yields {len(item)} things; two are needed: image and label.",
            "What else there is of each image can go into columns={NAME: [value of each image]}.",
        )
    return item[0], item[1]


def _one(image: Any) -> np.ndarray:
    if isinstance(image, Image.Image):
        grey = image.mode in ("1", "L", "I", "I;16", "F")
        return Preprocessing(channels=1 if grey else 3).pixels(image)
    if isinstance(image, torch.Tensor):
        image = image.detach().cpu()
        return (image.float() if image.dtype == torch.bfloat16 else image).numpy()
    if isinstance(image, np.ndarray):
        return image
    raise BadInput(f"The dataset yields a {type(image).__name__} as image; a tensor [C, H, W] is needed.", WHAT)


def _stacked(parts: list[Any], joined: bool = False) -> Any:
    """One array of images [C, H, W] of the same shape, or of batches of them where `joined`."""
    shapes = {tuple(part.shape[1:]) if joined else tuple(part.shape) for part in parts}
    if len(shapes) > 1:
        shown = " and ".join(str(list(shape)) for shape in sorted(shapes)[:2])
        raise BadInput(f"The images differ in shape: {shown}.", "Resize them all to the size that the model takes.")
    return torch.cat(parts) if joined else np.stack(parts)


def _classes_of(source: Any) -> Sequence[str]:
    """`classes`, as torchvision's datasets have it, of a dataset or of what it is a part of."""
    for _ in range(4):
        found = getattr(source, "classes", None)
        if isinstance(found, Sequence) and not isinstance(found, str):
            return found
        source = getattr(source, "dataset", None)
    return ()


def _like_array(value: Any) -> bool:
    if isinstance(value, torch.Tensor | np.ndarray):
        return True
    return isinstance(value, list) and len(value) > 0 and not isinstance(value[0], tuple | list | Mapping)


def _length(source: Any) -> int:
    try:
        return len(source)
    except TypeError as error:
        raise BadInput(f"The {type(source).__name__} has no length.", WHAT) from error


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
