"""The screen's derivatives against finite differences, and its ranking against exact values of an easy case."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from repair_engine.network import Network
from repair_engine.screen import mask_gradients


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(1, 4, 3)
        self.two = nn.Conv2d(4, 3, 3)
        self.head = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.two(torch.relu(self.one(x)))).mean((2, 3)))


def _network() -> tuple[Network, torch.Tensor]:
    torch.manual_seed(3)
    images = torch.rand(5, 1, 9, 9)
    network = Network.capture(_Net().eval().requires_grad_(False), images[:2])
    network.constants = network.mean_outputs([images]).float()
    return network, images


def test_derivatives_equal_finite_differences() -> None:
    network, images = _network()
    targets, weights = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([0.1, 0.3, 0.2, 0.2, 0.2])
    coalition = np.array([True, False, True, True, True, False, True])

    def value(masks: torch.Tensor) -> float:
        probability = torch.softmax(network.soft_logits(images, masks).double(), 1)
        return float((weights.double() * probability[torch.arange(5), targets]).sum())

    found = mask_gradients(network, images, coalition, targets, weights)
    for player in range(7):
        ends = []
        for step in (-1e-2, 1e-2):
            masks = torch.from_numpy(coalition).float()
            masks[player] += step
            ends.append(value(masks))
        np.testing.assert_allclose(found[player], (ends[1] - ends[0]) / 2e-2, rtol=0.02, atol=2e-6)
    assert np.abs(found).max() > 1e-4


def test_soft_masks_of_zero_and_one_are_the_masks() -> None:
    network, images = _network()
    coalition = np.array([True, False, True, False, True, True, False])
    soft = network.soft_logits(images, torch.from_numpy(coalition).float())
    torch.testing.assert_close(soft, network.masked_logits(images, coalition[None])[0], rtol=1e-5, atol=1e-6)
