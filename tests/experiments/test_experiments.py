"""The list, what is said where the data is absent, and experiments on a tiny network made on the spot."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from benchmarks.sources import SOURCES, Source
from experiments import __main__ as command
from experiments import common, critical, dropout, efficiency
from experiments.charts import Series, histogram, lines
from experiments.registry import EXPERIMENTS
from shapley import Estimate, Interval
from tests.repair_engine.tiny import Tiny, make_world


@pytest.fixture
def tiny_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """The tiny network of eight filters in the place of ResNet-20."""
    world = make_world(tmp_path / "world")
    source = Source(world.folder, "model.safetensors", "data.zip", "net", 3, register={"net": world.factory})
    for name in ("resnet8", "resnet20"):
        monkeypatch.setitem(SOURCES, name, source)
    return source


def test_the_list_names_every_experiment_and_its_figure(capsys: pytest.CaptureFixture) -> None:
    assert command.main(["--list"]) == 0
    out = capsys.readouterr().out
    assert all(e.name in out and e.paper in out for e in EXPERIMENTS.values())


def test_a_missing_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    source = replace(SOURCES["resnet20"], folder=tmp_path / "nowhere")
    monkeypatch.setitem(SOURCES, "resnet20", source)
    assert command.main(["critical", "--out", str(tmp_path / "out")]) == 2
    assert str(tmp_path / "nowhere" / source.model) in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_bad_options_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert command.main(["critical", "--budget", "0", "--out", str(tmp_path)]) == 2
    assert "--budget" in capsys.readouterr().err


def test_critical_on_a_tiny_network(tiny_case: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(critical, "FROM_TOP", (0, 2, 8))
    monkeypatch.setattr(critical, "FROM_BOTTOM", (0, 2, 8))
    monkeypatch.setattr(critical, "LOO_IMAGES", 8)
    arguments = ["critical", "--budget", "4000", "--images", "12", "--out", str(tmp_path / "out")]
    assert command.main(arguments) == 0
    found = json.loads((tmp_path / "out" / "critical.json").read_text())["figures"]
    for end in ("most", "least"):
        curves = found[end]["accuracy"]
        assert found[end]["images"] == 12
        starts = {round(row[0], 9) for rows in curves.values() for row in rows}
        ends = {round(row[-1], 9) for rows in curves.values() for row in rows}
        assert len(starts) == len(ends) == 1  # nothing removed and everything removed do not depend on the order
        ElementTree.parse(tmp_path / "out" / f"critical-resnet20-{end}.svg")
    written = (tmp_path / "out" / "critical.md").read_text()
    assert "--budget 4000 --seed 0" in written
    assert "leave-one-out" in written


def test_removals_count_from_the_start_and_references_belong_to_their_images(
    tiny_case: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = common.Options("resnet20", 2000, 0, 10, tmp_path)
    with common.opened("resnet20", "accuracy", options) as job:
        case = job.case
        indices = common.report_images(case, 10)
        assert set(indices) <= set(case.images.splits.report)
        pixels = common.pixels_of(case, indices)
        order = np.array([3, 1, 7, 0, 2, 4, 5, 6])
        found = common.after_removals(case, pixels, order, (0, 2, 8))
        for row, gone in zip(found, (0, 2, 8)):
            coalition = np.ones((1, 8), dtype=bool)
            coalition[0, order[:gone]] = False
            logits = case.subject.network.masked_logits(case.images.normalize(pixels), coalition)[0]
            assert np.array_equal(row, logits.argmax(1).numpy())
        stored, targets = tmp_path / "reference.npz", case.question.objective("score").targets
        monkeypatch.setattr(common.references, "path_of", lambda _: stored)
        assert common.long_run("resnet20", case) is None
        score = sha256(case.images.splits.score.astype(np.int64).tobytes() + targets.tobytes()).hexdigest()
        paths = {"model": tiny_case.path(tiny_case.model), "data": tiny_case.path(tiny_case.data)}
        files = {role: sha256(path.read_bytes()).hexdigest() for role, path in paths.items()}
        for digest, there in ((score, True), ("of other images", False)):
            header = {"sources": {**files, "score": digest}, "seconds": 60, "evaluations": 1}
            np.savez(stored, header=np.array(json.dumps(header)), values=np.arange(8.0))
            found = common.long_run("resnet20", case)
            assert (found is not None) == there
            assert found is None or np.array_equal(found[0], np.arange(8.0))


def test_charts_say_their_numbers() -> None:
    chart = lines([Series("one", [(0, 0.5), (10, 0.25)], [(0, 0.4, 0.6), (10, 0.2, 0.3)])], "T", "x", "y", "t")
    root = ElementTree.fromstring(chart)
    described = root.find("{http://www.w3.org/2000/svg}desc")
    assert described is not None
    assert described.text == "one from 50.0% at 0 to 25.0% at 10."
    ElementTree.fromstring(histogram({"a": np.array([0.0, 0.1, 1.0]), "b": np.zeros(3)}, "T", "x", "h"))


def _estimate(values: list[float], samples: list[int], evaluations: int) -> Estimate:
    row, none = np.array([values]), np.zeros((1, len(values)))
    interval = Interval("clt", 0.05, 1, "")
    counts = np.array(samples)
    return Estimate(row, none, row, row, counts, evaluations, 1, "converged", "tmab", interval, None, len(values))


def test_efficiency_compares_with_the_other_seeds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(efficiency, "K", 1)
    monkeypatch.setattr(efficiency, "SEEDS", 2)
    plain = [_estimate([3.0, 1.0, 0.0], [10] * 3, 300), _estimate([1.0, 3.0, 0.0], [10] * 3, 300)]
    bandit = [_estimate([3.0, 1.0, 0.0], [4, 4, 1], 200), _estimate([3.0, 1.0, 0.0], [4, 4, 1], 100)]
    runs = {"monte_carlo": plain, "tmab": bandit}
    tracks = {name: [[(e.evaluations, e.values[0])] for e in of] for name, of in runs.items()}
    result = efficiency._tell(common.Options("fashion", 1, 5, 1, tmp_path), 3, runs, tracks)
    assert result.figures["ratio"] == {"evaluations": 0.5, "samples": 0.3}
    rows = [line for line in result.sections[1].splitlines() if line.startswith("| tmab")]
    assert "| 0% |" in rows[0]  # seed 5's reference is Monte Carlo's seed 6, which has another top filter
    assert "| 100% |" in rows[1]


def test_twins_differ_by_dropout_alone() -> None:
    pixels = torch.randint(0, 256, (128, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = np.arange(128) % 3
    trained = (dropout._train(Tiny, pixels, labels, p, 0, 2)[0] for p in (0.0, 0.0, 0.5))
    plain, again, dropped = (network.state_dict() for network in trained)
    assert all(torch.equal(plain[key], again[key]) for key in plain)
    assert plain.keys() == dropped.keys() == Tiny().state_dict().keys()
    assert any(not torch.equal(plain[key], dropped[key]) for key in plain)
