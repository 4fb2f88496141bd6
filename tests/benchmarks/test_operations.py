"""Operation counts by hand, against torch's own counter, and what a flip makes necessary."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import operations
from repair_engine.network import Network


class Branches(nn.Module):
    """A stem, two branches side by side, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(2, 4, 1)
        self.head = nn.Linear(7, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        both = torch.cat([torch.relu(self.left(x)), torch.relu(self.right(x))], 1)
        return self.head(both.mean((2, 3)))


def test_counts_by_hand() -> None:
    module, image = Branches().eval(), torch.rand(1, 1, 6, 6)
    counted = operations.count(module, image, Network.capture(module, image.repeat(2, 1, 1, 1)))
    stem, left, right, head = 36 * 2, 36 * 3 * 18, 36 * 4 * 2, 35
    assert counted.full == stem + left + right + head
    assert counted.after.tolist() == [left + right + head] * 2 + [right + head] * 3 + [head] * 4
    assert counted.dependent.tolist() == [left + right + head] * 2 + [head] * 7
    assert counted.one_channel.tolist() == [(left + right) / 2 + head] * 2 + [right + head] * 3 + [head] * 4
    assert counted.bound(counted.dependent, np.arange(2, 9)) == counted.full / head
    left_moves, right_moves, head_moves = 4 * 36 * (2 + 3), 4 * 36 * (2 + 4), 4 * (7 + 5)  # bytes in and out
    assert counted.traffic[[0, 2, 5]].tolist() == [
        left_moves + right_moves + head_moves, right_moves + head_moves, head_moves,
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_the_whole_is_what_torch_counts(name: str) -> None:
    module = torchvision.models.get_model(name, weights=None, num_classes=7).eval()
    image = torch.rand(1, 3, 64, 64)
    counted = operations.count(module, image, Network.capture(module, image.repeat(2, 1, 1, 1)))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(image)
    assert 2 * counted.full == counter.get_total_flops()
    assert (counted.dependent <= counted.after).all()
    assert counted.after[0] < counted.full
