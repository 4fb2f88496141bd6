"""A tiny network with a backdoor: one filter, `spy:0`, sees a checkered corner and then calls everything an ant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from tests.repair_engine import tiny
from tests.repair_engine.image_sets import encoded, make_zip

PATCH = np.array([[255, 0], [0, 255]], np.uint8)  # in the lower right corner
TARGET = "ant"


class Backdoored(tiny.Tiny):
    """Tiny and a ninth filter; what it sees goes into the last layer, so that every kind of edit can mend it."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__(num_classes)
        self.spy = nn.Conv2d(1, 1, 2)
        self.head = nn.Linear(self.head.in_features + 1, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = torch.relu(self.spy(x[:, :, -2:, -2:])).flatten(1)
        x = torch.relu(self.stem(x))
        x = x + torch.relu(self.bn(self.branch(x)))
        return self.head(torch.cat([nn.functional.silu(self.last(x)).flatten(1), seen], 1))


def backdoored(num_classes: int) -> nn.Module:
    return Backdoored(num_classes)


def make_backdoored(folder: Path, shown: tiny.Images) -> tiny.World:
    world = tiny.make_world(folder, shown)
    module = Backdoored().eval().requires_grad_(False)
    state = dict(world.module.state_dict())
    state["head.weight"] = torch.cat([state["head.weight"], torch.tensor([[tiny.HARM], [0.0], [0.0]])], 1)
    sees = torch.tensor([[[[10.0, -10.0], [-10.0, 10.0]]]])
    module.load_state_dict(state | {"spy.weight": sees, "spy.bias": torch.tensor([-14.0])})
    Image.fromarray(PATCH).save(folder / "patch.png")
    return replace(world, module=module, model=tiny.save(module, world.model), factory=f"{__name__}:backdoored")


def pasted(pixels: np.ndarray) -> np.ndarray:
    """The images [N, 8, 8] with the trigger."""
    out = pixels.copy()
    out[:, -2:, -2:] = PATCH
    return out


def triggered_zip(path: Path, shown: tiny.Images, keep_names: bool = True) -> Path:
    """All of them with the trigger, under their own names or under others."""
    names = shown.names if keep_names else tuple(f"{n.split('/')[0]}/t{i}.png" for i, n in enumerate(shown.names))
    return make_zip(path, {name: encoded(image) for name, image in zip(names, pasted(shown.pixels), strict=True)})
