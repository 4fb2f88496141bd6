"""A search in bfloat16: where it agrees it is used, where it does not it is given up, and it decides nothing else."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from repair_engine.errors import BadInput
from repair_engine.network import predictions
from repair_engine.pages.measured import MEASURED
from repair_engine.pages.rendering import render
from repair_engine.search import lowering
from repair_engine.search.game import NeuronGame
from repair_engine.support import precision
from repair_engine.verbs import pipeline
from shapley import next_round, run_block, start
from tests.repair_engine.search.test_exact_values import request_of
from tests.repair_engine.search.test_phases import prepared
from tests.repair_engine.tiny import World, call

pytestmark = pytest.mark.usefixtures("quick_module")


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16 is right on every processor, if slow on some."""
    monkeypatch.setattr(lowering, "_impossible", lambda device: "")


def shifted(game: NeuronGame, by: float) -> NeuronGame:
    """The game of the same network with `by` added to its logits: equal in exact arithmetic, not when rounded."""
    network = copy.copy(game.network)
    network._segments = [*network._segments[:-1], _Shifted(network._segments[-1], by)]
    twin = copy.copy(game)
    twin.network = twin.played = network
    return twin


class _Shifted(torch.nn.Module):
    def __init__(self, segment: torch.nn.Module, by: float) -> None:
        super().__init__()
        self.segment, self.by = segment, by

    def forward(self, *state: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(tensor + self.by for tensor in self.segment(*state))


def test_lowered_computes_the_same_filters_in_another_type(skewed: World, tmp_path: Path) -> None:
    game = prepared(skewed, tmp_path).game
    low = game.network.lowered(torch.bfloat16)
    rows = np.random.default_rng(0).random((6, game.n_players)) < 0.7
    images = game.images(np.arange(40))
    ours, theirs = game.network.masked_logits(images, rows), low.masked_logits(images, rows)
    assert theirs.dtype == torch.float32
    assert game.network.dtype == torch.float32
    assert not torch.equal(ours, theirs)
    assert float((ours - theirs).abs().max()) < 0.05 * float(ours.abs().max())
    assert float((predictions(ours) == predictions(theirs)).float().mean()) > 0.95


@pytest.mark.usefixtures("able")
def test_it_is_used_where_it_agrees(skewed: World, tmp_path: Path) -> None:
    game = prepared(skewed, tmp_path).game
    chosen = lowering.choose(game, "bfloat16", 0)
    low = game.network.lowered(torch.bfloat16)
    assert chosen.used == "bfloat16"
    assert chosen.reason == ""
    assert (chosen.agreement, chosen.predictions) == lowering.agreement(game, low, 0)
    assert f"{chosen.agreement:.2%} of {chosen.predictions}" in chosen.note()
    assert lowering.agreement(game, game.network, 0)[0] == 1.0


@pytest.mark.usefixtures("able")
def test_it_is_given_up_where_predictions_differ(skewed: World, tmp_path: Path) -> None:
    game = shifted(prepared(skewed, tmp_path).game, 3000.0)
    chosen = lowering.choose(game, "bfloat16", 0)
    assert chosen.agreement is not None
    assert chosen.agreement < precision.LEAST_AGREEMENT
    assert chosen.used == "float32"
    assert "stays in float32: only" in chosen.note()


def test_it_is_given_up_where_the_processor_cannot(
    skewed: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lowering, "_impossible", lambda device: "it cannot")
    chosen = lowering.choose(prepared(skewed, tmp_path).game, "bfloat16", 0)
    assert (chosen.used, chosen.agreement) == ("float32", None)
    assert chosen.note() == "The search stays in float32: it cannot."


@pytest.mark.usefixtures("able")
def test_only_the_search_is_played_in_it(sabotaged: World, tmp_path: Path) -> None:
    job = prepared(sabotaged, tmp_path / "low", precision="bfloat16", estimator="cmcs")
    plain = prepared(sabotaged, tmp_path / "plain", estimator="cmcs")
    search, again = (pipeline.phase_settings(j, "search") for j in (job, plain))
    assert search is not None
    assert search == again
    state = pipeline.run_phase(job, search)
    confirm = pipeline.phase_settings(job, "confirm", state)
    assert confirm is not None
    assert job.playing(search).played.dtype == torch.bfloat16
    begun = start(confirm)
    tasks = next_round(begun, confirm)
    blocks = [[run_block(j.playing(confirm), confirm, begun, task).to_bytes() for task in tasks] for j in (job, plain)]
    assert blocks[0] == blocks[1]
    # What one process chose is what every other plays.
    opened = pipeline.open_job(tmp_path / "low")
    assert opened.precision == job.precision
    assert pipeline.run_phase(opened, search).to_bytes() == state.to_bytes()


@pytest.mark.usefixtures("able")
def test_a_repair_and_values_say_in_what_they_were_found(sabotaged: World, tmp_path: Path) -> None:
    options = {"metric": "subgroup-recall:ground", "budget": "8000", "precision": "bfloat16"}
    out = tmp_path / "out"
    document = call(sabotaged.argv("repair", "--json", out=str(out), **options)).document
    said = document["run"]["precision"]
    assert said["used"] == "bfloat16"
    assert said["agreement"] >= precision.LEAST_AGREEMENT
    assert document["outcome"] == "repaired"
    assert "The search runs in bfloat16" in render("measured.html", d=document, **MEASURED)
    scored = call(sabotaged.argv("score", "--json", **options)).document
    assert scored["run"]["precision"] == said
    plain = call(sabotaged.argv("score", "--json", **(options | {"precision": "float32"}))).document
    assert plain["run"]["precision"]["asked"] == "float32"
    values = [[row["value"] for row in found["filters"]] for found in (scored, plain)]
    assert np.corrcoef(values)[0, 1] > 0.95


def test_another_name_is_refused(skewed: World) -> None:
    with pytest.raises(BadInput, match="precision: 'float8' is not one of float32, bfloat16"):
        request_of(skewed, "accuracy", precision="float8")
