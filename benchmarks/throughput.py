"""Throughput: evaluations per second of the ways to evaluate coalitions, against full forwards in the same run.

The network has random weights (speed does not depend on them) and the images are noise.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torchvision

from repair_engine.game import NeuronGame
from repair_engine.network import Network
from repair_engine.objectives import Objective

CASES = {"resnet18": 64, "squeezenet1_0": 128, "mobilenet_v3_small": 128}  # name -> image side
IMAGES = 32


def measure(case: str, device: str, seconds: float) -> list[dict[str, Any]]:
    """One record per method: evaluations per second and the ratio to full forwards.

    The methods take turns, three rounds each, so that a machine that slows down slows all of them.
    """
    torch.manual_seed(0)
    side = CASES[case]
    module = torchvision.models.get_model(case, weights=None, num_classes=10).eval().to(device)
    pixels = torch.rand(IMAGES, 3, side, side)
    network = Network.capture(module, pixels[:2].to(device))
    network.constants = network.mean_outputs([pixels.to(device)]).float().to(device)
    objective = Objective(pixels, np.zeros(IMAGES, np.int64), np.full(IMAGES, 1 / IMAGES), np.zeros(IMAGES, np.int64))
    game = NeuronGame(network, objective, lambda x: x, IMAGES)
    batch, rng = game.full_batch(), np.random.default_rng(0)
    n = network.n_filters
    shallow = np.ones(n, dtype=bool)
    shallow[rng.choice(n, n // 20, replace=False)] = False

    def forward() -> int:
        network.masked_logits(game.images(batch.indices), shallow[None])
        return IMAGES

    def walk() -> int:
        order = rng.permutation(np.flatnonzero(shallow))[:16]
        rows = np.repeat(shallow[None], 16, axis=0)
        for k, player in enumerate(order):
            rows[k:, player] = False
        game.evaluate(rows, batch)
        return 16 * IMAGES

    def toggle() -> int:
        game.differences(shallow[None], np.sort(rng.choice(n, 64, replace=False)), batch, lambda _: None)
        return 64 * IMAGES

    methods = {"full forward": forward, "walk (prefix reuse)": walk, "single flips (shared prefix)": toggle}
    rates = {name: [] for name in methods}
    for work in methods.values():
        work()
    for _ in range(3):
        for name, work in methods.items():
            rates[name].append(_rate(work, seconds, device))
    base = float(np.median(rates["full forward"]))
    return [
        {
            "case": case,
            "filters": n,
            "device": device,
            "method": name,
            "evaluations_per_second": round(float(np.median(values)), 1),
            "ratio": round(float(np.median(values)) / base, 2),
        }
        for name, values in rates.items()
    ]


def machine() -> str:
    """What it was measured on."""
    gpu = f", {torch.cuda.get_device_name(0)}" if torch.cuda.is_available() else ""
    return f"{platform.machine()}, {torch.get_num_threads()} threads{gpu}, torch {torch.__version__}"


def _rate(work: Callable[[], int], seconds: float, device: str) -> float:
    begin, done = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        done += work()
    if device == "cuda":
        torch.cuda.synchronize()
    return done / (time.perf_counter() - begin)
