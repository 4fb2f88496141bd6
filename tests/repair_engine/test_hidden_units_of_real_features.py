"""Hidden units of a VGG-like head on a real ResNet's features, in memory: repaired, and judged again by plain torch."""

from __future__ import annotations

import csv
import importlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import repair_engine as nr

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"{DATA} is absent: NO HIDDEN UNIT OF A REAL NETWORK IS TESTED"
)

WIDTH, CAT, DOG = 128, 3, 5
TRAINED, JUDGED = 2000, 1200


def read() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """CIFAR-10 images uint8 [N, 3, 32, 32] in a random order of seed 0, labels, class names."""
    with zipfile.ZipFile(DATA / "cifar10" / "images_5000.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".png")]
        names = [names[i] for i in np.random.default_rng(0).permutation(len(names))[: TRAINED + JUDGED]]
        pixels = [np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")) for name in names]
    classes = sorted({name.split("/")[0] for name in names})
    labels = np.array([classes.index(name.split("/")[0]) for name in names])
    return np.stack(pixels).transpose(0, 3, 1, 2), labels, classes


def with_head(pixels: torch.Tensor, labels: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """ResNet-8 whose classifier is two hidden layers, trained on images of which a third of the cats is called dogs."""
    monkeypatch.syspath_prepend(str(DATA))
    net: nn.Module = importlib.import_module("architectures").ResNet8(num_classes=10)
    net.load_state_dict(load_file(DATA / "cifar10" / "resnet8.safetensors"))
    name, last = next((n, m) for n, m in net.named_modules() if isinstance(m, nn.Linear))
    found: list[torch.Tensor] = []
    hook = last.register_forward_hook(lambda _m, inputs, _o: found.append(inputs[0]))
    net.eval().requires_grad_(False)
    for part in pixels.split(500):
        net(part)
    hook.remove()
    features, wrong = torch.cat(found), torch.from_numpy(labels.copy())
    wrong[torch.nonzero(wrong == CAT).flatten()[::3]] = DOG
    torch.manual_seed(0)
    head = nn.Sequential(
        nn.Linear(last.in_features, WIDTH), nn.ReLU(), nn.Dropout(), nn.Linear(WIDTH, WIDTH), nn.ReLU(),
        nn.Dropout(), nn.Linear(WIDTH, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(head.parameters(), lr=2e-3)
    for _ in range(20):
        for rows in torch.randperm(len(wrong)).split(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(head(features[rows]), wrong[rows]).backward()
            optimizer.step()
    setattr(net, name, head)
    return net.eval().requires_grad_(False)


def test_hidden_units_are_repaired(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pixels, labels, classes = read()
    images = torch.from_numpy(pixels).float().div(255)
    net = with_head(images[:TRAINED], labels[:TRAINED], monkeypatch)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    shown, judged = pixels[TRAINED:], labels[TRAINED:]
    fixed = nr.repair(
        net, (shown, judged), metric="recall:cat", units="hidden", budget=30_000, max_clean_drop=0.05, classes=classes
    )
    document = fixed.document
    assert {kind: row["units"] for kind, row in document["model"]["kinds"].items()} == {"hidden": 2 * WIDTH}
    assert fixed.units
    assert {unit.rpartition(":")[0].partition(".")[2] for unit in fixed.units} <= {"0", "3"}, "rows of the two layers"
    assert all(torch.equal(net.state_dict()[key], value) for key, value in before.items()), "what was given stays"
    state = fixed.state_dict()
    assert list(state) == list(before)
    net.load_state_dict(state)  # plain torch, from here on
    out = fixed.save(tmp_path / "out")
    with (out / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with torch.inference_mode():
        after = net(images[TRAINED:]).argmax(1).numpy()
    assert [classes[k] for k in after] == [row["predicted_after"] for row in rows]
    report = np.array([row["split"] == "report" for row in rows])
    recall = float((after == CAT)[report & (judged == CAT)].mean())
    assert recall == pytest.approx(document["after"]["report"]["metric"])
    assert recall > document["before"]["report"]["metric"]
