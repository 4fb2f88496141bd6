"""The Python API on a module in memory: right values, an untouched model, the same as by files."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import repair_engine as nr
from repair_engine.verbs.results import Repaired
from tests.repair_engine.tiny import CLASSES, Sabotaged, World, call, rows_of

OPTIONS: dict[str, Any] = {"metric": "subgroup-recall:ground", "budget": 8000, "seed": 3}
TOLD: dict[str, Any] = {"classes": list(CLASSES)}


def arrays(world: World) -> tuple[np.ndarray, np.ndarray]:
    return world.images.pixels[:, None], world.images.labels


def told(world: World) -> dict[str, Any]:
    return TOLD | {"columns": {"ground": world.images.ground}}


@pytest.fixture(scope="module")
def fixed(sabotaged: World) -> Repaired:
    return nr.repair(sabotaged.module, arrays(sabotaged), **OPTIONS, **told(sabotaged))


class Votes(nn.Module):
    """Two filters that see a pixel each; the logit of class 1 is their difference: closed values."""

    def __init__(self) -> None:
        super().__init__()
        self.eyes = nn.Conv2d(2, 2, 1)
        self.head = nn.Linear(2, 2)
        with torch.no_grad():
            self.eyes.weight.copy_(torch.eye(2)[..., None, None])
            self.eyes.bias.zero_()
            self.head.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
            self.head.bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.eyes(x)).mean((2, 3)))


def test_values_of_a_network_worked_out_by_hand() -> None:
    """Class c shows channel c at 1 and the other at 0, in equal numbers: each filter's constant is its mean, 1/2.

    Without both filters every image has logits (½, ½): class 0, so half are right. With eye 0 alone, logits are (1, ½)
    or (0, ½): all right. So V(∅) = ½, V({0}) = V({1}) = V({0,1}) = 1, and both values are (1 − ½) / 2 = ¼.
    """
    labels = np.arange(64) % 2
    images = np.zeros((64, 2, 4, 4), np.float32)
    images[np.arange(64), labels] = 1.0
    images[:, :, 0, 0] += np.linspace(0, 1e-3, 64)[:, None]  # no two alike: twins would stay together
    found = nr.score(Votes(), (images, labels), metric="accuracy", estimator="exact", normalized=True)
    assert {row["unit"]: row["value"] for row in found.table()} == {"eyes:0": 0.25, "eyes:1": 0.25}
    assert found.document["value_of_all"] == 1.0


def test_the_culprit_is_found_and_the_original_class_loads_the_repair(fixed: Repaired, sabotaged: World) -> None:
    assert fixed.repaired
    assert fixed.units == ("spy:0",)
    assert fixed.gain["lower"] > 0
    plain = Sabotaged()
    plain.load_state_dict(fixed.state_dict())  # strict
    images, labels = sabotaged.images.tensor(), sabotaged.images.labels
    with torch.inference_mode():
        by_class, by_module = plain.eval()(images), fixed.module(images)
        before = sabotaged.module(images)
    assert torch.equal(by_class, by_module)
    report = np.array([int(r["file_name"]) for r in _predictions(fixed) if r["split"] == "report"])
    for logits, moment in ((before, "before"), (by_class, "after")):
        right = (logits.argmax(1).numpy() == labels)[report]
        assert fixed.document[moment]["report"]["accuracy"] == pytest.approx(right.mean())


def _predictions(fixed: Repaired) -> list[dict[str, str]]:
    return rows_of(fixed._folder / "predictions.csv")


def test_masked_and_edited_logits_are_compared_on_all_images(fixed: Repaired, sabotaged: World) -> None:
    found = fixed.document["verification"]
    assert found["images"] == len(sabotaged.images.labels)
    assert found["different_predictions"] == 0
    assert found["largest_logit_difference"] < 1e-4
    assert "in this process" in found["how"]


def test_an_edit_that_does_not_reproduce_what_was_measured_is_refused(
    sabotaged: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from repair_engine.network import subject

    def nothing(tensors: dict, *_: object) -> dict:
        return dict(tensors)

    monkeypatch.setattr(subject, "write_back", nothing)
    with pytest.raises(nr.VerificationFailed, match="differently from the masked"):
        nr.repair(sabotaged.module, arrays(sabotaged), **OPTIONS, **told(sabotaged))


def test_the_given_module_is_untouched(sabotaged: World) -> None:
    module = copy.deepcopy(sabotaged.module)
    module.train()
    module.bn.eval()  # one part in another mode than the rest
    module.stem.weight.requires_grad_(True)
    calls: list[int] = []
    module.head.register_forward_hook(lambda *_: calls.append(1))
    before = OrderedDict((k, v.clone()) for k, v in module.state_dict().items())
    modes = [part.training for part in module.modules()]
    grads = [p.requires_grad for p in module.parameters()]
    hooks = dict(module.head._forward_hooks)
    random = torch.get_rng_state()
    found = nr.repair(module, arrays(sabotaged), **OPTIONS, **told(sabotaged))
    assert found.units == ("spy:0",)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert [part.training for part in module.modules()] == modes
    assert [p.requires_grad for p in module.parameters()] == grads
    assert module.head._forward_hooks == hooks
    assert all(p.grad is None for p in module.parameters())
    assert torch.equal(torch.get_rng_state(), random)
    assert [part.training for part in found.module.modules()] == modes
    assert found.module is not module


def test_dataset_loader_and_arrays_give_the_same(fixed: Repaired, sabotaged: World) -> None:
    floats = sabotaged.images.tensor()
    dataset = TensorDataset(floats, torch.from_numpy(sabotaged.images.labels))
    for images in (dataset, DataLoader(dataset, batch_size=10), (floats, torch.from_numpy(sabotaged.images.labels))):
        again = nr.repair(sabotaged.module, images, **OPTIONS, **told(sabotaged))
        assert again.table() == fixed.table()
        assert _figures(again.document) == _figures(fixed.document)


def test_memory_and_files_give_the_same_figures_and_units(
    fixed: Repaired, sabotaged: World, tmp_path: Path, quick: None
) -> None:
    model = nr.open_model(sabotaged.model, "net", 3, register={"net": sabotaged.factory}, device="cpu")
    images = nr.open_images(sabotaged.data, model)
    by_files = nr.repair(model, images, **OPTIONS)
    assert by_files.table() == fixed.table()
    assert _figures(by_files.document) == _figures(fixed.document)
    assert all(torch.equal(v, by_files.state_dict()[k]) for k, v in fixed.state_dict().items())

    arguments = {"metric": OPTIONS["metric"], "budget": "8000", "seed": "3", "out": str(tmp_path / "cli")}
    result = call(sabotaged.argv("repair", "--json", **arguments))
    assert result.code == 0, result.err
    saved = by_files.save(tmp_path / "api")
    names = {p.name for p in (tmp_path / "cli").iterdir()}
    assert names == {p.name for p in saved.iterdir()}
    assert "repaired.safetensors" in names
    for name in names:
        if name.endswith((".csv", ".safetensors")):
            assert (tmp_path / "cli" / name).read_bytes() == (saved / name).read_bytes(), name
    for name in ("report.json", "repair.json"):
        first, second = (_timeless(json.loads((folder / name).read_text())) for folder in (tmp_path / "cli", saved))
        assert first == second

    in_memory = fixed.save(tmp_path / "memory")
    assert {p.name for p in in_memory.iterdir()} == names
    written = rows_of(in_memory / "filters.csv")
    assert written == rows_of(saved / "filters.csv")


def _figures(document: dict[str, Any]) -> dict[str, Any]:
    return {key: document[key] for key in ("before", "after", "gain", "controls", "curve", "groups", "k", "outcome")}


def _timeless(document: dict[str, Any]) -> dict[str, Any]:
    document.pop("created", None)
    document["run"].pop("seconds")
    return document


def test_normalized_images_and_mean_and_std_are_the_same_question(sabotaged: World) -> None:
    class Shifted(nn.Module):
        """Takes (x − 0.4) / 0.2."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = copy.deepcopy(sabotaged.module)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x * 0.2 + 0.4)

    pixels, labels = arrays(sabotaged)
    asked = {"metric": "accuracy", "budget": 3000} | told(sabotaged)
    one = nr.score(Shifted(), (pixels, labels), mean=[0.4], std=[0.2], **asked)
    ready = (sabotaged.images.tensor() - 0.4) / 0.2
    other = nr.score(Shifted(), (ready, labels), normalized=True, **asked)
    assert one.table() == other.table()
    assert other.document["data"]["preprocessing"]["normalized"] is True


def test_importing_the_engine_changes_nothing() -> None:
    code = """
import os, sys
before = dict(os.environ)
import repair_engine
assert "torch" not in sys.modules, "importing the package loads torch"
assert dict(os.environ) == before
import torch
torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
import repair_engine.api, repair_engine.cli.options
assert torch.backends.cudnn.allow_tf32 and torch.backends.cuda.matmul.allow_tf32
assert dict(os.environ) == before
assert callable(repair_engine.score) and "repair" in dir(repair_engine)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
