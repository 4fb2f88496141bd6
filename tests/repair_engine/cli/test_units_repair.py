"""Units that are no filters, by the command line: found, ablated, written, undone."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from repair_engine.documents.spread import block_of
from repair_engine.studies.names import LEAST, MOST
from tests.repair_engine.tiny import CLASSES, HARM, Tiny, World, call, images, make_world, rows_of, save


class Spying(Tiny):
    """Tiny, and beside it a token's attention and a hidden unit, `spy:0`, that calls a light ground an ant."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__(num_classes)
        self.embed, self.attn = nn.Linear(8, 4), nn.MultiheadAttention(4, 2, batch_first=True)
        self.out = nn.Linear(4, num_classes)
        self.spy, self.harm = nn.Linear(1, 2), nn.Linear(2, num_classes, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.embed(x.flatten(1, 2))
        seen = self.out(self.attn(rows, rows, rows, need_weights=False)[0].mean(1))
        return super().forward(x) + 0.01 * seen + self.harm(torch.relu(self.spy(x.mean((2, 3)))))


KINDS = {"filter": 8, "hidden": 2, "head": 2}


def spying(num_classes: int) -> nn.Module:
    return Spying(num_classes)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = make_world(tmp_path_factory.mktemp("spying"), images(144, seed=1))
    torch.manual_seed(0)
    module = Spying().eval().requires_grad_(False)
    module.load_state_dict(made.module.state_dict(), strict=False)
    module.spy.weight.copy_(torch.tensor([[40.0], [0.1]]))
    module.spy.bias.copy_(torch.tensor([-40.0 * 0.53, 0.1]))
    module.harm.weight.zero_()
    module.harm.weight[0, 0] = HARM
    return replace(made, module=module, model=save(module, made.model), factory=f"{__name__}:spying")


@pytest.mark.usefixtures("quick_module")
def test_a_hidden_unit_is_found_and_undone(world: World, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = call(
        world.argv("repair", "--json", metric="subgroup-recall:ground", budget="8000", seed="3", out=str(out))
    )
    assert result.code == 0, result.err
    document = json.loads((out / "repair.json").read_text())
    assert (document["filters"][0]["id"], document["filters"][0]["kind"]) == ("spy:0", "hidden")
    report = json.loads((out / "report.json").read_text())
    assert {kind: row["units"] for kind, row in report["model"]["kinds"].items()} == KINDS
    _check_kinds_of_a_repair(world, report, out)
    rows = rows_of(out / "filters.csv")
    assert {row["filter"]: row["kind"] for row in rows if row["site"] in ("spy", "attn")} == {
        "spy:0": "hidden", "spy:1": "hidden", "attn:head0": "head", "attn:head1": "head",
    }  # fmt: skip
    before, after = load_file(world.model), load_file(out / "repaired.safetensors")
    assert list(after) == list(before)
    assert not after["spy.weight"][0].any()
    assert torch.equal(after["spy.weight"][1], before["spy.weight"][1])
    undone = tmp_path / "undone.safetensors"
    where = ["--model", str(world.model), "--plan", str(out / "repair.json"), "--register", f"net={world.factory}"]
    result = call(["apply", *where, "--without", "all", "--out", str(undone)])
    assert result.code == 0, result.err
    again = load_file(undone)
    assert all(torch.equal(again[key], before[key]) for key in before)


def _check_kinds_of_a_repair(world: World, report: dict[str, Any], out: Path) -> None:
    """Counts, histograms, and hidden units removed alone on *select*, against weights edited by hand."""
    rows, culprits = report["by_kind"]["rows"], report["culprits"]
    assert {row["kind"]: row["filters"] for row in rows} == KINDS
    for row in rows:
        mine = [c for c in culprits if c["kind"] == row["kind"]]
        assert (row["candidates"], row["ablated"]) == (len(mine), sum(c["ablated"] for c in mine))
        assert row["expected"] == pytest.approx(len(culprits) * row["filters"] / 12)
        assert sum(row["histogram"]["counts"]) == row["histogram"]["filters"] == row["filters"]
    curve = next(c for c in report["by_kind"]["curves"] if c["ranking"] == "hidden units alone")
    assert curve["end"] == LEAST
    hidden = [c for c in culprits if c["kind"] == "hidden"]
    assert curve["ks"] == list(range(len(hidden) + 1))
    select = [r["file_name"] for r in rows_of(out / "predictions.csv") if r["split"] == "select"]
    assert curve["accuracy"] == pytest.approx(_accuracies(world, select, [(c["id"], c["constant"]) for c in hidden]))
    assert curve["metric"][1] > curve["metric"][0]
    page = (out / "report.html").read_text()
    for said in ("By kind of unit", "each kind of unit alone", "Hidden units: 2 values"):
        assert said in page


def _accuracies(world: World, files: list[str], removed: list[tuple[str, float]]) -> list[float]:
    """Of the plain module on these images, with none and then each of `spy`'s units fixed to its constant in turn."""
    shown, module = world.images.tensor(files), copy.deepcopy(world.module)
    labels = np.array([CLASSES.index(name.split("/")[0]) for name in files])
    found = []
    for unit in (None, *removed):
        if unit is not None:
            module.spy.weight[int(unit[0][-1])] = 0  # type: ignore[index, operator, union-attr]
            module.spy.bias[int(unit[0][-1])] = unit[1]  # type: ignore[index, operator, union-attr]
        with torch.inference_mode():
            found.append(float((module(shown).argmax(1).numpy() == labels).mean()))
    return found


def test_kinds_are_chosen(world: World) -> None:
    found = {}
    for units in ("all", "filters", "hidden", "heads"):
        result = call(world.argv("score", "--json", units=units, budget="2000"))
        assert result.code == 0, result.err
        found[units] = [row["id"] for row in result.document["filters"]]
    assert found["hidden"] == ["spy:0", "spy:1"]
    assert found["heads"] == ["attn:head0", "attn:head1"]
    assert len(found["filters"]) == 8
    assert sorted(found["all"]) == sorted(found["filters"] + found["hidden"] + found["heads"])


def test_heads_by_hand(world: World, tmp_path: Path) -> None:
    result = call(world.argv("evaluate", "--json", ablate="attn:head1,spy:0"))
    assert result.code == 0, result.err
    assert [row["id"] for row in result.document["ablated"]] == ["attn:head1", "spy:0"]
    refused = call(world.argv("evaluate", "--json", ablate="attn:head2"))
    assert refused.code == 2
    assert "channels 0 to 1" in refused.err + refused.out


@pytest.mark.usefixtures("quick_module")
def test_an_explanation_by_kind(world: World, tmp_path: Path) -> None:
    """Counts by kind, site and block, histograms, and each kind removed alone, against weights edited by hand."""
    out = tmp_path / "out"
    options = {"metric": "subgroup-recall:ground", "budget": "4000", "top_k": "3", "random_draws": "2"}
    options |= {"pictures": "1", "visualize": "0", "out": str(out)}
    result = call(world.argv("explain", "--json", **options))
    assert result.code == 0, result.err
    document = result.document
    rows = {row["id"]: row for row in document["filters"]}
    ranked = sorted(rows, key=lambda name: rows[name]["rank"])
    assert {row["kind"]: row["filters"] for row in document["kinds"]} == KINDS
    for end, ids in (("most", ranked[:3]), ("least", ranked[-3:])):
        for group in ("kinds", "layers", "blocks"):
            assert sum(row[end] for row in document[group]) == 3
        for row in document["kinds"]:
            assert row[end] == sum(rows[name]["kind"] == row["kind"] for name in ids)
    assert sum(row["expected"] for row in document["kinds"]) == pytest.approx(3)
    for row in document["kinds"]:
        assert sum(row["histogram"]["counts"]) == row["histogram"]["filters"] == row["filters"]
    report = [r["file_name"] for r in rows_of(_splits(world, tmp_path)) if r["split"] == "report"]
    found = [r for r in document["curves"]["kinds"] if r["ranking"] == "hidden units alone"]
    assert [(r["end"], r["ks"]) for r in found] == [(MOST, [0, 1, 2]), (LEAST, [0, 1, 2])]
    hidden = [name for name in ranked if rows[name]["kind"] == "hidden"]
    for curve in found:
        order = hidden if curve["end"] == MOST else hidden[::-1]
        removed = [(name, rows[name]["constant"]) for name in order]
        assert curve["accuracy"] == pytest.approx(_accuracies(world, report, removed))
    assert not {r["ranking"] for r in document["curves"]["rows"]} & {"hidden units alone", "filters alone"}
    page = (out / "explain.html").read_text()
    for said in ("The same by kind of unit", "each kind of unit alone", "8 filters, 2 hidden units and 2 heads"):
        assert said in page


def _splits(world: World, tmp_path: Path) -> Path:
    folder = tmp_path / "splits"
    assert call(world.argv("repair", metric="subgroup-recall:ground", budget="2000", out=str(folder))).code in (0, 5)
    return folder / "predictions.csv"


@pytest.mark.parametrize(("site", "block"), [
    ("encoder.layers.encoder_layer_0.mlp.0", "encoder.layers.encoder_layer_0"),
    ("features.3.5.attn.qkv", "features.3.5"), ("layer4.1.conv2", "layer4.1"), ("blocks.11.mlp.fc1", "blocks.11"),
    ("stages.0.blocks.1.mlp.fc1", "stages.0.blocks.1"), ("classifier.0", "classifier"), ("conv1", "conv1"),
])  # fmt: skip
def test_blocks(site: str, block: str) -> None:
    assert block_of(site) == block
