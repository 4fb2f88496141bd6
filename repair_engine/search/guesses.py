"""What gradients say of every filter at once: guesses at the differences that a filter's presence makes.

One forward and two backward passes give, for each image under its own coalition, the derivatives of the target's
probability p and of its margin m (its logit minus the largest other) with respect to every filter's mask. To first
order a filter that is present moves the margin from m - dm to m, an absent one from m to m + dm, which says whether
its presence turns the outcome. None of the guesses is unbiased; `shapley.fast` weighs them by how well they do.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from repair_engine.network import Network, predictions

N_GUESSES = 5
GUESS_COST = 3  # evaluations an image costs: a backward pass that reaches only the masks takes about a forward


def guess_differences(
    network: Network,
    images: torch.Tensor,
    coalitions: np.ndarray,
    targets: torch.Tensor,
    weights: torch.Tensor,
    at_once: int | None = None,
) -> np.ndarray:
    """Guesses float64 [N_GUESSES, D, n] at sum_b w_db (hit of image b with the filter - hit without it).

    Rows: dp; turned outcomes to first order in m; the same through a sigmoid of m; dm; dp where the filter is absent
    (with the first row, the two ends of the difference).

    Args:
        images: normalized, [B, C, H, W]; image b is under row b of `coalitions`, bool [B, n].
        targets: int64 [B].
        weights: [D, B]; or [B], and then D is left out.
        at_once: images of a pass; the sums are over all of them either way.
    """
    step = at_once or len(images)
    found = [
        _of_each_image(network, images[i : i + step], coalitions[i : i + step], targets[i : i + step])
        for i in range(0, len(images), step)
    ]
    rows = [torch.cat(row) for row in zip(*found, strict=True)]
    return torch.stack([weights @ row for row in rows]).double().cpu().numpy()


def _of_each_image(
    network: Network, images: torch.Tensor, coalitions: np.ndarray, targets: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """The rows of `guess_differences` for each image, [B, n]."""
    present = torch.from_numpy(np.array(coalitions)).to(images.device)
    masks = present.to(images.dtype).requires_grad_(True)
    logits = two_class(network.soft_logits(images, masks))
    probability = torch.softmax(logits, 1).gather(1, targets[:, None])[:, 0]
    rest = logits.scatter(1, targets[:, None], float("-inf")).amax(1)
    margin = logits.gather(1, targets[:, None])[:, 0] - rest
    (slope,) = torch.autograd.grad(probability.sum(), masks, retain_graph=True)
    (margin_slope,) = torch.autograd.grad(margin.sum(), masks)
    m = margin.detach()[:, None]
    with_it, without = torch.where(present, m, m + margin_slope), torch.where(present, m - margin_slope, m)
    return (
        slope,
        (with_it > 0).to(slope.dtype) - (without > 0).to(slope.dtype),
        torch.sigmoid(with_it) - torch.sigmoid(without),
        margin_slope,
        slope * ~present,
    )


def hits(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Whether each target is predicted (0 or 1) and its probability, float32 [..., B] of logits [..., B, classes]."""
    right = (predictions(logits) == targets).float()
    pairs = two_class(logits).float()
    index = targets.expand(pairs.shape[:-1])[..., None]
    # Not by softmax: the probability of one class needs no tensor of all classes' probabilities.
    chosen = torch.exp(pairs.gather(-1, index)[..., 0] - torch.logsumexp(pairs, -1))
    return right, chosen


def two_class(logits: torch.Tensor) -> torch.Tensor:
    """A single logit z [..., 1] as the two logits (0, z) of a binary classifier; others as they are."""
    return F.pad(logits, (1, 0)) if logits.shape[-1] == 1 else logits
