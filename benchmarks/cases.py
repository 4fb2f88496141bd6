"""The benchmark's cases: networks and images as users bring them, each played as a game of the engine.

The real ones are prepared exactly as `repair_engine.score` prepares them: the same split into *score*, *select* and
*report*, the same constants, the same objective (accuracy on *score*, seed 0).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torchvision

from benchmarks.engine import Case, Network, NeuronGame, Objective, Preprocessing, case_of
from benchmarks.sources import SOURCES

IMAGES = 32  # per draw, where nothing else is said
REAL = ("resnet8", "resnet20", "squeezenet1_0", "stock_tags")
# Random weights and noise images, of this side: speed and memory only.
_SIDES = {
    "inception_v3": 299,
    "resnet50": 224,
    "vit_b_16": 224,
    "swin_t": 224,
    "convnext_tiny": 224,
    "squeezenet1_1": 32,
}
RANDOM = tuple(_SIDES)
CASES = (*REAL, *RANDOM)
_NOISE_IMAGES = 32


@dataclass(frozen=True)
class BenchCase:
    """One network, its score images and objective.

    Attributes:
        name: see `CASES`.
        module: the ordinary torch module in eval mode, on the device: what speeds are compared with.
        base: the game with `IMAGES` images per draw.
        sources: sha256 of the model's and images' files and of the score split: what a stored reference belongs to.
    """

    name: str
    module: torch.nn.Module
    base: NeuronGame
    sources: dict[str, str]

    @property
    def network(self) -> Network:
        return self.base.network

    @property
    def n(self) -> int:
        return self.base.n_players

    @property
    def device(self) -> str:
        return self.network.device.type

    def game(self, images: int = IMAGES) -> NeuronGame:
        """The game with about `images` per draw (fixed counts per cell decide)."""
        return self.base.resized(images)


def open_case(name: str, device: str, progress: Callable[[str], None] | None = None) -> BenchCase:
    """Prepares a case on "cpu" or "cuda".

    Raises:
        MissingData: its files are absent, naming one.
        KeyError: there is no such case.
    """
    say = progress or (lambda _: None)
    say(f"{name}: preparing")
    return _random_case(name, device) if name in RANDOM else _real_case(name, device)


def _real_case(name: str, device: str) -> BenchCase:
    model, images = SOURCES[name].open(device)
    with case_of("score", model, images, "accuracy", seed=0) as case:
        objective = case.question.objective("score")
        objective = replace(objective, pixels=objective.pixels.clone())  # the images of the other splits may go
        game = NeuronGame(case.subject.network, objective, images.dataset.preprocessing.normalize, IMAGES)
        return BenchCase(name, model.module().to(device), game, digests(case))


def digests(case: Case) -> dict[str, str]:
    """What a stored reference belongs to: sha256 of the model's and the images' files, and of the score split."""
    targets = case.question.objective("score").targets
    files = {role: Path(getattr(case.sources, role)).read_bytes() for role in ("model", "data")}
    parts = files | {"score": case.images.indices("score").astype(np.int64).tobytes() + targets.tobytes()}
    return {part: hashlib.sha256(content).hexdigest() for part, content in parts.items()}


def _random_case(name: str, device: str) -> BenchCase:
    """Random weights (speed does not depend on them) and noise; the targets are the network's own predictions."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        without = {"aux_logits": False, "init_weights": False} if name == "inception_v3" else {}
        module = torchvision.models.get_model(name, weights=None, **without)
        pixels = torch.rand(_NOISE_IMAGES, 3, _SIDES[name], _SIDES[name])
    module = module.eval().to(device)
    network = Network.capture(module, pixels[:2].to(device))
    batches = (part.to(device) for part in pixels.split(8))
    network.constants = network.mean_outputs(batches).float().to(device)
    count = np.zeros(_NOISE_IMAGES, np.int64)
    objective = Objective(pixels, count, np.full(_NOISE_IMAGES, 1 / _NOISE_IMAGES), count)
    game = NeuronGame(network, objective, Preprocessing().normalize, IMAGES)
    game.objective = replace(objective, targets=game.intact)
    return BenchCase(name, module, game, {"model": f"{name}, random weights of seed 0", "data": "noise of seed 0"})


def describe(case: BenchCase) -> dict[str, object]:
    """What a table says about a case, JSON-able."""
    game = case.base
    return {
        "case": case.name,
        "filters": case.n,
        "score_images": len(game.objective),
        "classes": case.network.classes,
        "sources": dict(case.sources),
    }
