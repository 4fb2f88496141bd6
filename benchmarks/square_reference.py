"""Our Square attack beside that of torchattacks 3.5.1, on the same images with the same queries, sizes and ε.

    pip install --no-deps --target /tmp/torchattacks torchattacks==3.5.1
    PYTHONPATH=.:../shared/data:/tmp/torchattacks python benchmarks/square_reference.py ../shared/data/cifar10

torchattacks is not a dependency: it pins requests~=2.25.1. Prints the table of square_reference.md.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from benchmarks.engine import AttackSettings, pgd, square

IMAGES = 60
BALLS = {"linf": 2 / 255, "l2": 0.25}
QUERIES = (100, 300, 1000)


def images_of(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Evenly spaced images in [0, 1] and labels."""
    with zipfile.ZipFile(folder / "images_5000.zip") as archive:
        names = sorted(n for n in archive.namelist() if n.endswith(".png"))
        classes = sorted({n.split("/")[0] for n in names})
        names = names[:: len(names) // (2 * IMAGES)]
        pixels = [np.array(Image.open(io.BytesIO(archive.read(n)))) for n in names]
    labels = torch.tensor([classes.index(n.split("/")[0]) for n in names])
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float().div(255).contiguous(), labels


def main() -> None:
    import architectures
    import torchattacks

    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    torch.set_num_threads(1)
    model = architectures.ResNet8(num_classes=10)
    model.load_state_dict(load_file(folder / "resnet8.safetensors"))
    model.eval().requires_grad_(False)
    pixels, labels = images_of(folder)
    with torch.no_grad():
        right = torch.nonzero(model(pixels).argmax(1) == labels).flatten()[:IMAGES]
    pixels, labels = pixels[right], labels[right]
    print(f"resnet8, {len(pixels)} images that it gets right, untargeted, p = 0.8, seed 0\n")
    print("| norm | ε | queries | ours | torchattacks | PGD (20 steps) |\n|---|---|---:|---:|---:|---:|")
    for norm, epsilon in BALLS.items():
        settings = AttackSettings.of("standard", epsilon, norm=norm)
        white = pgd(model, pixels, labels, settings, torch.Generator().manual_seed(0))
        with torch.no_grad():
            limit = float((model(white).argmax(1) != labels).float().mean())
        for queries in QUERIES:
            streams = [(0, i) for i in range(len(pixels))]
            ours = square(model, pixels, labels, settings, queries, streams).success.mean()
            theirs = torchattacks.Square(
                model, norm={"linf": "Linf", "l2": "L2"}[norm], eps=epsilon, n_queries=queries, p_init=0.8, seed=0
            )
            torch.manual_seed(0)
            with torch.no_grad():
                found = float((model(theirs(pixels, labels)).argmax(1) != labels).float().mean())
            print(f"| {norm} | {epsilon:.4g} | {queries} | {ours:.1%} | {found:.1%} | {limit:.1%} |", flush=True)


if __name__ == "__main__":
    main()
