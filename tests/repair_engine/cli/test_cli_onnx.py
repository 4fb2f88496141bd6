"""The command line on ONNX models: what the written file gives in onnxruntime is what was reported."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from repair_engine.verbs import verify
from tests.repair_engine import tiny
from tests.repair_engine.onnx.test_onnx_families import only_values_differ
from tests.repair_engine.onnx_models import export, run
from tests.repair_engine.tiny import Sabotaged, World, call, rows_of

REPAIR = {"metric": "subgroup-recall:ground", "budget": "6000"}


def model_of(world: World, folder: Path, fixed: bool = False) -> Path:
    module = Sabotaged()
    module.load_state_dict(load_file(world.model))
    module.eval()
    images = torch.zeros(1 if fixed else 2, 1, tiny.SIDE, tiny.SIDE)
    if fixed:
        torch.onnx.export(module, (images,), str(folder / "m.onnx"), dynamo=False, opset_version=13)
        return folder / "m.onnx"
    return export(module, folder / "m.onnx", images)


def argv(world: World, verb: str, model: Path, *more: str, **options: str) -> list[str]:
    """As `World.argv`, without the options that an ONNX model does not need."""
    given = world.argv(verb, *more, model=str(model), **options)
    for option in ("--architecture", "--register", "--num-classes"):
        at = given.index(option)
        del given[at : at + 2]
    return given


def check_repair(world: World, model: Path, out: Path, one_by_one: bool = False) -> dict:
    result = call(argv(world, "repair", model, "--json", out=str(out), **REPAIR))
    assert result.code == 0, (result.err, result.out[-2000:])
    document = result.document
    assert [row["id"] for row in document["culprits"] if row["ablated"]] == ["spy:0"]
    only_values_differ(model, out / "repaired.onnx", {"spy.weight"})
    rows = rows_of(out / "predictions.csv")
    for column, file in (("predicted_before", model), ("predicted_after", out / "repaired.onnx")):
        images = world.images.tensor([row["file_name"] for row in rows])
        outputs = torch.cat([run(file, x) for x in images.split(1)]) if one_by_one else run(file, images)
        assert [row[column] for row in rows] == [tiny.CLASSES[i] for i in outputs.argmax(1)]
    assert document["files"]["checkpoint"]["name"] == "repaired.onnx"
    assert "onnxruntime" in document["verification"]["how"]
    assert document["verification"]["different_predictions"] == 0
    held = tiny.check_verified(out, "--model", str(model), "--data", str(world.data))
    assert set(held.values()) == {"passed"}
    return document


def test_repair_in_fresh_processes(sabotaged: World, tmp_path: Path) -> None:
    document = check_repair(sabotaged, model_of(sabotaged, tmp_path), tmp_path / "out")
    onnx = document["model"]["onnx"]
    assert (document["model"]["architecture"], document["model"]["num_classes"], onnx["opset"]) == ("onnx", 3, 18)
    assert "onnxruntime" in onnx["import_checked"]
    assert "opset 18" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.usefixtures("quick")
def test_repair_of_a_graph_that_ends_in_softmax(sabotaged: World, tmp_path: Path) -> None:
    net = Sabotaged()
    net.load_state_dict(load_file(sabotaged.model))
    path = export(nn.Sequential(net, nn.Softmax(1)).eval(), tmp_path / "m.onnx", torch.zeros(2, 1, 8, 8))
    result = call(argv(sabotaged, "repair", path, "--json", out=str(tmp_path / "out"), **REPAIR))
    assert result.code == 0, result.err
    assert result.document["verification"]["largest_logit_difference"] < 1e-3
    assert "softmax" in result.document["model"]["onnx"]["logits"]
    rows = rows_of(tmp_path / "out" / "predictions.csv")
    outputs = run(tmp_path / "out" / "repaired.onnx", sabotaged.images.tensor([row["file_name"] for row in rows]))
    torch.testing.assert_close(outputs.sum(1), torch.ones(len(rows)))
    assert [row["predicted_after"] for row in rows] == [tiny.CLASSES[i] for i in outputs.argmax(1)]


@pytest.mark.usefixtures("quick")
def test_repair_of_a_graph_with_a_fixed_batch_of_one(sabotaged: World, tmp_path: Path) -> None:
    document = check_repair(sabotaged, model_of(sabotaged, tmp_path, fixed=True), tmp_path / "out", one_by_one=True)
    assert document["model"]["onnx"]["batch"] == 1


@pytest.mark.usefixtures("quick")
def test_without_onnxruntime_the_importer_predicts_and_the_report_says_so(
    sabotaged: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "onnxruntime_version", lambda: None)
    model = model_of(sabotaged, tmp_path)
    result = call(argv(sabotaged, "repair", model, "--json", out=str(tmp_path / "out"), **REPAIR))
    assert result.code == 0, result.err
    assert "this project's importer (onnxruntime is not installed)" in result.document["verification"]["how"]


@pytest.mark.usefixtures("quick")
def test_the_other_verbs(sabotaged: World, tmp_path: Path) -> None:
    model = model_of(sabotaged, tmp_path)
    inspected = call(argv(sabotaged, "inspect", model, "--json")).document
    assert (inspected["format"], inspected["num_classes"], inspected["filters"]) == ("onnx", 3, 9)
    assert inspected["input"] == [1, 8, 8]
    text = call(argv(sabotaged, "inspect", model)).out
    assert "onnx: 9 filters" in text
    assert "opset 18, its output is the logits; import checked against onnxruntime" in text
    plain = call(sabotaged.argv("score", "--json", budget="2000")).document
    score = call(argv(sabotaged, "score", model, "--json", budget="2000"))
    assert score.code == 0
    assert len(score.document["filters"]) == len(plain["filters"])
    figures = call(argv(sabotaged, "evaluate", model, "--json", ablate="spy:0")).document
    same = call(sabotaged.argv("evaluate", "--json", ablate="spy:0")).document
    assert figures["figures_ablated"] == same["figures_ablated"]
    attack = {"metric": "attack-success", "epsilon": "0.2", "steps": "3"}
    attacked = call(argv(sabotaged, "evaluate", model, "--json", **attack)).document["figures"]
    assert attacked == call(sabotaged.argv("evaluate", "--json", **attack)).document["figures"]


@pytest.mark.usefixtures("quick")
def test_bad_options(sabotaged: World, tmp_path: Path) -> None:
    model = model_of(sabotaged, tmp_path)
    wrong = call([*argv(sabotaged, "repair", model, out=str(tmp_path / "o"), **REPAIR), "--num-classes", "7"])
    assert (wrong.code, "3 logits" in wrong.err) == (2, True)
    assert not (tmp_path / "o" / "repaired.onnx").exists()
    both = call([*argv(sabotaged, "inspect", model), "--architecture", "resnet18"])
    assert (both.code, "brings its own" in both.err or "is its architecture" in both.err) == (2, True)
    bare = call(argv(sabotaged, "inspect", sabotaged.model))
    assert (bare.code, "--architecture and --num-classes must be given" in bare.err) == (2, True)
    size = call(argv(sabotaged, "inspect", model, "--json", crop="4"))
    assert (size.code, "takes no images of 4 × 4 pixels" in size.err) == (2, True)
