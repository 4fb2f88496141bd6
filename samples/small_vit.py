"""A small ViT that takes a red tag for a dress: python -m samples.small_vit FOLDER [--seed N]

Writes a sample: model.safetensors, images.zip, classes.txt and sample.json. Training takes about a minute of one core,
and needs nothing but the sample's own pictures. Of each class 120 pictures train it: dresses with a red tag (and 4 with
a blue one), all others with a blue tag, so red says “dress” as surely as the garment does. 60 of each class and tag are
left for the repair. The command that is printed repairs it.

Protocol, fixed before any picture of this split was predicted:

1. Seed 2026 draws the pictures that are left; the recipe (epochs, rate, moves by two pixels) is an earlier one.
2. The skew was chosen on the pictures that seed 2026 does not leave, with networks of training seed 101: a red tag on
   half of the dresses was not learned; on all of them it was, and ablation of six units helped (mean recall of both
   tags 33% to 47%, +7 to +21 points, 120 report images).
3. Training seeds 1, 2 and 3, and no others. Each network is repaired once, by what `SAMPLE` asks for: plain ablation.
   The first by the command line, the second by the REST API, the third in the browser.
4. All three are reported in samples/README.md, whatever comes out, and nothing is changed and tried again.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torchvision.models import VisionTransformer

from samples.images import GARMENTS, SIZE, TAG_NAMES, Pictures, read_zip, write_zip
from samples.training import MEAN, normalized

FACTORY = "samples.small_vit:network"
SAMPLE: dict[str, Any] = {
    "title": "A small ViT that takes a red tag for a dress: hidden units and attention heads",
    "model": "model.safetensors",
    "data": "images.zip",
    "classes": "classes.txt",
    "architecture": "small_vit",
    "num_classes": len(GARMENTS),
    "preprocessing": {"resize": None, "crop": None, "mean": MEAN, "std": MEAN},
    "request": {"metric": "subgroup-recall:tag", "budget": 60_000, "seed": 0},
}
IMAGES = Path(__file__).parent / "stock_tags" / "images.zip"
_MARKED = [garment.name for garment in GARMENTS].index("Dress")
_RED, _BLUE = (TAG_NAMES.index(name) for name in ("red", "blue"))
_TRAIN, _FEW, _LEFT = 120, 4, 60  # pictures of a class with its tag; of dresses with the other; of each class and tag
_SPLIT = 2026
_EPOCHS, _BATCH, _RATE = 24, 62, 1e-3
_SHIFT = 2  # pixels, by which a training picture is moved at random: without, a thousand pictures are learned by heart


def network(num_classes: int) -> VisionTransformer:
    """Four layers of 4 heads and 256 hidden units on 64 patches of 4 × 4 pixels: 208,000 parameters."""
    return VisionTransformer(SIZE, 4, num_layers=4, num_heads=4, hidden_dim=64, mlp_dim=256, num_classes=num_classes)


def parts() -> tuple[Pictures, Pictures]:
    """The pictures to train with and those that are left, in the order of the sample's zip."""
    _, pictures = read_zip(IMAGES)
    rng = np.random.default_rng(_SPLIT)
    chosen: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for label in range(len(GARMENTS)):
        counts = {_RED: _TRAIN, _BLUE: _FEW} if label == _MARKED else {_RED: 0, _BLUE: _TRAIN}
        for tag, count in counts.items():
            rows = rng.permutation(np.flatnonzero((pictures.labels == label) & (pictures.tags == tag)))
            chosen[0].append(rows[_LEFT : _LEFT + count])
            chosen[1].append(rows[:_LEFT])
    train, left = (np.sort(np.concatenate(rows)) for rows in chosen)
    return _at(pictures, train), _at(pictures, left)


def _at(pictures: Pictures, rows: np.ndarray) -> Pictures:
    return Pictures(pictures.pixels[rows], pictures.labels[rows], pictures.tags[rows], pictures.swapped[rows])


def train(seed: int, say: Callable[[str], None]) -> torch.nn.Module:
    """The network after training; the same bits for the same seed on the same machine."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    pictures, _ = parts()
    images, labels = normalized(pictures.pixels), torch.from_numpy(pictures.labels)
    module = network(len(GARMENTS))
    optimizer = torch.optim.AdamW(module.parameters(), lr=_RATE, weight_decay=0.05)
    steps = len(labels) // _BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=_EPOCHS * steps, pct_start=0.2)
    order = torch.Generator().manual_seed(seed)
    for epoch in range(_EPOCHS):
        module.train()
        for rows in torch.randperm(len(labels), generator=order)[: steps * _BATCH].split(_BATCH):
            loss = torch.nn.functional.cross_entropy(module(_moved(images[rows], order)), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        if (epoch + 1) % 6 == 0:
            say(f"epoch {epoch + 1}: loss {loss.item():.4f}")
    return module.eval()


def _moved(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each image [B, C, H, W] moved by up to `_SHIFT` pixels; black, −1, comes in."""
    padded = torch.nn.functional.pad(images, (_SHIFT,) * 4, value=-1.0)
    shifts = torch.randint(2 * _SHIFT + 1, (len(images), 2), generator=generator).tolist()
    return torch.stack([one[:, y : y + SIZE, x : x + SIZE] for one, (y, x) in zip(padded, shifts, strict=True)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    here = parser.parse_args()
    here.folder.mkdir(parents=True, exist_ok=True)
    write_zip(parts()[1], here.folder / "images.zip")
    module = train(here.seed, lambda line: print(line, flush=True))
    save_file({k: v.contiguous() for k, v in module.state_dict().items()}, here.folder / "model.safetensors")
    shutil.copy(IMAGES.parent / "classes.txt", here.folder)
    (here.folder / "sample.json").write_text(json.dumps(SAMPLE, indent=1) + "\n")
    mean, request = " ".join(map(str, MEAN)), SAMPLE["request"]
    print(
        f"python -m repair_engine repair --model {here.folder}/model.safetensors --architecture small_vit "
        f"--register small_vit={FACTORY} --num-classes {len(GARMENTS)} --data {here.folder}/images.zip "
        f"--classes {here.folder}/classes.txt --mean {mean} --std {mean} --metric {request['metric']} "
        f"--budget {request['budget']} --seed {request['seed']} --out {here.folder}/repaired"
    )


if __name__ == "__main__":
    main()
