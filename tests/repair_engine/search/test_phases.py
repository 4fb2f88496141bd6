"""The phases cut into blocks, across processes and with little memory, give the bits of one go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import shapley
from repair_engine.question.attacks import AttackSettings
from repair_engine.question.request import RepairRequest
from repair_engine.search.game import NeuronGame
from repair_engine.verbs import pipeline
from tests.repair_engine.search.test_exact_values import request_of
from tests.repair_engine.tiny import World

CHILD = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(int(sys.argv[3]))
import shapley
from repair_engine.verbs import pipeline

work, verb = Path(sys.argv[1]), sys.argv[2]
job = pipeline.open_job(work)
settings = shapley.Settings.from_json((work / "settings.json").read_text())
state = shapley.State.from_bytes((work / "state").read_bytes())
task = shapley.BlockTask.from_json(verb)
sys.stdout.buffer.write(shapley.run_block(job.game, settings, state, task).to_bytes())
"""


def prepared(world: World, folder: Path, **more: object) -> pipeline.Job:
    more = {"metric": "subgroup-recall:ground", "budget": 8000, **more}
    return pipeline.prepare_job(request_of(world, more.pop("metric"), **more), folder)  # type: ignore[arg-type]


def in_pieces(folder: Path, settings: shapley.Settings) -> shapley.State:
    """Every block on a job opened anew, blocks in reverse order, states and results through bytes."""
    state = shapley.start(settings)
    while tasks := shapley.next_round(state, settings):
        job = pipeline.open_job(folder)
        kept = state.to_bytes()
        blocks = [
            shapley.run_block(job.game, settings, shapley.State.from_bytes(kept), task).to_bytes()
            for task in reversed(tasks)
        ]
        results = [shapley.BlockResult.from_bytes(block) for block in blocks]
        state = shapley.merge_round(shapley.State.from_bytes(kept), settings, results)
    return state


@pytest.mark.parametrize("estimator", ["cmcs", "tmab"])
def test_pieces_are_the_whole(sabotaged: World, tmp_path: Path, quick: None, estimator: str) -> None:
    job = prepared(sabotaged, tmp_path / "work", estimator=estimator, top_k=2)
    states, pieces = {}, {}
    for phase in pipeline.PHASES:
        settings = pipeline.phase_settings(job, phase, states.get("search"))
        assert settings is not None
        states[phase] = pipeline.run_phase(job, settings)
        pieces[phase] = in_pieces(tmp_path / "work", settings)
        assert pieces[phase].to_bytes() == states[phase].to_bytes()
    assert states["search"].evaluations + states["confirm"].evaluations <= 8000
    whole = pipeline.run_finish(job, states["search"], states["confirm"], tmp_path / "a")
    again = pipeline.open_job(tmp_path / "work")
    parts = pipeline.run_finish(again, pieces["search"], pieces["confirm"], tmp_path / "b")
    for name in ("repaired.safetensors", "predictions.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    for document in (whole, parts):
        document["run"].pop("seconds")
        document.pop("created", None)
    assert parts == whole


def test_a_block_in_another_process(sabotaged: World, tmp_path: Path, quick: None) -> None:
    job = prepared(sabotaged, tmp_path)
    settings = pipeline.phase_settings(job, "search")
    assert settings is not None
    state = shapley.start(settings)
    (tmp_path / "settings.json").write_text(settings.to_json())
    (tmp_path / "state").write_bytes(state.to_bytes())
    task = shapley.next_round(state, settings)[0]
    here = shapley.run_block(job.game, settings, state, task).to_bytes()
    there = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path), task.to_json(), str(torch.get_num_threads())],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert there.stdout == here, there.stderr.decode()


def test_an_attacked_case_is_made_once(skewed: World, tmp_path: Path, quick: None) -> None:
    """Opened again it holds the same adversarial pixels, and plays the same game."""
    settings = AttackSettings.of("standard", epsilon=0.1, steps=2)
    job = prepared(skewed, tmp_path, metric="attack-success", attack=settings)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("attack_*")}
    assert len(before) == 3
    again = pipeline.open_job(tmp_path)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("attack_*")} == before
    for part, attacked in job.case.question.attacked.items():
        other = again.case.question.attacked[part]
        assert (other.pixels == attacked.pixels).all()
        assert (other.targets == attacked.targets).all()
        assert other.excluded == attacked.excluded
    rng = np.random.default_rng(0)
    coalitions = rng.random((5, job.game.n_players)) < 0.7
    one = job.game.evaluate(coalitions, job.game.full_batch())
    two = again.game.evaluate(coalitions, again.game.full_batch())
    assert (one.values == two.values).all()
    assert (one.agreement == two.agreement).all()


def test_a_request_survives_json(skewed: World) -> None:
    full = request_of(skewed, "recall:n01: ant", attack=AttackSettings.of("standard"), side="both", budget=5, group="g")
    assert RepairRequest.from_json(full.to_json()) == full
    assert json.loads(full.to_json())["metric"] == {"kind": "recall", "argument": "n01: ant"}


def test_the_game_does_not_depend_on_memory_or_chunks(sabotaged: World, tmp_path: Path, quick: None) -> None:
    """More images than a chunk, no room for any stored state, coalitions alone or together."""
    case = prepared(sabotaged, tmp_path).case
    objective = case.question.objective("score")
    games = [
        NeuronGame(case.subject.network, objective, case.images.normalize, 72, memory)
        for memory in (1 << 30, 30_000, 0)
    ]
    small = NeuronGame(case.subject.network, objective, case.images.normalize, 72)
    small.chunk = 10
    rng = np.random.default_rng(0)
    coalitions = np.ones((12, small.n_players), bool)
    for k, player in enumerate(rng.permutation(small.n_players)):
        coalitions[k + 1 :, player] = False
    batch = small.full_batch()
    expected = np.concatenate([games[0].evaluate(row[None], games[0].full_batch()).values for row in coalitions], 1)
    for game in (*games, small):
        together = game.evaluate(coalitions, batch)
        np.testing.assert_allclose(together.values, expected, atol=1e-12)
        shuffled = rng.permutation(12)
        np.testing.assert_allclose(game.evaluate(coalitions[shuffled], batch).values, expected[:, shuffled], atol=1e-12)
        players = np.arange(game.n_players)
        spent: list[int] = []
        delta = game.differences(coalitions[4][None], players, batch, spent.append)
        assert sum(spent) == (1 + len(players)) * game.batch_size
        for player in players:
            pair = np.repeat(coalitions[4][None], 2, axis=0)
            pair[:, player] = [True, False]
            present, absent = game.evaluate(pair, batch).values[0]
            assert delta[0, player] == pytest.approx(present - absent)
    assert expected[0, 0] == pytest.approx(objective.value(case.intact[case.images.splits.score]))


def test_cancelling_raises_out_of_a_block(sabotaged: World, tmp_path: Path, quick: None) -> None:
    job = prepared(sabotaged, tmp_path)
    settings = pipeline.phase_settings(job, "search")
    assert settings is not None
    seen: list[int] = []

    def stop(count: int) -> None:
        seen.append(count)
        if sum(seen) > 500:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.run_phase(job, settings, stop)
    assert sum(seen) < 2000
