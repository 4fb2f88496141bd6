"""Small networks that tests register, and that no torchvision architecture resembles."""

from __future__ import annotations

import torch
from torch import nn


class Tiny(nn.Module):
    def __init__(self, num_classes: int, in_channels: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, width, 3, padding=1)
        self.bn = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, num_classes)
        self.register_buffer("scale", torch.linspace(0.5, 1.5, width), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.bn(self.conv(x))).mean((2, 3)) * self.scale)


def tiny(num_classes: int, in_channels: int = 3, width: int = 4) -> nn.Module:
    return Tiny(num_classes, in_channels, width)


def fixed() -> nn.Module:
    """Takes no number of classes: always 3."""
    return Tiny(3, 1, 4)


def anything(**options: int) -> nn.Module:
    return Tiny(options["num_classes"], 3, options.get("width", 4))


def late(num_classes: int) -> nn.Module:
    """Imports what it is built from when it is called: in a child that is shut in already."""
    from torchvision.ops.misc import Conv2dNormActivation

    return nn.Sequential(Conv2dNormActivation(3, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))


def broken(num_classes: int) -> nn.Module:
    raise KeyError("no such thing")


def not_a_module(num_classes: int) -> int:
    return num_classes


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = nn.Linear(4, 4)


REGISTER = {name: f"{__name__}:{name}" for name in ("tiny", "fixed", "anything", "late", "broken", "not_a_module")}
