"""The benchmark's cases: networks and images as users bring them, each played as a `repair_engine` game.

The real ones are prepared exactly as a repair is (`repair_engine.case.preparing.prepare`): the same split into *score*,
*select* and *report*, the same constants, the same objective (accuracy on *score*, seed 0).
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchvision

from repair_engine.case.preparing import prepare
from repair_engine.models.architectures import Architecture
from repair_engine.models.preprocessing import Preprocessing
from repair_engine.network import Network
from repair_engine.question.objectives import Metric, Objective
from repair_engine.question.request import RepairRequest
from repair_engine.search.game import NeuronGame

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
IMAGES = 32  # per draw, where nothing else is said

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_NOISE_IMAGES = 32


class MissingData(Exception):
    """A case's files are not here; the message names the folder."""


@dataclass(frozen=True)
class Source:
    """Where a case comes from.

    Attributes:
        folder: what must exist.
        model, data, classes: file names within it.
        architecture: what the checkpoint fits.
        preprocessing: None = as `repair_engine` chooses.
        imports: a folder that the registered architecture is imported from.
    """

    folder: Path
    model: str
    data: str
    architecture: Architecture
    classes: str | None = None
    preprocessing: Preprocessing | None = None
    imports: Path | None = None


def _registered(factory: str, folder: str, model: str, preprocessing: Preprocessing | None) -> Source:
    architecture = Architecture("net", 10, register={"net": f"architectures:{factory}"})
    return Source(DATA / folder, model, "images_5000.zip", architecture, None, preprocessing, DATA)


SOURCES: dict[str, Source] = {
    "resnet8": _registered("ResNet8", "cifar10", "resnet8.safetensors", None),
    "resnet20": _registered(
        "CifarResNet", "cifar10", "resnet20.safetensors", Preprocessing(mean=_IMAGENET[0], std=_IMAGENET[1])
    ),
    "squeezenet1_0": Source(
        DATA / "imagenet",
        "squeezenet1_0.safetensors",
        "samples_500.zip",
        Architecture("squeezenet1_0", 1000),
        "imagenet_classes.json",
    ),
    "stock_tags": Source(
        ROOT / "samples" / "stock_tags",
        "model.safetensors",
        "images.zip",
        Architecture("squeezenet1_1", 8),
        "classes.txt",
        Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    ),
}
RANDOM = ("inception_v3",)  # random weights and noise images: speed and memory only
CASES = (*SOURCES, *RANDOM)


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
        MissingData: its files are absent, naming the folder.
        KeyError: there is no such case.
    """
    say = progress or (lambda _: None)
    say(f"{name}: preparing")
    if name in RANDOM:
        return _random_case(name, device)
    return _real_case(name, SOURCES[name], device)


def _real_case(name: str, source: Source, device: str) -> BenchCase:
    for file in (source.model, source.data, source.classes):
        if file is not None and not (source.folder / file).is_file():
            raise MissingData(f"The case {name} needs {source.folder / file}, which does not exist.")
    if source.imports is not None and str(source.imports) not in sys.path:
        sys.path.insert(0, str(source.imports))
    request = RepairRequest(
        model=str(source.folder / source.model),
        data=str(source.folder / source.data),
        architecture=source.architecture,
        metric=Metric("accuracy"),
        classes=str(source.folder / source.classes) if source.classes else None,
        preprocessing=source.preprocessing,
        seed=0,
        device=device,
    )
    with tempfile.TemporaryDirectory() as folder:
        case = prepare(request, Path(folder))
        objective = case.question.objective("score")
        objective = Objective(
            objective.pixels.clone(), objective.targets, objective.weights, objective.cells, objective.goal
        )
    preprocessing = case.images.dataset.preprocessing
    game = NeuronGame(case.subject.network, objective, _Normalize(preprocessing), IMAGES)
    sources = {
        "model": _file_hash(source.folder / source.model),
        "data": _file_hash(source.folder / source.data),
        "score": _hash(case.images.indices("score").astype(np.int64).tobytes(), objective.targets.tobytes()),
    }
    module = case.subject.checkpoint.module().to(device).eval()
    return BenchCase(name, module, game, sources)


@dataclass(frozen=True)
class _Normalize:
    """uint8 pixels -> network input; picklable, so that worker processes can be given the case."""

    preprocessing: Preprocessing

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.preprocessing.normalize(pixels)


def _random_case(name: str, device: str) -> BenchCase:
    """Random weights (speed does not depend on them) and noise; the targets are the network's own predictions."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = torchvision.models.get_model(name, weights=None, aux_logits=False, init_weights=False)
        pixels = torch.rand(_NOISE_IMAGES, 3, 299, 299)
    module = module.eval().to(device)
    network = Network.capture(module, pixels[:2].to(device))
    batches = (part.to(device) for part in pixels.split(8))
    network.constants = network.mean_outputs(batches).float().to(device)
    count = np.zeros(_NOISE_IMAGES, np.int64)
    objective = Objective(pixels, count, np.full(_NOISE_IMAGES, 1 / _NOISE_IMAGES), count)
    game = NeuronGame(network, objective, _Normalize(Preprocessing()), IMAGES)
    objective = Objective(pixels, game.intact, objective.weights, objective.cells)
    game.objective = objective
    return BenchCase(name, module, game, {"model": f"{name}, random weights of seed 0", "data": "noise of seed 0"})


def _hash(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _file_hash(path: Path) -> str:
    return _hash(path.read_bytes())


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
