"""A small network that learned a shortcut, for docs/python.md and notebook.ipynb: made and trained in some seconds.

Discs and squares of 16 × 16 pixels wear a tag in the corner. In training nearly all discs wore a red one and nearly all
squares a blue one; among the images that the network is asked about, either wears either.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

CLASSES = ("disc", "square")
SIDE = 16


class Network(nn.Module):
    """Three convolutions with batch norm, an average, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(8, 16, 3, 2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.three = nn.Sequential(nn.Conv2d(16, 16, 3, 2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.head = nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.three(self.two(self.one(x))).mean((2, 3)))


def images(n: int, usual: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels uint8 [N, 3, 16, 16], labels [N], and the tag of each: "usual" or "swapped".

    Args:
        usual: share of the images with the tag that is usual for their class.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    swapped = rng.random(n) >= usual
    y, x = np.mgrid[:SIDE, :SIDE]
    pixels = rng.normal(70, 25, (n, 3, SIDE, SIDE))
    for i in range(n):
        top, left, half = rng.uniform(6, 9), rng.uniform(6, 9), rng.uniform(3.0, 4.5)
        shape = np.maximum(abs(y - top), abs(x - left)) <= half
        if labels[i] == 0:
            shape = (y - top) ** 2 + (x - left) ** 2 <= half**2 * 4 / np.pi
        pixels[i] += 60 * shape
        pixels[i, 0 if labels[i] == swapped[i] else 2, 12:15, 12:15] = 230
    return np.clip(pixels, 0, 255).astype(np.uint8), labels, np.where(swapped, "swapped", "usual")


def trained(epochs: int = 6, seed: int = 0) -> Network:
    """The network after training on images of which 95% wear the usual tag; as left by training, in training mode."""
    pixels, labels, _ = images(1500, 0.95, seed)
    inputs, targets = torch.from_numpy(pixels).float() / 255, torch.from_numpy(labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network().train()
        optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
        for _ in range(epochs):
            for rows in torch.randperm(len(targets)).split(50):
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(inputs[rows]), targets[rows]).backward()
                optimizer.step()
    return network
