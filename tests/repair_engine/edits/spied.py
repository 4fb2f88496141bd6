"""A network that one filter misleads through the last layer, so that every kind of edit can mend it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from tests.repair_engine import tiny


class Spied(tiny.Tiny):
    """Tiny and a ninth filter, `spy:0`, that sees a light ground; the last layer calls everything an ant then."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__(num_classes)
        self.spy = nn.Conv2d(1, 1, 1)
        self.head = nn.Linear(self.head.in_features + 1, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = torch.relu(self.spy(x.mean((2, 3), keepdim=True))).flatten(1)
        x = torch.relu(self.stem(x))
        x = x + torch.relu(self.bn(self.branch(x)))
        return self.head(torch.cat([nn.functional.silu(self.last(x)).flatten(1), seen], 1))


def spied(num_classes: int) -> nn.Module:
    return Spied(num_classes)


def make_spied(folder: Path, shown: tiny.Images) -> tiny.World:
    world = tiny.make_world(folder, shown)
    module = Spied().eval().requires_grad_(False)
    state = dict(world.module.state_dict())
    state["head.weight"] = torch.cat([state["head.weight"], torch.tensor([[tiny.HARM], [0.0], [0.0]])], 1)
    state |= {"spy.weight": torch.full((1, 1, 1, 1), 40.0), "spy.bias": torch.tensor([-40.0 * 0.53])}
    module.load_state_dict(state)
    return replace(world, module=module, model=tiny.save(module, world.model), factory=f"{__name__}:spied")
