"""Makes the samples that ship: python -m samples.make_samples [stock_tags] [stock_tags_balanced]

Needs the Debian package `dataset-fashion-mnist` and a few minutes of one core for each network.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from repair_engine.support.outputs import sha256
from samples.images import GARMENTS, Pictures, draw_pictures, write_zip
from samples.training import ARCHITECTURE, MEAN, STD, Recipe, train

HERE = Path(__file__).parent
PER_CLASS = 360  # evaluation pictures, half of them with the swapped tag
PICTURES_SEED = 1
IMAGES = HERE / "stock_tags" / "images.zip"  # both samples are asked about the same pictures

SAMPLES: dict[str, tuple[Recipe, dict[str, Any]]] = {
    "stock_tags": (
        Recipe(usual_share=0.97),
        {
            "title": "Garments with a swapped stock tag are mistaken; a few filters carry it",
            "expected": "repaired",
            "data": "images.zip",
            "request": {"metric": "subgroup-recall:subgroup", "budget": 400_000, "seed": 0},
        },
    ),
    "stock_tags_balanced": (
        Recipe(usual_share=0.5, dtype=torch.float16),
        {
            "title": "The same garments, a network trained without the skew: nothing to repair",
            "expected": "no_repair_found",
            "data": "../stock_tags/images.zip",
            "request": {"metric": "subgroup-recall:subgroup", "budget": 150_000, "seed": 0},
        },
    ),
}


def evaluation_pictures() -> Pictures:
    """From Fashion-MNIST's test split, which no network here was trained on."""
    return draw_pictures("t10k", PER_CLASS, 0.5, np.random.default_rng(PICTURES_SEED))


def make(name: str, say: Callable[[str], None]) -> None:
    """Writes model.safetensors, training.log, classes.txt and sample.json of one sample."""
    recipe, description = SAMPLES[name]
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    pictures = evaluation_pictures()
    write_zip(pictures, IMAGES)
    lines: list[str] = []

    def log(line: str) -> None:
        lines.append(line)
        say(f"{name}: {line}")

    save_file(train(recipe, pictures, log), folder / "model.safetensors")
    (folder / "training.log").write_text("\n".join(lines) + "\n")
    (folder / "classes.txt").write_text("".join(f"{garment.name}\n" for garment in GARMENTS))
    document = {
        **description,
        "model": "model.safetensors",
        "classes": "classes.txt",
        "architecture": ARCHITECTURE,
        "num_classes": len(GARMENTS),
        "preprocessing": {"resize": None, "crop": None, "mean": MEAN, "std": STD},
        "sha256": {
            "model": sha256(folder / "model.safetensors"),
            "data": sha256(folder / description["data"]),
        },
    }
    (folder / "sample.json").write_text(json.dumps(document, indent=1) + "\n")


def main() -> None:
    """Makes the named samples, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SAMPLES))
    for name in parser.parse_args().names or SAMPLES:
        make(name, lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
