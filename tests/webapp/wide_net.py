"""A network for images of 32×32 alone; in a file of its own, for a check in a child process imports it."""

from __future__ import annotations

from torch import nn


def wide(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 30 * 30, num_classes)).eval()
