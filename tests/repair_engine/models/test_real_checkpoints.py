"""Real checkpoints and images: the repaired file, loaded by plain torch, gives predictions.csv to the last image."""

from __future__ import annotations

import importlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from tests.repair_engine.tiny import call, rows_of

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is absent: NO REAL CHECKPOINT IS TESTED"),
]

# name: folder, checkpoint, images, factory in architectures.py, classes, metric, further options
CASES = {
    "fashion_cnn": (
        "fashion_mnist", "fashion_cnn.safetensors", "images_5000.zip", "SmallCNN", 10, "recall:6_shirt",
        {"--max-clean-drop": "0.05"},
    ),
    "resnet8_catdog": (
        "catdog_breeds", "resnet8_catdog.safetensors", "images_2250.zip", "ResNet8", 2, "subgroup-recall:subgroup",
        {"--max-clean-drop": "0.05"},
    ),
    "resnet20": (
        "cifar10", "resnet20.pth", "images_5000.zip", "CifarResNet", 10, "accuracy",
        {"--mean": "0.485,0.456,0.406", "--std": "0.229,0.224,0.225"},
    ),
}  # fmt: skip


def plain(factory: Callable[..., nn.Module], classes: int, path: Path) -> nn.Module:
    state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    module = factory(num_classes=classes)
    module.load_state_dict(state)
    return module.eval()


def predicted(module: nn.Module, images: torch.Tensor) -> list[int]:
    with torch.inference_mode():
        return [int(c) for part in images.split(250) for c in module(part).argmax(1)]


@pytest.mark.parametrize("name", CASES)
def test_repaired_file_gives_the_predictions(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, model, images, factory, classes, metric, more = CASES[name]
    monkeypatch.syspath_prepend(str(DATA))
    options = {
        "--model": str(DATA / folder / model), "--data": str(DATA / folder / images), "--architecture": "net",
        "--register": f"net=architectures:{factory}", "--num-classes": str(classes), "--metric": metric,
        "--budget": "150000", "--max-filters": "12", "--out": str(tmp_path), **more,
    }  # fmt: skip
    result = call(["repair", "--json", *(part for pair in options.items() for part in pair)])
    assert result.code in (0, 5), result.err
    document = result.document
    assert document["run"]["evaluations"] <= 150_000
    rows = rows_of(tmp_path / "predictions.csv")
    with zipfile.ZipFile(DATA / folder / images) as archive:
        pixels = [np.array(Image.open(io.BytesIO(archive.read(row["file_name"])))) for row in rows]
    stacked = torch.from_numpy(np.stack(pixels)).float() / 255
    x = stacked[:, None] if stacked.dim() == 3 else stacked.permute(0, 3, 1, 2)
    if "--mean" in more:
        mean, std = (torch.tensor([float(v) for v in more[key].split(",")]) for key in ("--mean", "--std"))
        x = (x - mean[:, None, None]) / std[:, None, None]
    build = getattr(importlib.import_module("architectures"), factory)
    names = [row["name"] for row in document["data"]["classes"]]
    before = predicted(plain(build, classes, DATA / folder / model), x)
    assert [row["predicted_before"] for row in rows] == [names[i] for i in before]
    written = tmp_path / f"repaired{Path(model).suffix}"
    assert written.is_file() == (result.code == 0)
    if result.code == 0:
        after = predicted(plain(build, classes, written), x)
        assert [row["predicted_after"] for row in rows] == [names[i] for i in after]
        assert document["gain"]["lower"] > 0
    report = [row for row in rows if row["split"] == "report"]
    right = np.mean([row["label"] == row["predicted_after"] for row in report])
    assert document["after"]["report"]["accuracy"] == pytest.approx(right)
