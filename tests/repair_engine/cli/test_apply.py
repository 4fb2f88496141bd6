"""Filters chosen by hand from a finished repair, and undo: repair.json and the original file are enough."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.repair_engine.tiny import CLASSES, Result, Sabotaged, World, call, rows_of

pytestmark = pytest.mark.usefixtures("quick_module")


@pytest.fixture(scope="module")
def repaired(sabotaged: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a repair that ablated several filters."""
    out = tmp_path_factory.mktemp("repaired")
    argv = sabotaged.argv("repair", "--json", metric="subgroup-recall:ground", budget="8000", seed="3", out=str(out))
    result = call(argv)
    assert result.code == 0, result.err
    return out


def again(world: World, plan: Path, out: Path, *more: str, model: Path | None = None) -> Result:
    where = ["--model", str(model or world.model), "--plan", str(plan), "--out", str(out)]
    return call(["apply", *where, "--register", f"net={world.factory}", "--json", *more])


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_whole_plan_gives_the_repaired_file_byte_for_byte(sabotaged: World, repaired: Path, tmp_path: Path) -> None:
    out = tmp_path / "same.safetensors"
    result = again(sabotaged, repaired / "repair.json", out)
    assert result.code == 0, result.err
    assert result.document["same_as_repaired"] is True
    assert sha256(out) == sha256(repaired / "repaired.safetensors") == result.document["sha256"]


def test_undoing_all_gives_the_intact_tensors_bit_for_bit(sabotaged: World, repaired: Path, tmp_path: Path) -> None:
    ablated = [row["id"] for row in json.loads((repaired / "repair.json").read_text())["filters"]]
    for i, left in enumerate(("all", ",".join(ablated))):
        out = tmp_path / f"{i}.safetensors"
        result = again(sabotaged, repaired / "repair.json", out, "--without", left)
        assert result.code == 0, result.err
        assert result.document["filters"] == []
        assert result.document["left_out"] == ablated
        before, after = load_file(sabotaged.model), load_file(out)
        assert list(before) == list(after)
        for key, tensor in before.items():
            assert tensor.dtype == after[key].dtype
            assert tensor.numpy().tobytes() == after[key].numpy().tobytes()


def test_filters_by_hand_predict_what_masking_predicts(sabotaged: World, repaired: Path, tmp_path: Path) -> None:
    """One ablated filter and one candidate that was not, beside `evaluate --ablate`, in plain torch."""
    plan = json.loads((repaired / "repair.json").read_text())
    picked = [plan["filters"][0]["id"], *(row["id"] for row in plan["candidates"][:1])]
    out = tmp_path / "hand.safetensors"
    result = again(sabotaged, repaired / "repair.json", out, "--filters", ",".join(reversed(picked)))
    assert result.code == 0, result.err
    assert result.document["filters"] == picked
    assert result.document["added"] == picked[1:]
    net = Sabotaged()
    net.load_state_dict(load_file(out))
    shown = sabotaged.images
    with torch.inference_mode():
        predicted = net.eval()(shown.tensor()).argmax(1).numpy()
    masked = call(
        sabotaged.argv("evaluate", "--json", "--ablate", ",".join(picked), metric="subgroup-recall:ground", seed="3")
    ).document["figures_ablated"]["all"]["accuracy"]
    assert (predicted == shown.labels).mean() == pytest.approx(masked)
    rows = rows_of(repaired / "predictions.csv")
    assert [CLASSES[i] for i in predicted] != [row["predicted_before"] for row in rows]


def test_repair_json_holds_the_edits_that_were_made(sabotaged: World, repaired: Path) -> None:
    """By plain assignment to the state dict, without this project."""
    state = {key: tensor.clone() for key, tensor in load_file(sabotaged.model).items()}
    plan = json.loads((repaired / "repair.json").read_text())
    for row in plan["filters"]:
        for edit in row["edits"]:
            assert edit["added"] is False
            state[edit["key"]][edit["channel"]] = edit["value"]
    for key, tensor in load_file(repaired / "repaired.safetensors").items():
        assert torch.equal(state[key], tensor)


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("--without", "stem:99", "did not ablate stem:99"),
        ("--without", "spy:0,spy:0", "spy:0 twice"),
        ("--filters", "nowhere:0", "did not rank nowhere:0"),
    ],
)
def test_filters_that_are_not_there(
    sabotaged: World, repaired: Path, tmp_path: Path, option: str, value: str, problem: str
) -> None:
    result = again(sabotaged, repaired / "repair.json", tmp_path / "x.safetensors", option, value)
    assert result.code == 2
    assert problem in result.document["error"]
    assert not (tmp_path / "x.safetensors").exists()


def test_another_model_than_the_plans(sabotaged: World, repaired: Path, tmp_path: Path) -> None:
    result = again(
        sabotaged, repaired / "repair.json", tmp_path / "x.safetensors", model=repaired / "repaired.safetensors"
    )
    assert result.code == 2
    assert "sha256" in result.document["error"]
    assert "not a repaired one" in result.document["mend"]


@pytest.mark.parametrize("damage", ["not json", "[]", "{}", '{"filters": [{"id": "a:0"}], "candidates": []}'])
def test_a_plan_that_is_none(sabotaged: World, tmp_path: Path, damage: str) -> None:
    (tmp_path / "repair.json").write_text(damage)
    result = again(sabotaged, tmp_path / "repair.json", tmp_path / "x.safetensors")
    assert result.code == 2
    assert "no repair.json" in result.document["error"]


def test_where_it_is_written(sabotaged: World, repaired: Path, tmp_path: Path) -> None:
    plan = repaired / "repair.json"
    shutil.copy(sabotaged.model, tmp_path / "there.safetensors")
    for out, problem in (
        (tmp_path / "there.safetensors", "exists already"),
        (tmp_path / "no" / "x.safetensors", "no folder"),
        (tmp_path / "x.pth", "does not end in .safetensors"),
    ):
        result = again(sabotaged, plan, out)
        assert result.code == 2
        assert problem in result.document["error"]
    assert "no file" in again(sabotaged, plan, tmp_path / "x.safetensors", model=tmp_path / "none").document["error"]
    assert "cannot be read" in again(sabotaged, tmp_path / "none.json", tmp_path / "x").document["error"]


def test_edits_of_tensors_that_the_model_lacks(sabotaged: World, repaired: Path, tmp_path: Path) -> None:
    plan = json.loads((repaired / "repair.json").read_text())
    for key, channel in (("nowhere.weight", 0), ("spy.weight", 7)):
        plan["filters"][0]["edits"][0] |= {"key": key, "channel": channel}
        (tmp_path / "repair.json").write_text(json.dumps(plan))
        result = again(sabotaged, tmp_path / "repair.json", tmp_path / "x.safetensors")
        assert result.code == 2
        assert key in result.document["error"]


def test_a_wrapped_state_dict_keeps_its_wrapper(sabotaged: World, tmp_path: Path) -> None:
    """The undone .pth has the entries and the bits of the one that was uploaded."""
    state = {f"module.{k}": v for k, v in load_file(sabotaged.model).items()}
    torch.save({"epoch": 7, "state_dict": state}, tmp_path / "net.pth")
    argv = sabotaged.argv(
        "repair", "--json", model=str(tmp_path / "net.pth"), metric="subgroup-recall:ground", budget="8000", seed="3",
        out=str(tmp_path / "out"),
    )  # fmt: skip
    assert call(argv).code == 0
    result = again(
        sabotaged, tmp_path / "out" / "repair.json", tmp_path / "undone.pth", "--without", "all",
        model=tmp_path / "net.pth",
    )  # fmt: skip
    assert result.code == 0, result.err
    undone = torch.load(tmp_path / "undone.pth", weights_only=True)
    assert undone["epoch"] == 7
    for key, tensor in state.items():
        assert np.array_equal(tensor.numpy(), undone["state_dict"][key].numpy())
