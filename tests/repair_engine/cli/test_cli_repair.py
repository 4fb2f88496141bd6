"""`python -m repair_engine repair` as a user runs it: the files it leaves, and what they are worth elsewhere."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.repair_engine.tiny import CLASSES, Result, Sabotaged, World, call, rows_of

HEADER = "file_name,split,label,subgroup,predicted_before,predicted_after,confidence_before,confidence_after"
OPTIONS = {"metric": "subgroup-recall:ground", "budget": "8000", "seed": "3"}


@pytest.fixture(scope="module")
def wrapped(sabotaged: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Result]:
    """A .pth with wrapper and prefix, repaired by a real process: (model, out, result)."""
    folder = tmp_path_factory.mktemp("wrapped")
    state = {f"module.{k}": v for k, v in load_file(sabotaged.model).items()}
    torch.save({"epoch": 7, "state_dict": state}, folder / "net.pth")
    argv = sabotaged.argv("repair", "--json", model=str(folder / "net.pth"), out=str(folder / "out"), **OPTIONS)
    # As many threads as the process that repeats it: the bits rest on their number.
    around = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run([sys.executable, "-m", "repair_engine", *argv], capture_output=True, text=True, env=around)
    return folder / "net.pth", folder / "out", Result(done.returncode, done.stdout, done.stderr)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_stdout_is_one_document_and_the_exit_code_0(wrapped: tuple[Path, Path, Result]) -> None:
    _, out, result = wrapped
    assert result.code == 0, result.err
    assert result.document["outcome"] == "repaired"
    assert result.document["k"] >= 1
    assert result.document["culprits"][0]["id"] == "spy:0"
    expected = {"repaired.pth", "repair.json", "report.json", "report.html", "predictions.csv"}
    assert {p.name for p in out.iterdir()} >= expected


def test_the_file_keeps_wrapper_prefix_keys_and_shapes(wrapped: tuple[Path, Path, Result]) -> None:
    model, out, _ = wrapped
    before = torch.load(model, weights_only=True)
    after = torch.load(out / "repaired.pth", weights_only=True)
    assert list(after) == ["epoch", "state_dict"]
    assert after["epoch"] == 7
    assert list(after["state_dict"]) == list(before["state_dict"])
    for key, tensor in before["state_dict"].items():
        assert after["state_dict"][key].shape == tensor.shape
        assert after["state_dict"][key].dtype == tensor.dtype
    changed = {k for k, v in before["state_dict"].items() if not torch.equal(v, after["state_dict"][k])}
    assert {"module.spy.weight", "module.spy.bias"} <= changed


def test_predictions_are_reproduced_by_plain_torch(wrapped: tuple[Path, Path, Result], sabotaged: World) -> None:
    model, out, _ = wrapped
    text = (out / "predictions.csv").read_text()
    assert text.splitlines()[0] == HEADER
    rows = rows_of(out / "predictions.csv")
    assert [row["file_name"] for row in rows] == list(sabotaged.images.names)
    for path, column in ((model, "predicted_before"), (out / "repaired.pth", "predicted_after")):
        state = torch.load(path, weights_only=True)["state_dict"]
        net = Sabotaged()
        net.load_state_dict({k.removeprefix("module."): v for k, v in state.items()})
        with torch.inference_mode():
            likely = torch.softmax(net.eval()(sabotaged.images.tensor()), 1).max(1)
        assert [row[column] for row in rows] == [CLASSES[i] for i in likely.indices]
        sure = [float(row[column.replace("predicted", "confidence")]) for row in rows]
        assert sure == pytest.approx(likely.values.tolist(), abs=2e-6)
    assert [row["label"] for row in rows] == [CLASSES[i] for i in sabotaged.images.labels]
    assert [row["subgroup"] for row in rows] == list(sabotaged.images.ground)
    parts = [row["split"] for row in rows]
    assert {part: parts.count(part) for part in set(parts)} == {"score": 72, "select": 36, "report": 36}


def test_repair_json_traces_the_repair(wrapped: tuple[Path, Path, Result], sabotaged: World) -> None:
    model, out, _ = wrapped
    repair = json.loads((out / "repair.json").read_text())
    assert repair["inputs"]["model"]["sha256"] == sha256(model)
    assert repair["inputs"]["data"]["sha256"] == sha256(sabotaged.data)
    for written in repair["files"].values():
        assert written["sha256"] == sha256(out / written["name"])
    assert set(repair["files"]) >= {"checkpoint", "predictions"}
    assert repair["run"]["seed"] == 3
    assert repair["run"]["budget"] == 8000
    assert repair["run"]["evaluations"] <= 8000
    assert repair["run"]["ablation"] == "activation_mean"
    assert repair["inputs"]["data"]["splits"] == {"score": 72, "select": 36, "report": 36}
    assert {"python", "torch", "torchvision", "numpy"} <= set(repair["versions"])
    assert [f["rank"] for f in repair["filters"]] == list(range(1, repair["k"] + 1))
    state = torch.load(out / "repaired.pth", weights_only=True)["state_dict"]
    for row in repair["filters"]:
        assert row["lower"] <= row["value"] <= row["upper"]
        if row["id"] == "spy:0":  # a bias and a ReLU: the constant is the bias
            assert float(state["module.spy.bias"][0]) == pytest.approx(row["constant"])
    # Figures agree with the predictions.
    rows = [row for row in rows_of(out / "predictions.csv") if row["split"] == "report"]
    for moment in ("before", "after"):
        share = sum(row["label"] == row[f"predicted_{moment}"] for row in rows) / len(rows)
        assert repair[moment]["report"]["accuracy"] == pytest.approx(share)
    assert repair["gain"]["lower"] > 0


def test_same_seed_and_budget_give_the_same_bits(
    wrapped: tuple[Path, Path, Result], sabotaged: World, tmp_path: Path, quick: None
) -> None:
    """From another process, in another folder."""
    model, out, _ = wrapped
    again = call(sabotaged.argv("repair", "--json", model=str(model), out=str(tmp_path), **OPTIONS))
    assert again.code == 0
    assert sha256(tmp_path / "repaired.pth") == sha256(out / "repaired.pth")
    assert (tmp_path / "predictions.csv").read_bytes() == (out / "predictions.csv").read_bytes()
    first, second = (json.loads((folder / "repair.json").read_text()) for folder in (out, tmp_path))
    for document in (first, second):
        document["run"].pop("seconds")
    assert second == first


def test_the_report_for_people(sabotaged: World, tmp_path: Path, quick: None) -> None:
    result = call(sabotaged.argv("repair", out=str(tmp_path / "out"), **OPTIONS))
    assert result.code == 0
    assert "spy:0" in result.out
    assert "logit shift" in result.out
    assert (tmp_path / "out" / "repaired.safetensors").is_file()
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(result.out)


def test_the_fewest_filters_within_one_standard_error(sabotaged: World, tmp_path: Path, quick: None) -> None:
    result = call(sabotaged.argv("repair", "--json", choose="one-se", out=str(tmp_path), **OPTIONS))
    assert result.code == 0, result.err
    repair = json.loads((tmp_path / "repair.json").read_text())
    found, curve = repair["selection"], result.document["curve"]
    assert repair["limits"]["choose"] == found["choose"] == "one-se"
    best = curve[found["best"]]["objective"]
    assert best == max(step["objective"] for step in curve if step["feasible"])
    within = [s["k"] for s in curve if s["feasible"] and s["objective"] >= best - found["standard_error"] - 1e-9]
    assert repair["k"] == min(within) >= 1
    assert sum(row["share"] for row in found["distribution"]) == pytest.approx(1)
    for step in curve:
        assert step["lower"] <= step["objective"] + 1e-9
        assert step["upper"] >= step["objective"] - 1e-9
    assert "Pareto front" in (tmp_path / "report.html").read_text()
