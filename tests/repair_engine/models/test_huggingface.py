"""Hugging Face folders: read, captured, repaired and written back with their own files, where transformers is there."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from repair_engine.documents import repair as documents
from repair_engine.errors import BadInput
from repair_engine.models import formats, hf_models
from repair_engine.models.architectures import Architecture
from repair_engine.network import Network, stored_constants
from repair_engine.network.write_back import write_back
from tests.repair_engine import tiny
from tests.repair_engine.tiny import CLASSES, call, images, trained

pytestmark = pytest.mark.usefixtures("quick_module")

LABELS = {"id2label": dict(enumerate(CLASSES)), "label2id": {name: i for i, name in enumerate(CLASSES)}}
PROCESSOR = {
    "image_processor_type": "ConvNextImageProcessor", "do_resize": True, "size": {"shortest_edge": 16}, "crop_pct": 1.0,
    "resample": 0, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
    "image_mean": [0.4], "image_std": [0.3],
}  # fmt: skip


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


def resnet(transformers, channels: int = 1):
    config = transformers.ResNetConfig(
        num_channels=channels, embedding_size=6, hidden_sizes=[6, 8], depths=[1, 1], layer_type="basic", **LABELS
    )
    return transformers.ResNetForImageClassification(config)


def convnext(transformers):
    config = transformers.ConvNextConfig(
        num_channels=3, num_stages=2, hidden_sizes=[4, 6], depths=[1, 1], patch_size=2, **LABELS
    )
    return transformers.ConvNextForImageClassification(config)


def mobilenet(transformers):
    config = transformers.MobileNetV1Config(num_channels=3, depth_multiplier=0.25, min_depth=4, **LABELS)
    return transformers.MobileNetV1ForImageClassification(config)


@pytest.mark.parametrize("make", [resnet, convnext, mobilenet])
def test_masked_is_written(transformers, make: Callable, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = make(transformers).eval().requires_grad_(False)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 2)
            part.bias.normal_(0, 0.2)
    module.save_pretrained(tmp_path)
    folder = hf_models.open_folder(tmp_path)
    assert hf_models.known_names(folder.config) == CLASSES
    architecture = Architecture(folder.name, folder.num_classes, config=folder.config)
    checkpoint = formats.read(folder.weights, architecture)
    x = torch.rand(2, checkpoint.in_channels, 64, 64)
    network = Network.capture(checkpoint.module(), x, checkpoint.dtypes)
    torch.testing.assert_close(network.logits(x), module(pixel_values=x).logits)
    network.constants, biases = stored_constants(network, network.mean_outputs([x]), checkpoint.dtypes)
    players = sorted({int(network.offsets[i]) for i in range(len(network.sites))})
    coalition = np.ones((1, network.n_filters), dtype=bool)
    coalition[0, players] = False
    module.load_state_dict(write_back(checkpoint.tensors, network, biases, players))
    torch.testing.assert_close(
        network.masked_logits(x, coalition)[0], module(pixel_values=x).logits, rtol=1e-4, atol=1e-5
    )


@pytest.fixture(scope="module")
def folder(transformers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet that was trained on images with a dark ground, beside the zip of all images."""
    path = tmp_path_factory.mktemp("hf")
    shown = images(144, seed=1, noise=20.0)
    rows = np.flatnonzero(shown.ground == "dark")
    module = resnet(transformers)
    whole = torch.nn.functional.interpolate(shown.tensor(), (16, 16))
    logits = torch.nn.Module.__call__

    class Trained(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return logits(self.inner, pixel_values=x).logits

    trained(Trained(), (whole[torch.from_numpy(rows)] - 0.4) / 0.3, shown.labels[rows], steps=40)
    module.save_pretrained(path / "net")
    (path / "net" / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    shown.zip(path / "data.zip")
    return path


def test_a_folder_is_repaired_and_written_back(
    transformers, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whether the gain is shown on so few images is not the matter here.
    verdict = {"outcome": "repaired", "reasons": [], "findings": []}
    monkeypatch.setattr(documents, "judge", lambda document: document.update(verdict))
    argv = ["--model", str(folder / "net"), "--data", str(folder / "data.zip"), "--json"]
    seen = call(["inspect", *argv]).document
    assert seen["architecture"] == "huggingface:ResNetForImageClassification"
    assert seen["preprocessing"]["mean"] == [0.4]
    assert seen["input"] == [1, 16, 16]
    assert list(seen["data"]["classes"]) == list(CLASSES)
    more = ["--metric", "subgroup-recall:ground", "--budget", "60000", "--max-clean-drop", "0.3"]
    document = call(["repair", *argv, *more, "--compact", "--out", str(tmp_path)]).document
    assert document["verification"]["different_predictions"] == 0
    assert document["k"] > 0
    for name in ("config.json", "preprocessor_config.json"):
        assert (tmp_path / "repaired" / name).read_bytes() == (folder / "net" / name).read_bytes()
    again = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "repaired", local_files_only=True)
    shown = images(144, seed=1, noise=20.0)
    x = (torch.nn.functional.interpolate(shown.tensor(), (16, 16), mode="nearest-exact") - 0.4) / 0.3
    with torch.no_grad():
        predicted = again.eval()(pixel_values=x).logits.argmax(1).numpy()
    rows = {row["file_name"]: row for row in tiny.rows_of(tmp_path / "predictions.csv")}
    after = [rows[name]["predicted_after"] for name in shown.names]
    assert [CLASSES[i] for i in predicted] == after
    held = tiny.check_verified(tmp_path, "--model", str(folder / "net"), "--data", str(folder / "data.zip"))
    assert set(held.values()) == {"passed"}
    # The same run may take the place of its earlier results.
    assert call(["repair", *argv, *more, "--out", str(tmp_path)]).code == 0


def test_without_transformers_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "resnet"}))
    result = call(["inspect", "--model", str(tmp_path)])
    assert result.code == 2
    assert "transformers, which is not installed" in result.err
    assert "pip install transformers" in result.err


def test_code_of_its_own_is_never_run(tmp_path: Path) -> None:
    config = {"model_type": "mine", "auto_map": {"AutoModelForImageClassification": "modeling.Mine"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "modeling.py").write_text("raise SystemExit('ran')")
    with pytest.raises(BadInput, match="auto_map"):
        hf_models.open_folder(tmp_path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "bert", "architectures": ["BertModel"]}, "no image classifier"),
        ({"model_type": "timm_wrapper"}, "timm:NAME"),
        ({"architectures": ["ResNetModel"]}, "ResNetModel"),
        ({"id2label": {"0": "ant", "7": "bee"}}, "id2label"),
    ],
)
def test_folders_that_cannot_be_used(transformers, folder: Path, tmp_path: Path, change: dict, named: str) -> None:
    shutil.copytree(folder / "net", tmp_path / "net")
    config = json.loads((tmp_path / "net" / "config.json").read_text()) | change
    (tmp_path / "net" / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match=named):
        hf_models.open_folder(tmp_path / "net")


def test_folders_without_their_files(transformers, folder: Path, tmp_path: Path) -> None:
    result = call(["inspect", "--model", str(tmp_path)])
    assert (result.code, "config.json" in result.err) == (2, True)
    shutil.copy(folder / "net" / "config.json", tmp_path)
    result = call(["inspect", "--model", str(tmp_path)])
    assert (result.code, "save_pretrained" in result.err) == (2, True)
    result = call(["inspect", "--model", str(folder / "net"), "--num-classes", "5"])
    assert (result.code, "has 3 classes" in result.err) == (2, True)
    result = call(["inspect", "--model", str(folder / "net"), "--architecture", "resnet18"])
    assert (result.code, "Leave --architecture out" in result.err) == (2, True)
