"""Gates: masks in [0, 1] of all units, learned by gradient on the score images; which they close are candidates.

A gate scales its unit from its mean (0) to what it is (1), as ablation does in one step, so its gradient speaks of that
ablation beside all others at once, where Shapley values and leave-one-out speak of one unit at a time. A price on
what is closed keeps open what does not matter (L1, as of Louizos et al., arXiv 1712.01312, without their noise).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from repair_engine.case.case import Case
from repair_engine.choosing.lesson import lesson_of
from repair_engine.search.guesses import two_class

IMAGES = 64  # of a step
COST = 3  # evaluations that an image forward and backward counts
LEAST, MOST = (
    40,
    300,
)  # steps: fewer close next to nothing, and what more close does no better (benchmarks/candidates.py)
_RATE = 0.05
_PRICE = 0.5  # of all gates closed
_STREAM = 0x6A7E


def closed(masks: np.ndarray, most: int) -> np.ndarray:
    """Units whose gates are not open, the most closed first, int64 [m], m at most `most`."""
    order = np.argsort(masks, kind="stable")
    return order[masks[order] < 1][:most]


def learned_gates(case: Case, budget: int, count: Callable[[int], None]) -> np.ndarray | None:
    """Masks of all units, float64 [n]; 1 where a gate stayed open. None: the budget allows fewer than `LEAST` steps.

    The loss is that of what an edit learns (`lesson_of`): the metric's images as it weighs them, and all score images
    beside them where it leaves some out.

    Args:
        budget: evaluations, at most.
        count: is told of those that are spent.
    """
    lesson = lesson_of(case)
    at_once = min(IMAGES, len(lesson), max(case.subject.room.backward, 2))
    steps = min(MOST, budget // (COST * at_once))
    if steps < LEAST:
        return None
    network, weights, labels = case.subject.network, lesson.weights, torch.from_numpy(lesson.labels)
    rng = np.random.default_rng([_STREAM, case.settings.seed])
    masks = torch.ones(network.n_filters, device=network.device, requires_grad=True)
    descent = torch.optim.Adam([masks], lr=_RATE)
    for _ in range(steps):
        rows = np.sort(rng.choice(len(lesson), at_once, p=weights))
        logits = two_class(network.soft_logits(lesson.inputs(rows, network.device), masks))
        loss = cross_entropy(logits.float(), labels[rows].to(network.device)) + _PRICE * (1 - masks).mean()
        (masks.grad,) = torch.autograd.grad(loss, (masks,))
        descent.step()
        with torch.no_grad():
            masks.clamp_(0, 1)
        count(COST * at_once)
    return masks.detach().double().cpu().numpy()
