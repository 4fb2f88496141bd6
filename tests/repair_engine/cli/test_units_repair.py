"""Units that are no filters, by the command line: found, ablated, written, undone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.repair_engine.tiny import HARM, Tiny, World, call, images, make_world, rows_of, save


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
    kinds = json.loads((out / "report.json").read_text())["model"]["kinds"]
    assert {kind: row["units"] for kind, row in kinds.items()} == {"filter": 8, "hidden": 2, "head": 2}
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
