"""Tiny networks, image sets made on the spot, and the command line called in this process."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from repair_engine.cli.main import main
from repair_engine.support import tables
from tests.repair_engine.image_sets import encoded, make_zip

CLASSES = ("ant", "bee", "cat")
SIDE = 8
HARM = 5.0


class Tiny(nn.Module):
    """Eight filters at three sites: bias and ReLU; batch norm and ReLU on a branch; bias and SiLU."""

    def __init__(self, num_classes: int = 3, channels: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 3, 3, padding=1)
        self.branch = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(3)
        self.last = nn.Conv2d(3, 2, 3, stride=2, padding=1)
        self.head = nn.Linear(2 * (SIDE // 2) ** 2, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = x + torch.relu(self.bn(self.branch(x)))
        return self.head(nn.functional.silu(self.last(x)).flatten(1))


class Sabotaged(Tiny):
    """Tiny and a ninth filter, `spy:0`, that sees a light ground and then calls everything an ant."""

    def __init__(self, num_classes: int = 3, channels: int = 1) -> None:
        super().__init__(num_classes, channels)
        self.spy = nn.Conv2d(channels, 1, 1)
        self.harm = nn.Linear(1, num_classes, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = torch.relu(self.spy(x.mean((2, 3), keepdim=True)))
        return super().forward(x) + self.harm(seen.flatten(1))


def tiny(num_classes: int) -> nn.Module:
    return Tiny(num_classes)


def sabotaged(num_classes: int) -> nn.Module:
    return Sabotaged(num_classes)


def tiny_rgb(num_classes: int) -> nn.Module:
    return Tiny(num_classes, channels=3)


@dataclass(frozen=True)
class Images:
    """Greyscale images: pixels uint8 [N, 8, 8], labels [N], ground "light" or "dark" [N], names in the zip."""

    pixels: np.ndarray
    labels: np.ndarray
    ground: np.ndarray
    names: tuple[str, ...]

    def tensor(self, names: Sequence[str] | None = None) -> torch.Tensor:
        """float32 [N, 1, 8, 8] in [0, 1]."""
        rows = list(range(len(self.names))) if names is None else [self.names.index(n) for n in names]
        return torch.from_numpy(self.pixels[rows])[:, None].float() / 255

    def zip(self, path: Path, extra: str = "", column: Sequence[str] | None = None) -> Path:
        entries: dict[str, bytes | str] = {n: encoded(p) for n, p in zip(self.names, self.pixels)}
        lines = [f"file_name,ground{extra and ',' + extra}"]
        for i, (name, ground) in enumerate(zip(self.names, self.ground)):
            lines.append(f"{name},{ground}" + (f",{column[i]}" if column is not None else ""))
        return make_zip(path, {**entries, "metadata.csv": "\n".join(lines) + "\n"})


def images(n: int = 96, seed: int = 0, absent: str = "", noise: float = 60.0) -> Images:
    """Bars (ant), spots (bee) and edges (cat), one in three on a light ground, where contrast is inverted.

    Args:
        absent: a class that has no image on the light ground.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    light = (np.arange(n) // 3) % 3 == 2
    if absent:
        light &= labels != CLASSES.index(absent)
    y, x = np.mgrid[:SIDE, :SIDE]
    shapes = np.stack([(x % 4 < 2), (x % 4 < 2) ^ (y % 4 < 2), (y < SIDE // 2)]).astype(float)
    contrast = np.where(light, -80.0, 110.0)[:, None, None]
    level = np.where(light, 200.0, 60.0)[:, None, None]
    pixels = level + contrast * shapes[labels] + rng.normal(0, noise, (n, SIDE, SIDE))
    names = tuple(f"{CLASSES[c]}/{i:03d}.png" for i, c in enumerate(labels))
    order = sorted(range(n), key=lambda i: names[i])
    return Images(
        np.clip(pixels, 0, 255).astype(np.uint8)[order],
        labels[order],
        np.where(light, "light", "dark")[order],
        tuple(names[i] for i in order),
    )


def trained(module: nn.Module, pixels: torch.Tensor, labels: np.ndarray, steps: int = 60, seed: int = 0) -> nn.Module:
    """`module` after a few steps of Adam, in eval mode; same bits on every call."""
    torch.manual_seed(seed)
    for part in module.modules():
        if hasattr(part, "reset_parameters"):
            part.reset_parameters()
    target = torch.from_numpy(np.asarray(labels))
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    module.train()
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(pixels), target).backward()
        optimizer.step()
    return module.eval().requires_grad_(False)


def save(module: nn.Module, path: Path) -> Path:
    save_file({k: v.contiguous() for k, v in module.state_dict().items()}, path)
    return path


@dataclass(frozen=True)
class World:
    """A model file, an image set and what they hold."""

    folder: Path
    module: nn.Module
    model: Path
    data: Path
    images: Images
    factory: str = "tests.repair_engine.tiny:tiny"

    def argv(self, verb: str, *more: str, **replaced: str) -> list[str]:
        options = {
            "--model": str(self.model),
            "--architecture": "net",
            "--register": f"net={self.factory}",
            "--num-classes": "3",
            "--data": str(self.data),
            "--metric": "accuracy",
        }
        options |= {f"--{k.replace('_', '-')}": v for k, v in replaced.items()}
        if verb == "inspect":
            options.pop("--metric")
        return [verb, *(part for pair in options.items() for part in pair), *more]


def make_world(folder: Path, shown: Images | None = None, skewed: bool = False) -> World:
    """The tiny network trained on the images (on dark ground alone where `skewed`)."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = shown if shown is not None else images()
    rows = np.flatnonzero(shown.ground == "dark") if skewed else np.arange(len(shown.labels))
    module = trained(Tiny(), shown.tensor()[torch.from_numpy(rows)], shown.labels[rows])
    return World(folder, module, save(module, folder / "model.safetensors"), shown.zip(folder / "data.zip"), shown)


def make_sabotaged(folder: Path, shown: Images | None = None) -> World:
    """A world with one culprit: without `spy:0` the network is right on nearly all images."""
    world = make_world(folder, shown)
    module = Sabotaged().eval().requires_grad_(False)
    module.load_state_dict(world.module.state_dict(), strict=False)
    module.spy.weight.fill_(40.0)
    module.spy.bias.fill_(-40.0 * 0.53)
    module.harm.weight.copy_(torch.tensor([[HARM], [0.0], [0.0]]))
    return replace(world, module=module, model=save(module, world.model), factory=f"{__name__}:sabotaged")


@dataclass(frozen=True)
class Result:
    """What one call of the command line gave."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict:
        """The one JSON document on stdout; fails on anything else there, and on NaN."""
        return json.loads(self.out, parse_constant=_not_json)


def _not_json(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def call(argv: Sequence[str]) -> Result:
    """`main(argv)` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main(list(argv))
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Result(code, out.getvalue(), err.getvalue())


def rows_of(path: Path) -> list[dict[str, str]]:
    return tables.read(path)


def edit(state: dict[str, torch.Tensor], changes: dict[str, Callable]) -> dict[str, torch.Tensor]:
    return {k: changes[k](v.clone()) if k in changes else v for k, v in state.items()}


def check_verified(out: Path, *given: str) -> dict[str, str]:
    """What `verify` says of a repair with these options: check -> verdict. None fails."""
    result = call(["verify", str(out), "--json", "--device", "cpu", *given])
    assert result.code == 0, result.out + result.err
    return {check["name"]: check["verdict"] for check in result.document["checks"]}
