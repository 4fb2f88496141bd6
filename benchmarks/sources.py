"""Networks and images as users bring them, for the benchmarks and the experiments: opened by the Python API."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import repair_engine as nr
from benchmarks.engine import Images, Model

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("NEURON_REPAIR_BENCH_DATA") or ROOT.parent / "shared" / "data")
_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_HALVES = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
_REGISTER = {name: f"architectures:{name}" for name in ("ResNet8", "CifarResNet", "SmallCNN", "WideResNet16")}


class MissingData(Exception):
    """A file is not here; the message names it."""


@dataclass(frozen=True)
class Source:
    """A network and its images.

    Attributes:
        folder: where `model`, `data` (a zip) and `classes` lie.
        architecture, num_classes, register, classes: what `repair_engine.open_model` is told of the file.
        pixels: the same, of what its images become: resize, crop, mean, std.
    """

    folder: Path
    model: str
    data: str
    architecture: str
    num_classes: int
    classes: str | None = None
    register: Mapping[str, str] = field(default_factory=lambda: _REGISTER)
    pixels: Mapping[str, Any] = field(default_factory=dict)

    def path(self, file: str) -> Path:
        """Of one of the files. Raises MissingData: it is not there."""
        path = self.folder / file
        if not path.is_file():
            raise MissingData(
                f"{path} is needed and does not exist. The real networks and images are read from {DATA}; they are no "
                "part of the project."
            )
        return path

    def open(self, device: str = "cpu") -> tuple[Model, Images]:
        """Both, as the functions of `repair_engine` take them. Raises MissingData."""
        model, data = self.path(self.model), self.path(self.data)
        if str(DATA) not in sys.path:
            sys.path.insert(0, str(DATA))  # where the registered architectures are
        more = {"classes": str(self.path(self.classes))} if self.classes else {}
        at_hand = nr.open_model(
            model, self.architecture, self.num_classes, register=self.register, device=device, **more, **self.pixels
        )
        return at_hand, nr.open_images(data, at_hand)


def _cifar10(architecture: str, model: str, **pixels: Any) -> Source:
    return Source(DATA / "cifar10", model, "images_5000.zip", architecture, 10, pixels=pixels)


def _squeezenet(**pixels: Any) -> Source:
    files = DATA / "imagenet", "squeezenet1_0.safetensors", "samples_500.zip"
    return Source(*files, "squeezenet1_0", 1000, "imagenet_classes.json", pixels=pixels)


SOURCES: dict[str, Source] = {
    "resnet8": _cifar10("ResNet8", "resnet8.safetensors"),
    "resnet20": _cifar10("CifarResNet", "resnet20.safetensors", **_IMAGENET),
    "squeezenet1_0": _squeezenet(),
    # At half the side: three times as fast, and right on 43% of the images in place of 60%.
    "squeezenet1_0-128px": _squeezenet(resize=128, crop=128, **_IMAGENET),
    "stock_tags": Source(
        ROOT / "samples" / "stock_tags", "model.safetensors", "images.zip", "squeezenet1_1", 8, "classes.txt",
        pixels={"resize": "none", "crop": "none", **_HALVES},
    ),
    "catdog": Source(DATA / "catdog_breeds", "resnet8_catdog.safetensors", "images_2250.zip", "ResNet8", 2),
    "fashion": Source(DATA / "fashion_mnist", "fashion_cnn.safetensors", "images_5000.zip", "SmallCNN", 10),
    "writers": Source(DATA / "mnist_writers", "mnist_employees_cnn.safetensors", "images_4810.zip", "SmallCNN", 10),
    "backdoor": Source(
        DATA / "backdoor", "wrn16_backdoored.safetensors", "clean.zip", "WideResNet16", 10, "classes.txt"
    ),
}  # fmt: skip
