"""Bit equality with torchvision.transforms on Pillow images."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from repair_engine.errors import BadInput
from repair_engine.models.architectures import Architecture
from repair_engine.models.images import decode
from repair_engine.models.preprocessing import Preprocessing
from repair_engine.models.weights_metadata import weights_metadata
from repair_engine.question.request import preprocessing_from
from tests.repair_engine.image_sets import encoded, pixels

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGES = {
    "rgb png 37x53": encoded(pixels(0, 37, 53)),
    "jpeg 61x40": encoded(pixels(1, 61, 40), "JPEG"),
    "webp 33x33": encoded(pixels(2, 33, 33), "WEBP"),
    "grey 29x64": encoded(pixels(3, 29, 64, 1)),
    "grey jpeg 28x28": encoded(pixels(4, 28, 28, 1), "JPEG"),
    "alpha 40x31": encoded(pixels(5, 40, 31, 4)),
    "palette 50x50": encoded(Image.fromarray(pixels(6, 50, 50)).convert("P")),
    "one bit 20x24": encoded(Image.fromarray(pixels(7, 20, 24, 1)).convert("1")),
}
STEPS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "resize and crop": {"resize": 32, "crop": 28},
    "odd sizes": {"resize": 33, "crop": 21},
    "bicubic": {"resize": 25, "crop": 24, "interpolation": "bicubic"},
    "enlarged": {"resize": 91, "crop": 80},
    "rectangle": {"resize": (20, 31), "crop": (19, 30)},
    "crop larger than the image": {"crop": 70},
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_bits_are_those_of_torchvision(channels: int, steps: dict[str, Any]) -> None:
    mean, std = (MEAN, STD) if channels == 3 else ((0.1307,), (0.3081,))
    ours = Preprocessing(**steps, mean=mean, std=std, channels=channels)
    chain: list[Any] = [transforms.Lambda(lambda image: image.convert("RGB" if channels == 3 else "L"))]
    if "resize" in steps:
        mode = transforms.InterpolationMode(steps.get("interpolation", "bilinear"))
        chain.append(transforms.Resize(steps["resize"], interpolation=mode, antialias=True))
    if "crop" in steps:
        chain.append(transforms.CenterCrop(steps["crop"]))
    theirs = transforms.Compose([*chain, transforms.ToTensor(), transforms.Normalize(mean, std)])
    for name, data in IMAGES.items():
        got = ours.pixels(decode(data, name))
        assert got.dtype == np.uint8
        expected = theirs(Image.open(io.BytesIO(data)))
        assert torch.equal(ours.normalize(torch.from_numpy(got)[None])[0], expected), name


def test_without_normalization_it_is_totensor() -> None:
    image = Image.fromarray(pixels(0))
    got = Preprocessing().normalize(torch.from_numpy(Preprocessing().pixels(image))[None])
    assert torch.equal(got[0], transforms.ToTensor()(image))


def test_preset_of_torchvision_weights_agrees_on_resized_pixels() -> None:
    metadata = weights_metadata("squeezenet1_0")
    assert metadata is not None
    ours = metadata.preprocessing
    assert (ours.resize, ours.crop, ours.mean, ours.std) == (256, 224, MEAN, STD)
    image = Image.fromarray(pixels(0, 300, 260))
    assert ours.pixels(image).shape == (3, 224, 224)


def test_standardize_is_differentiable_and_normalize_leaves_its_input_alone() -> None:
    steps = Preprocessing(mean=MEAN, std=STD)
    raw = torch.from_numpy(steps.pixels(Image.fromarray(pixels(0))))[None]
    before = raw.clone()
    unit = steps.unit(raw).requires_grad_(True)
    steps.standardize(unit).sum().backward()
    assert torch.allclose(unit.grad[0, :, 0, 0], 1 / torch.tensor(STD))  # type: ignore[index]
    assert torch.equal(raw, before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 5}, "1 to 4 channels"),
        ({"mean": (0.5,)}, "mean has 1 number; the network reads 3 channels"),
        ({"channels": 1, "std": STD}, "std has 3 numbers; the network reads 1 channel"),
        ({"std": (0.0, 1.0, 1.0)}, "std positive"),
        ({"mean": (float("nan"), 1.0, 1.0)}, "finite"),
        ({"interpolation": "magic"}, "'magic'"),
        ({"resize": 0}, "resize is 0"),
        ({"crop": 100_000}, "crop is 100000"),
    ],
)
def test_settings_that_make_no_sense(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Preprocessing(**arguments)


def test_json_round_trip() -> None:
    steps = Preprocessing(resize=(20, 30), crop=18, mean=MEAN, std=STD, interpolation="bicubic")
    assert Preprocessing.from_json(steps.to_json()) == steps


def test_torchvisions_preprocessing_is_not_taken_for_grey_images() -> None:
    """It is of three channels; a mean of one, and the resizing of ImageNet would come along unasked."""
    resnet = Architecture("resnet18", 2)
    assert preprocessing_from(resnet, {"mean": (0.5,), "std": (0.2,)}) == Preprocessing(
        channels=1, mean=(0.5,), std=(0.2,)
    )
    colour = preprocessing_from(resnet, {"mean": MEAN})
    assert colour is not None
    assert (colour.resize, colour.crop, colour.channels) == (256, 224, 3)
