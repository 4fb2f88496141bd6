"""What the Python API refuses: what is wrong, and how to mend it, in Python's words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import repair_engine as nr
from tests.repair_engine.tiny import CLASSES, Tiny, World

N = 24
LABELS = np.arange(N) % 3


def pixels(dtype: Any = np.uint8) -> np.ndarray:
    found = np.random.default_rng(0).integers(0, 256, (N, 1, 8, 8)).astype(np.uint8)
    return found if dtype is np.uint8 else (found / 255).astype(dtype)


class Items(Dataset):
    """What it is given, item by item."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Any:
        return self.items[i]


def items(of: Callable[[torch.Tensor, int], Any]) -> Items:
    return Items([of(torch.from_numpy(image).float() / 255, int(c)) for image, c in zip(pixels(), LABELS)])


def with_nan() -> np.ndarray:
    found = pixels(np.float32)
    found[5, 0, 2, 2] = np.nan
    return found


def ragged(i: int) -> torch.Tensor:
    return torch.zeros(1, 8 + i % 2, 8)


IMAGES: dict[str, tuple[Any, list[str]]] = {
    "channels last": (
        (np.zeros((N, 8, 8, 1), np.uint8), LABELS), ["[N, H, W, C]", "images.transpose(0, 3, 1, 2)"]
    ),
    "no channels": ((pixels()[:, 0], LABELS), ["shape [24, 8, 8]", "images[:, None]"]),
    "int64 pixels": ((pixels().astype(np.int64), LABELS), ["int64", "uint8"]),
    "NaN": ((with_nan(), LABELS), ["1 of 24 images hold NaN", "number 5"]),
    "beyond [0, 1]": ((pixels(np.float32) * 4 - 2, LABELS), ["from -2 to 2", "normalized=True", "mean="]),
    "one-hot labels": ((pixels(), np.eye(3)[LABELS]), ["shape [24, 3]", "labels.argmax(1)"]),
    "float labels": ((pixels(), LABELS.astype(np.float32)), ["floating point", "integers"]),
    "float labels of a loader": (
        DataLoader(items(lambda image, c: (image, float(c)))), ["floating point", "integers"]
    ),
    "labels in a column": ((pixels(), LABELS[:, None]), ["shape [24, 1]", "labels[:, 0]"]),
    "labels by name": ((pixels(), np.array(CLASSES)[LABELS]), ["class indices", "classes=["]),
    "a label too many": ((pixels(), LABELS + 1), ["label 3", "3 classes, 0 to 2"]),
    "a negative label": ((pixels(), LABELS - 1), ["label -1"]),
    "another number of labels": ((pixels(), LABELS[:-1]), ["24 images and 23 labels"]),
    "no labels": (pixels(), ["without labels", "(images, labels)"]),
    "nothing": ((pixels()[:0], LABELS[:0]), ["no images"]),
    "an empty dataset": (Items([]), ["empty"]),
    "dictionaries": (
        items(lambda image, c: {"image": image, "label": c}), ["dictionaries", "'image', 'label'", "(image, label)"]
    ),
    "dictionaries of a loader": (
        DataLoader(items(lambda image, c: {"image": image, "label": c}), 4), ["dictionaries", "'image', 'label'"]
    ),
    "three things": (items(lambda image, c: (image, c, "left")), ["yields 3 things", "columns="]),
    "three things of a loader": (DataLoader(items(lambda image, c: (image, c, c)), 4), ["yields 3 things"]),
    "images alone": (items(lambda image, c: image), ["yields a Tensor", "(image, label)"]),
    "paths": (items(lambda image, c: ("a.png", c)), ["yields a str as image"]),
    "ragged": (Items([(ragged(i), i % 3) for i in range(N)]), ["differ in shape", "[1, 8, 8] and [1, 9, 8]"]),
    "something else": (7, ["cannot be read from a int", "Dataset"]),
    "another size": ((np.zeros((N, 1, 20, 20), np.uint8), LABELS), ["[1, 20, 20]", "same size"]),
    "another number of channels": ((np.zeros((N, 3, 8, 8), np.uint8), LABELS), ["[3, 8, 8]"]),
}  # fmt: skip


@pytest.mark.parametrize("case", IMAGES)
def test_images(case: str) -> None:
    images, said = IMAGES[case]
    with pytest.raises(nr.BadInput) as error:
        nr.score(Tiny(), images, metric="accuracy", budget=1000)
    for part in said:
        assert part in str(error.value)


OPTIONS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a misspelt option": ({"max_clean_dorp": 0.1}, ["no option 'max_clean_dorp'", "max_clean_drop"]),
    "an option of another verb": ({"pictures": 3}, ["no option 'pictures'"]),
    "a value that is none": ({"max_clean_drop": 7}, ["max_clean_drop: 7 is not between 0 and 1"]),
    "a text for a number": ({"budget": "many"}, ["budget: 'many' is not a whole number"]),
    "an estimator that is none": ({"estimator": "fats"}, ["'fats'", "fast"]),
    "a metric that is none": ({"metric": "acuracy"}, ["'acuracy'", "accuracy"]),
    "a class that is none": ({"metric": "recall:dog"}, ["metric recall:dog", "no class 'dog'"]),
    "a column that is none": ({"metric": "subgroup-recall:sex"}, ["no column 'sex'"]),
    "a column of another length": ({"columns": {"sex": ["f", "m"]}}, ["'sex' has 2 values", "24 images"]),
    "a column that is a text": ({"columns": {"sex": "fm"}}, ["'sex'", "one value for each image"]),
    "normalized bytes": ({"normalized": True}, ["normalized=True", "uint8"]),
    "normalized, and a mean": ({"normalized": True, "mean": [0.5]}, ["Leave one of them out"]),
    "a mean of other channels": ({"mean": [0.5] * 3, "std": [0.2] * 3}, ["of 3 channels", "have 1"]),
    "names of other classes": ({"classes": ["ant", "bee"]}, ["2 class names", "3 classes"]),
    "a GPU that is not there": ({"device": "cuda"}, ["device cuda"]),
    "an ablated filter that is none": ({"filters": ["stem:77"]}, ["'stem:77'"]),
    "queries": ({"queries": -1}, ["queries: -1"]),
    "quality": ({"quality": (5, 2)}, ["quality: ", "between 0 and 1"]),
    "another model's guard set": ({"guard": (np.zeros((9, 1, 9, 9), np.uint8), LABELS[:9])}, ["guard"]),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options(case: str) -> None:
    options, said = OPTIONS[case]
    if case == "a GPU that is not there" and torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(nr.BadInput) as error:
        nr.repair(Tiny(), (pixels(), LABELS), **{"metric": "accuracy", "budget": 1000, "seed": 0} | options)
    for part in said:
        assert part in str(error.value)
    assert "--" not in str(error.value)


def test_attacks_on_normalized_images() -> None:
    images = (pixels(np.float32) * 2 - 1, LABELS)
    for call in (
        lambda: nr.attack(Tiny(), images, normalized=True),
        lambda: nr.score(Tiny(), images, metric="attack-success", normalized=True),
    ):
        with pytest.raises(nr.BadInput, match="normalized already"):
            call()


class Branching(nn.Module):
    """Control flow that depends on the data."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 2, 3), nn.Linear(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv(x)).mean((2, 3))
        return self.head(x) if x.sum() > 0 else -self.head(x)


class TwoOutputs(Tiny):
    def forward(self, x: torch.Tensor) -> Any:
        return super().forward(x), x


class Pixelwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


def diverged() -> nn.Module:
    module = Tiny()
    with torch.no_grad():
        module.stem.bias[0] = float("nan")
    return module


def left_behind() -> nn.Module:
    module = Tiny()
    module.kept = module(torch.zeros(1, 1, 8, 8))  # type: ignore[assignment]  # a tensor with its graph
    return module


MODELS: dict[str, tuple[Any, list[str]]] = {
    "not captured": (Branching(), ["torch.export", "control flow that depends on the data"]),
    "two outputs": (TwoOutputs(), ["returns a tuple", "logits alone"]),
    "a segmentation": (Pixelwise(), ["shape [2, 3, 8, 8]", "[images, classes]"]),
    "NaN": (diverged(), ["stem.bias", "NaN"]),
    "a tensor that cannot be copied": (left_behind(), ["Tiny cannot be copied"]),
    "no parameters": (nn.Flatten(), ["no parameters"]),
    "a path": ("net.pth", ["is a path", "open_model"]),
    "a state dict": (Tiny().state_dict(), ["OrderedDict", "nn.Module"]),
}


@pytest.mark.parametrize("case", MODELS)
def test_models(case: str) -> None:
    model, said = MODELS[case]
    with pytest.raises(nr.BadInput) as error:
        nr.score(model, (pixels(), LABELS), metric="accuracy", budget=1000)
    for part in said:
        assert part in str(error.value)
    assert len(error.value.problem.splitlines()) == 1


def test_images_on_another_device_than_the_model() -> None:
    """ "meta" stands for a GPU, which is not everywhere."""
    with pytest.raises(nr.BadInput, match="The images are on meta, the model is on cpu"):
        nr.score(Tiny(), (torch.zeros(N, 1, 8, 8, device="meta"), torch.from_numpy(LABELS)), metric="accuracy")
    split = Tiny()
    split.head.to("meta")
    with pytest.raises(nr.BadInput, match="several devices: cpu, meta"):
        nr.score(split, (pixels(), LABELS), metric="accuracy")


def test_opening_files(sabotaged: World, tmp_path: Path) -> None:
    with pytest.raises(nr.BadInput, match="architecture and num_classes must be given"):
        nr.open_model(sabotaged.model)
    with pytest.raises(nr.BadInput, match="there is no file"):
        nr.open_model(tmp_path / "none.pth", "resnet18", 2)
    with pytest.raises(nr.BadInput, match="as a model takes them"):
        nr.open_images(sabotaged.data)
    with pytest.raises(nr.BadInput, match="there is no file"):
        nr.open_images(tmp_path / "none.zip", Tiny())
    with pytest.raises(nr.BadInput, match=r"no option 'rezise'[^.]*\.\s*Is resize meant"):
        nr.open_images(sabotaged.data, Tiny(), rezise=8)
    with pytest.raises(nr.BadInput, match="about a zip"):
        nr.open_images((pixels(), LABELS), resize=8)
    shown = nr.open_images((pixels(), LABELS))
    with pytest.raises(nr.BadInput, match="opened before"):
        nr.score(Tiny(), shown, metric="accuracy", mean=[0.5])
