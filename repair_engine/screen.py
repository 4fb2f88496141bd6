"""A gradient screen: which filters are worth sampling where a budget cannot sample all of them.

One forward and one backward pass give the derivative of the targets' probability with respect to *every* filter's
mask. The screen proposes; unbiased samples decide.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from repair_engine.game import NeuronGame
from repair_engine.network import Network

DRAWS = 64
IMAGES = 8
PASSES = 3  # evaluations an image costs: a backward pass takes about two forwards
COST = DRAWS * IMAGES * PASSES  # evaluations in all, at most
_DEEPEST = 0.1  # of the filters are removed at most: beyond, large networks are dead (paper, appendix B)
_STREAM = 0x5C


def gradient_screen(game: NeuronGame, seed: int, tick: Callable[[int], None] | None = None) -> np.ndarray:
    """Mean derivative of the objective's smooth form for each filter's presence, float64 [n].

    Negative: on average over random removals, more of the filter lowers the objective, with the probability of the
    targets in the place of outcomes.

    Args:
        game: the objective on the score images.
        tick: called with the evaluations spent; may raise to cancel.
    """
    n, total = game.n_players, np.zeros(game.n_players)
    for draw in range(DRAWS):
        rng = np.random.default_rng([seed, _STREAM, draw])
        batch = game.draw_batch(rng)
        take = np.sort(rng.choice(len(batch.indices), min(IMAGES, len(batch.indices)), replace=False))
        coalition = np.ones(n, dtype=bool)
        coalition[rng.permutation(n)[: rng.integers(0, max(1, int(n * _DEEPEST)) + 1)]] = False
        images = game.images(batch.indices[take])
        targets = torch.from_numpy(game.objective.targets[batch.indices[take]]).to(images.device)
        weights = torch.from_numpy(batch.weights[take]).float().to(images.device)
        total += mask_gradients(game.network, images, coalition, targets, weights) * (len(batch.indices) / len(take))
        if tick:
            tick(len(take) * PASSES)
    return total / DRAWS * (-1 if game.objective.complement else 1)


def mask_gradients(
    network: Network, images: torch.Tensor, coalition: np.ndarray, targets: torch.Tensor, weights: torch.Tensor
) -> np.ndarray:
    """∂/∂mask of Σ w·P(target) at a coalition bool [n], float64 [n]; images [B, C, H, W] normalized."""
    masks = torch.from_numpy(coalition).float().to(images.device).requires_grad_(True)
    logits = network.soft_logits(images, masks)
    if logits.shape[1] == 1:
        positive = torch.sigmoid(logits[:, 0])
        probability = torch.where(targets == 1, positive, 1 - positive)
    else:
        probability = torch.softmax(logits, 1).gather(1, targets[:, None])[:, 0]
    (gradient,) = torch.autograd.grad((weights * probability).sum(), masks)
    return gradient.double().cpu().numpy()
