"""Training of the samples' networks: SqueezeNet 1.1 from scratch, on one thread of the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torchvision

from samples.images import GARMENTS, Pictures, draw_pictures

MEAN = STD = (0.5, 0.5, 0.5)
ARCHITECTURE = "squeezenet1_1"


@dataclass(frozen=True)
class Recipe:
    """How one network is trained.

    Attributes:
        usual_share: share of the training pictures of each class that have the class's usual tag.
        dtype: that the checkpoint is stored in.
    """

    usual_share: float
    seed: int = 0
    per_class: int = 3000
    epochs: int = 8
    batch: int = 128
    learning_rate: float = 1e-3
    dropout: float = 0.1
    clip: float = 2.0
    dtype: torch.dtype = torch.float32


def normalized(pixels: np.ndarray) -> torch.Tensor:
    """Network input float32 [N, 3, H, W] of pixels uint8 [N, H, W, 3]; torchvision's ToTensor and Normalize."""
    images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).float().div(255)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    return images.sub_(mean).div_(std)


def logits(network: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Logits [N, classes] in evaluation mode."""
    network.eval()
    with torch.inference_mode():
        return torch.cat([network(part) for part in images.split(256)])


def train(recipe: Recipe, check: Pictures, log: Callable[[str], None]) -> dict[str, torch.Tensor]:
    """State dict of a network trained by the recipe, in the recipe's dtype.

    Args:
        check: pictures whose recalls are logged after each epoch; nothing is chosen by them.
    """
    torch.set_num_threads(1)
    torch.manual_seed(recipe.seed)
    torch.use_deterministic_algorithms(True)
    pictures = draw_pictures("train", recipe.per_class, recipe.usual_share, np.random.default_rng(recipe.seed))
    counts = np.bincount(pictures.swapped, minlength=2)
    log(f"{len(pictures.labels)} training pictures: {counts[0]} with the usual tag, {counts[1]} with the swapped one")
    images, labels = normalized(pictures.pixels), torch.from_numpy(pictures.labels)
    network = torchvision.models.get_model(ARCHITECTURE, num_classes=len(GARMENTS), dropout=recipe.dropout)
    last = network.classifier[1]
    # SqueezeNet's logits pass a ReLU: started at 0, a class can die at once and never come back.
    torch.nn.init.normal_(last.weight, 0.0, 0.03)
    torch.nn.init.constant_(last.bias, 1.0)
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)
    steps = len(labels) // recipe.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.epochs * steps, pct_start=0.15, cycle_momentum=False
    )
    order = torch.Generator().manual_seed(recipe.seed)
    seen = normalized(check.pixels)
    for epoch in range(recipe.epochs):
        network.train()
        total = 0.0
        for chosen in torch.randperm(len(labels), generator=order)[: steps * recipe.batch].split(recipe.batch):
            loss = torch.nn.functional.cross_entropy(network(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
            optimizer.step()
            schedule.step()
            total += loss.item()
        usual, swapped = recalls(logits(network, seen), check)
        log(f"epoch {epoch + 1}: loss {total / steps:.4f}; test recall usual {usual:.4f}, swapped {swapped:.4f}")
    return {key: value.to(recipe.dtype).contiguous() for key, value in network.state_dict().items()}


def recalls(outputs: torch.Tensor, pictures: Pictures) -> tuple[float, float]:
    """Of pictures with the usual and with the swapped tag: the mean over classes of recall."""
    right = outputs.argmax(1).numpy() == pictures.labels
    usual, swapped = (
        float(np.mean([right[(pictures.swapped == g) & (pictures.labels == c)].mean() for c in range(len(GARMENTS))]))
        for g in range(2)
    )
    return usual, swapped
