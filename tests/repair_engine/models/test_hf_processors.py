"""Pixels as transformers' own image processors make them: every class, its defaults, its formula, its odd files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from repair_engine.errors import BadInput
from repair_engine.models import hf_models, hf_processors
from repair_engine.models.preprocessing import Preprocessing
from tests.repair_engine.tiny import call

SIZES = ((61, 83), (120, 77), (64, 64), (33, 200), (41, 43))
SMALL = {"crop_size": {"height": 32, "width": 32}}
# class, what its file holds beside the class's name
FILES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in hf_processors.RULES),
    ("ViTImageProcessor", {"size": 40}),
    ("ViTFeatureExtractor", {"size": 40, "resample": 3}),
    ("ViTImageProcessorFast", {"size": {"height": 20, "width": 30}}),
    ("ViTImageProcessorPil", {"size": [30, 20]}),
    ("ViTImageProcessor", {"size": {"shortest_edge": 40}, "do_center_crop": True, **SMALL}),
    ("ViTImageProcessor", {"size": 33, "image_mean": [0.4], "image_std": [0.2]}),
    ("ViTImageProcessor", {"size": 33, "image_mean": 0.4, "image_std": 0.2}),
    ("ViTImageProcessor", {"size": 33, "do_normalize": False}),
    ("ViTImageProcessor", {"size": 33, "rescale_factor": 1 / 127.5}),
    ("ViTImageProcessor", {"size": 33, "do_rescale": False, "image_mean": [127.5] * 3, "image_std": [127.5] * 3}),
    ("ViTImageProcessor", {"size": {"shortest_edge": 40, "longest_edge": 50}}),
    ("ViTImageProcessor", {"size": {"shortest_edge": 43, "longest_edge": 444}}),
    ("ViTImageProcessor", {"size": 40, "resample": 0}),
    ("ViTImageProcessor", {"size": 40, "resample": 1}),
    ("ViTImageProcessor", {"size": 40, "do_normalize": None, "image_mean": None, "do_center_crop": None}),
    ("BitImageProcessor", {"size": 40, "do_center_crop": None}),
    ("DeiTImageProcessor", {"size": 40, **SMALL}),
    ("DeiTImageProcessor", {"size": 41, "crop_size": 32}),
    ("DeiTFeatureExtractor", {"size": 41, "do_center_crop": False}),
    ("BeitImageProcessor", {"size": 40}),
    ("BeitImageProcessor", {"size": 40, "do_center_crop": True, "crop_size": 31, "do_reduce_labels": True}),
    ("LevitImageProcessor", {"size": {"shortest_edge": 32}, **SMALL}),
    ("LevitFeatureExtractor", {"size": 33, "crop_size": 32}),
    ("LevitImageProcessor", {"size": {"height": 40, "width": 44}, **SMALL}),
    ("PoolFormerImageProcessor", {"size": {"shortest_edge": 32}, "crop_pct": 0.7, **SMALL}),
    ("PoolFormerImageProcessor", {"size": 32, **SMALL}),
    ("PoolFormerImageProcessor", {"size": {"height": 32, "width": 32}, "crop_pct": 0.95, **SMALL}),
    ("PoolFormerImageProcessor", {"size": {"height": 32, "width": 40}, "crop_pct": 0.8, **SMALL}),
    ("ConvNextImageProcessor", {"size": 32}),
    ("ConvNextImageProcessor", {"size": {"shortest_edge": 33}, "crop_pct": 0.9}),
    ("ConvNextFeatureExtractor", {"size": 384, "crop_pct": 0.9}),
    ("PoolFormerImageProcessor", {"size": 40, "crop_pct": None, **SMALL}),
    ("MobileViTImageProcessor", {"size": 36, **SMALL}),
    ("MobileViTFeatureExtractor", {"size": 288, "crop_size": 256, "do_flip_channel_order": True}),
    ("MobileViTImageProcessor", {"size": 36, "crop_size": 32, "do_flip_channel_order": False, "do_normalize": True}),
    ("MobileNetV1ImageProcessor", {"size": 36, **SMALL}),
    ("MobileNetV2ImageProcessor", {"size": {"shortest_edge": 37}, **SMALL}),
    ("EfficientNetImageProcessor", {"size": 40}),
    ("EfficientNetImageProcessor", {"size": 40, "rescale_factor": 1 / 127.5, "rescale_offset": True}),
    ("EfficientNetImageProcessor", {"size": 40, "include_top": False, "do_center_crop": True, "crop_size": 33}),
    ("EfficientNetImageProcessor", {"size": 40, "do_normalize": False, "image_std": [0.2, 0.3, 0.4]}),
    ("BitImageProcessor", {"size": 36, **SMALL}),
    ("BitImageProcessor", {"size": {"shortest_edge": 35}, "crop_size": 32, "do_convert_rgb": True}),
    ("BitImageProcessor", {"size": {"shortest_edge": 20}, "crop_size": 33}),
    ("CLIPImageProcessor", {"size": 36, **SMALL}),
    ("CLIPFeatureExtractor", {"size": 36, "crop_size": 31, "do_convert_rgb": True}),
    ("SiglipImageProcessor", {"size": {"height": 32, "width": 32}}),
    ("SiglipImageProcessor", {"size": 32}),
    ("PvtImageProcessor", {"size": 32}),
    ("SegformerImageProcessor", {"size": 32, "do_center_crop": True, "crop_size": 9, "do_reduce_labels": True}),
    ("BitImageProcessor", {"do_resize": False, **SMALL}),
]


def picture(height: int, width: int, channels: int = 3) -> Image.Image:
    rng = np.random.default_rng(height * width)
    shape = (height, width, channels) if channels > 1 else (height, width)
    return Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


def auto(transformers: Any, folder: Path, file: dict[str, Any]) -> Any:
    (folder / "preprocessor_config.json").write_text(json.dumps(file))
    return transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True)


@pytest.mark.parametrize(("name", "given"), FILES, ids=[f"{i}-{name}" for i, (name, _) in enumerate(FILES)])
def test_pixels_are_those_of_transformers(transformers, tmp_path: Path, name: str, given: dict) -> None:
    key = "feature_extractor_type" if name.endswith("FeatureExtractor") else "image_processor_type"
    file = {key: name, **given}
    # AutoImageProcessor takes Pillow's backend where its name is in the file; torchvision's is the reference.
    theirs = auto(transformers, tmp_path, {**file, key: name.removesuffix("Pil")})
    ours = hf_models.preprocessing_of(tmp_path)
    for height, width in SIZES:
        image = picture(height, width)
        expected = theirs(image, return_tensors="pt")["pixel_values"].float()
        own = ours.normalize(torch.from_numpy(ours.pixels(image))[None])
        assert own.shape == expected.shape
        torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-5 * max(1.0, float(expected.abs().max())))
    again = Preprocessing.from_json(json.loads(json.dumps(ours.to_json())))
    assert again == ours


@pytest.mark.parametrize("model_type", ["vit", "swin", "dinov2", "resnet", "levit", "mobilevit", "convnextv2"])
def test_a_file_that_names_no_class_is_of_its_models(transformers, tmp_path: Path, model_type: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    file = {"size": 40, "crop_size": 32}
    theirs = auto(transformers, tmp_path, file)(picture(61, 83), return_tensors="pt")["pixel_values"]
    ours = hf_models.preprocessing_of(tmp_path)
    torch.testing.assert_close(ours.normalize(torch.from_numpy(ours.pixels(picture(61, 83)))[None]), theirs)


def test_classes_by_model_are_those_of_transformers(transformers) -> None:
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES as known

    for model_type, name in hf_processors.OF_MODEL_TYPE.items():
        assert known[model_type]["torchvision"] == f"{name}ImageProcessor", model_type
        assert f"{name}ImageProcessor" in hf_processors.RULES


def test_the_image_processor_inside_processor_config_is_read(transformers, tmp_path: Path) -> None:
    inner = {"image_processor_type": "CLIPImageProcessor", "size": 36, "crop_size": 32}
    (tmp_path / "processor_config.json").write_text(json.dumps({"processor_class": "X", "image_processor": inner}))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**inner, "size": 99}))
    assert hf_models.preprocessing_of(tmp_path).resize == 36


def test_one_number_stands_for_every_channel(transformers, tmp_path: Path) -> None:
    for channels in (1, 3):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", "num_channels": channels}))
        theirs = auto(transformers, tmp_path, {"size": 20, "image_mean": [0.3], "image_std": [0.2]})
        ours = hf_models.preprocessing_of(tmp_path)
        assert ours.mean == (0.3,) * channels
        image = picture(30, 40, channels)
        expected = theirs(image, return_tensors="pt")["pixel_values"]
        torch.testing.assert_close(ours.normalize(torch.from_numpy(ours.pixels(image))[None]), expected)


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ({"image_processor_type": "PerceiverImageProcessor"}, "PerceiverImageProcessor, whose rule is not known"),
        ({"image_processor_type": "ImageGPTImageProcessor"}, "ImageGPTImageProcessor, whose rule is not known"),
        ({"image_processor_type": "MyOwnProcessor"}, "MyOwnProcessor, whose rule is not known"),
        ({"size": 32}, "of which class"),
        ({"image_processor_type": "ViTImageProcessor", "size": {"longest_edge": 9}}, "longest_edge"),
        ({"image_processor_type": "ViTImageProcessor", "size": "large"}, "large"),
        ({"image_processor_type": "ViTImageProcessor", "do_pad": True, "pad_size": 99}, "do_pad"),
        ({"image_processor_type": "ViTImageProcessor", "resample": 17}, "cannot be used"),
        ({"image_processor_type": "ConvNextImageProcessor", "size": {"height": 9, "width": 9}}, "shortest_edge"),
        ({"image_processor_type": "ConvNextImageProcessor", "size": 32, "do_center_crop": True, "crop_size": 9},
         "crops twice"),
        ({"image_processor_type": "ConvNextImageProcessor", "size": 32, "crop_pct": 0.0}, "cannot be used"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_refused_by_name(tmp_path: Path, file: dict, says: str) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(file))
    with pytest.raises(BadInput, match=says) as error:
        hf_models.preprocessing_of(tmp_path)
    assert "--resize, --crop, --mean and --std" in error.value.mend


def test_other_pixels_than_transformers_makes_are_an_error(transformers, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a newer transformers with another rule would show: here its LeViT is given ViT's rule."""
    monkeypatch.setitem(hf_processors.RULES, "LevitImageProcessor", hf_processors.RULES["BitImageProcessor"])
    with pytest.raises(BadInput, match=r"The pixels differ from those of transformers' LevitImageProcessor: by "):
        hf_processors.preprocessing({"image_processor_type": "LevitImageProcessor", "size": 32, "crop_size": 32})


def test_a_class_that_transformers_no_longer_has(transformers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(hf_processors.RULES, "GoneImageProcessor", hf_processors.RULES["ViTImageProcessor"])
    with pytest.raises(BadInput, match="has no GoneImageProcessor"):
        hf_processors.preprocessing({"image_processor_type": "GoneImageProcessor"})


def test_bgr_turns_the_normalized_channels() -> None:
    unit = torch.rand(2, 3, 4, 4)
    plain = Preprocessing(mean=(0.1, 0.2, 0.3))
    turned = Preprocessing(mean=(0.1, 0.2, 0.3), bgr=True)
    assert torch.equal(turned.standardize(unit), plain.standardize(unit)[:, [2, 1, 0]])


def test_a_difference_reaches_the_command_line(transformers, tmp_path: Path) -> None:
    config = {"model_type": "poolformer", "architectures": ["PoolFormerForImageClassification"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"x")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "DonutImageProcessor"}))
    result = call(["inspect", "--model", str(tmp_path)])
    assert result.code == 2
