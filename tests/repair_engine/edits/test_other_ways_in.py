"""Edits of an ONNX graph, and of a module in memory: the same word by onnxruntime and by the module itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import repair_engine as nr
from tests.repair_engine import tiny
from tests.repair_engine.cli.test_cli_onnx import argv
from tests.repair_engine.edits.spied import Spied, make_spied
from tests.repair_engine.edits.test_edits import METRIC
from tests.repair_engine.onnx.test_onnx_families import only_values_differ
from tests.repair_engine.onnx_models import export, run
from tests.repair_engine.tiny import CLASSES, World, call, images, rows_of

pytestmark = pytest.mark.usefixtures("quick_module")
CHOSEN = ("--filters", "spy:0", "--budget", "9000")  # no search


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_spied(tmp_path_factory.mktemp("ways"), images(144, seed=1))


def test_a_graph_whose_last_layer_is_refitted(world: World, tmp_path: Path) -> None:
    model = export(world.module, tmp_path / "m.onnx", torch.zeros(2, 1, tiny.SIDE, tiny.SIDE))
    given = argv(world, "repair", model, "--json", *CHOSEN, "--edit", "ablate+head", metric=METRIC, out=str(tmp_path))
    result = call(given)
    assert result.code == 0, result.err + result.out[-1000:]
    written = tmp_path / "repaired.onnx"
    assert result.document["edit"]["used"] == "ablate+head"
    assert set(result.document["edit"]["tuned"]) <= {"head.weight", "head.bias"}
    only_values_differ(model, written, {"spy.weight", "spy.bias", "head.weight", "head.bias"})
    rows = rows_of(tmp_path / "predictions.csv")
    outputs = run(written, world.images.tensor([row["file_name"] for row in rows]))
    assert [row["predicted_after"] for row in rows] == [CLASSES[i] for i in outputs.argmax(1)]
    held = tiny.check_verified(tmp_path, "--model", str(model), "--data", str(world.data))
    assert set(held.values()) == {"passed"}
    applied = ["apply", "--model", str(model), "--plan", str(tmp_path / "repair.json"), "--json", "--out"]
    call([*applied, str(tmp_path / "again.onnx")])
    assert (tmp_path / "again.onnx").read_bytes() == written.read_bytes()
    call([*applied, str(tmp_path / "undone.onnx"), "--without", "all"])
    assert (tmp_path / "undone.onnx").read_bytes() == model.read_bytes()


def test_a_module_in_memory_gets_the_same_tensors_as_the_file(world: World, tmp_path: Path) -> None:
    fixed = nr.repair(
        world.module, (world.images.pixels[:, None], world.images.labels), metric=METRIC, edit="biases", budget=8000,
        classes=list(CLASSES), columns={"ground": world.images.ground},
    )  # fmt: skip
    assert fixed.repaired
    assert fixed.units == ()
    assert "tuning biases and norms" in str(fixed)
    saved = load_file(fixed.save(tmp_path / "out") / "repaired.safetensors")
    for key, tensor in fixed.state_dict().items():
        assert torch.equal(tensor, saved[key])
    assert tiny.check_verified(tmp_path / "out")["figures"] == "passed"
    net = Spied()
    net.load_state_dict(saved)
    rows = {row["file_name"]: row["predicted_after"] for row in rows_of(tmp_path / "out" / "predictions.csv")}
    with torch.inference_mode():
        predicted = net.eval()(world.images.tensor()).argmax(1).numpy()
        held = fixed.module(world.images.tensor()).argmax(1).numpy()
    assert np.array_equal(held, predicted)
    assert list(rows.values()) == [CLASSES[c] for c in predicted]


def test_filters_by_hand_are_ablated_though_tuning_does_not_help(world: World, tmp_path: Path) -> None:
    """No constant makes up for a filter that the network needs; it was asked for, so it is ablated."""
    more = ("--filters", "stem:0", "--budget", "9000", "--edit", "constants")
    result = call(world.argv("repair", "--json", *more, metric=METRIC, out=str(tmp_path)))
    assert [row["id"] for row in result.document["culprits"] if row["ablated"]] == ["stem:0"]
    assert result.document["edit"]["asked"] == "constants"
    if result.document["edit"]["used"] == "ablate":
        assert "none of its candidates" in result.document["edit"]["rows"][0]["not_made"]
    assert (tmp_path / "repaired.safetensors").exists()
    for edit in ("biases", "head", "auto"):
        refused = call(world.argv("repair", "--json", "--filters", "stem:0", "--edit", edit, out=str(tmp_path)))
        assert refused.code == 2
        assert "need not ablate them" in refused.document["error"]
