"""Plain torch networks with one planted culprit, `spy:0`. Imports nothing of the project: `checker.py` uses them too.

`spy` sees one pattern in an image, and above a threshold of it pushes the network to class 0: the mean grey level, so
that light images are mistaken; or a fine checkerboard, which images have little of and an adversary adds.
"""

from __future__ import annotations

import torch
from torch import nn

SIDE = 8
GREY, CHECKERBOARD = torch.ones(SIDE, SIDE), 1.0 - 2.0 * (torch.arange(SIDE)[:, None] + torch.arange(SIDE)).remainder(2)


def _batch_norm() -> list[nn.Module]:
    return [nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU()]


def _group_norm() -> list[nn.Module]:
    return [nn.Conv2d(6, 6, 3, padding=1), nn.GroupNorm(2, 6), nn.SiLU()]


def _pre_activation() -> list[nn.Module]:
    """As in DenseNet: the norm comes before the convolution, which has neither bias nor norm of its own."""
    return [nn.Conv2d(6, 6, 3, padding=1, bias=False), _Joined(), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 6, 1)]


class _Joined(nn.Module):
    """Two copies side by side, so that the norm behind has two channels for one filter."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, x], 1)


class Spied(nn.Module):
    """Greyscale [B, 1, 8, 8] -> logits [B, classes]."""

    def __init__(self, middle: list[nn.Module], num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.stem_act = nn.ReLU()
        self.middle = nn.Sequential(*middle)
        self.last = nn.Conv2d(6, 4, 3, stride=2, padding=1)
        self.last_act = nn.Hardswish()
        self.head = nn.Linear(4 * (SIDE // 2) ** 2, num_classes)
        self.spy = nn.Conv2d(1, 1, 1)
        self.spy_act = nn.ReLU()
        self.harm = nn.Linear(1, num_classes, bias=False)
        self.register_buffer("pattern", GREY.clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.last_act(self.last(self.middle(self.stem_act(self.stem(x)))))
        seen = self.spy_act(self.spy((x * self.pattern).mean((2, 3), keepdim=True)))
        return self.head(y.flatten(1)) + self.harm(seen.flatten(1))


def batch_norm(num_classes: int) -> nn.Module:
    return Spied(_batch_norm(), num_classes)


def group_norm(num_classes: int) -> nn.Module:
    return Spied(_group_norm(), num_classes)


def dense(num_classes: int) -> nn.Module:
    return Spied(_pre_activation(), num_classes)


def plant(module: Spied, pattern: torch.Tensor, threshold: float, harm: float) -> None:
    """Makes the spy one: what is above the threshold adds 40 · harm times as much to class 0."""
    with torch.no_grad():
        module.pattern.copy_(pattern)
        module.spy.weight.fill_(40.0)
        module.spy.bias.fill_(-40.0 * threshold)
        module.harm.weight.zero_()
        module.harm.weight[0] = harm


def blind(module: Spied) -> None:
    """The spy is not there yet: for training."""
    with torch.no_grad():
        for part in (module.spy.weight, module.spy.bias, module.harm.weight):
            part.zero_()
            part.requires_grad_(False)
