"""The part `forecast` on a small network: a record per quality and seed, and its table; no time is asserted."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from benchmarks import foresight, tables
from benchmarks.cases import BenchCase
from repair_engine.network import Network
from repair_engine.question.objectives import Objective
from repair_engine.search.game import NeuronGame


def small_case() -> BenchCase:
    """72 filters; the targets are the network's own predictions."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 72, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(72, 3))
    module, pixels = module.eval(), torch.rand(64, 1, 6, 6)
    network = Network.capture(module, pixels[:2])
    network.constants = network.mean_outputs([pixels]).float()
    labels = network.logits(pixels).argmax(1).numpy()
    objective = Objective(pixels, labels, np.full(64, 1 / 64), np.zeros(64, np.int64))
    return BenchCase("small", module, NeuronGame(network, objective, lambda x: x, 32), {"model": "small"})


def test_forecasts_are_recorded_and_shown() -> None:
    result = foresight.measure(small_case(), 0.2, lambda _: None)
    assert [(r["k"], r["seed"]) for r in result["records"]] == [(20, 0), (20, 1)]  # 50 of 72 have no two ends
    for record in (r for r in result["records"] if "cannot" not in r):
        assert record["told_after_evaluations"] <= record["evaluations"] <= result["budget"]
        assert record["foretold_evaluations"] <= result["budget"]
        assert record["ratio"] == record["foretold_seconds"] / record["seconds"]
    assert "Within a factor of 1.5" in tables.forecast(result)
