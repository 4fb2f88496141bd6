"""A network that fails one subgroup because of one filter, made by hand: no training, the same every time.

Images are 8×8 with a bright bar in the upper half (class `top`) or the lower (class `bottom`), on a dark ground or,
one in five, on a light one. `conv:1` answers to light grounds and pushes them to `bottom`, so every light `top` is
missed; ablated to its mean it pushes everything by a constant that the last layer's bias takes back.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

CULPRIT = "conv:1"
IMAGES, LIGHT_EVERY = 400, 5
DARK, LIGHT, BAR = 0.1, 0.6, 0.3


class FailingNet(nn.Module):
    """Logits [B, 2] of images [B, 1, 8, 8] in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d((2, 1))
        self.fc = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.pool(self.relu(self.conv(x))).flatten(1))


def failing_net() -> nn.Module:
    """The factory that the operator registers."""
    return FailingNet()


def trained() -> FailingNet:
    net = FailingNet()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.conv.weight[:, 0, 1, 1] = torch.tensor([1.0, 1.0, 0.5, 0.25])
        net.conv.bias[1] = -0.45  # only a light ground, or a bar on one, gets through
        upper, lower, push = 12.0, -12.0, 8.0  # for class 1, `top`: folders count in sorted order
        net.fc.weight[1] = torch.tensor([upper, lower, -push, -push, 0.0, 0.0, 0.01, 0.0])
        net.fc.bias[1] = 0.96  # what the filter adds on average
    return net.eval()


def checkpoint() -> bytes:
    content = io.BytesIO()
    torch.save(trained().state_dict(), content)
    return content.getvalue()


def pictures() -> list[tuple[str, str, np.ndarray]]:
    """(file name, ground, uint8 [8, 8]) of every image."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(IMAGES):
        half, light = ("top", "bottom")[i % 2], (i // 2) % LIGHT_EVERY == 0
        image = np.full((8, 8), LIGHT if light else DARK) + rng.normal(0, 0.01, (8, 8))
        image[slice(0, 4) if half == "top" else slice(4, 8)] += BAR
        pixels = np.clip(np.round(image * 255), 0, 255).astype(np.uint8)
        found.append((f"{half}/{i:03}.png", "light" if light else "dark", pixels))
    return found


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        rows = ["file_name,ground"]
        for name, ground, pixels in pictures():
            image = io.BytesIO()
            Image.fromarray(pixels).save(image, "PNG")
            archive.writestr(name, image.getvalue())
            rows.append(f"{name},{ground}")
        archive.writestr("metadata.csv", "\n".join(rows) + "\n")


def share_right(net: nn.Module, ground: str) -> float:
    """Share of the images on that ground that the network gets right (class 0 is `bottom`, 1 is `top`)."""
    chosen = [(name.startswith("top"), pixels) for name, kind, pixels in pictures() if kind == ground]
    with torch.inference_mode():
        batch = torch.stack([torch.from_numpy(pixels).float().div(255)[None] for _, pixels in chosen])
        predicted = net(batch).argmax(1).tolist()
    return sum(p == int(top) for p, (top, _) in zip(predicted, chosen, strict=True)) / len(chosen)
