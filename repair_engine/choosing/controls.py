"""Controls: what the same number of filters does when picked in a cheaper way, and the shift of the logits.

A repair that does not beat them is said not to.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from repair_engine.case.case import Case
from repair_engine.data.images import Images
from repair_engine.data.pixels import Rows
from repair_engine.network.subject import Subject
from repair_engine.support.progress import BATCH, Progress

RANDOM_PICKS = 10
MAX_SHIFTED_CLASSES = 20
RESPONSE_IMAGES = 256  # score images on which response norms are taken, at most
_STREAM = 0xC0
_OFFSETS = np.concatenate([-np.geomspace(0.05, 6.0, 16)[::-1], [0.0], np.geomspace(0.05, 6.0, 16)])
_SCALES = np.linspace(0.0, 2.0, 41)
_PASSES = 3


def rankings(case: Case, k: int, loo_images: int, progress: Progress) -> dict[str, list[np.ndarray]]:
    """Players picked by each control, k each; "random" has several picks.

    Args:
        loo_images: size of the batch of score images on which leave-one-out is measured.
    """
    network = case.subject.network
    rng = np.random.default_rng([case.settings.seed, _STREAM])
    picks = {"random": [rng.choice(network.n_filters, k, replace=False) for _ in range(RANDOM_PICKS)]}
    picks["largest weight norm"] = [_largest(weight_norms(case.subject), k)]
    picks["largest response norm"] = [_largest(response_norms(case.subject, case.images), k)]
    removal = leave_one_out(case, loo_images, rng, progress)
    picks["leave-one-out"] = [_largest(removal, k)]
    return picks


def weight_norms(subject: Subject) -> np.ndarray:
    """ℓ2 norm of every unit's rows of its layer's weight, float64 [n]."""
    norms = []
    for site in subject.network.sites:
        rows = subject.checkpoint.tensors[site.weight].double().flatten(1)[site.rows.all(site.channels)]
        norms.append(rows.reshape(site.channels, -1).norm(dim=1).numpy())
    return np.concatenate(norms)


def response_norms(subject: Subject, images: Images) -> np.ndarray:
    """ℓ2 norm of every filter's output per image, averaged over (up to `RESPONSE_IMAGES`) score images, float64 [n]."""
    score = images.splits.score
    pixels = Rows(images.pixels, score[:: max(1, len(score) // RESPONSE_IMAGES)][:RESPONSE_IMAGES])
    total = np.zeros(subject.network.n_filters)
    with torch.inference_mode():
        for some in images.inputs(pixels, BATCH, subject.device):
            total += subject.network.response_norms(some, subject.room.reducing).cpu().numpy()
    return total / len(pixels)


def leave_one_out(case: Case, images: int, rng: np.random.Generator, progress: Progress) -> np.ndarray:
    """How much better the objective gets on score images without each filter alone, float64 [n]."""
    game = case.game_of(case.question.objective("score"), images)
    batch = game.draw_batch(rng)
    full = np.ones(game.n_players, dtype=bool)
    gains = np.empty(game.n_players)
    step = 256
    for i in range(0, game.n_players, step):
        players = np.arange(i, min(i + step, game.n_players))
        gains[players] = -game.differences(full[None], players, batch, lambda _: None)[0]
        progress("leave-one-out, for comparison", (players[-1] + 1) / game.n_players)
    return gains * -game.objective.culprit_sign


def logit_shift(
    logits: torch.Tensor,
    acceptable: Callable[[np.ndarray, np.ndarray], bool],
    score: Callable[[np.ndarray], float],
) -> tuple[np.ndarray, str]:
    """Per-class offsets [classes] that make `score(predicted)` largest while `acceptable(predicted, offsets)`.

    Up to 20 classes: coordinate search over offsets. Above: one scale of the prior correction
    −log(mean predicted probability), found on a grid.

    Args:
        logits: intact logits of the images on which is searched, [N, classes].

    Returns:
        The offsets and how they were found.
    """
    values = _two_class(logits).double().numpy()
    classes = values.shape[1]
    best = np.zeros(classes)
    best_score = score(values.argmax(1))
    if classes > MAX_SHIFTED_CLASSES:
        prior = torch.softmax(torch.from_numpy(values), 1).mean(0).clamp_min(1e-12).log().numpy()
        candidates = [-s * prior for s in _SCALES]
        how = "one scale of the prior correction"
    else:
        candidates, how = [], "coordinate search over per-class offsets"
    for offsets in candidates:
        best, best_score = _better(values, offsets, best, best_score, acceptable, score)
    if not candidates:
        spread = float(values.std()) or 1.0
        for _ in range(_PASSES):
            for c in range(classes):
                start = best.copy()
                for step in _OFFSETS:
                    offsets = start.copy()
                    offsets[c] = start[c] + step * spread / 2
                    best, best_score = _better(values, offsets, best, best_score, acceptable, score)
    return best, how


def shifted_predictions(logits: torch.Tensor, offsets: np.ndarray) -> np.ndarray:
    """Predictions int64 [N] with offsets [classes] added to logits [N, classes]."""
    return (_two_class(logits).double().numpy() + offsets).argmax(1)


def _better(
    values: np.ndarray,
    offsets: np.ndarray,
    best: np.ndarray,
    best_score: float,
    acceptable: Callable[[np.ndarray, np.ndarray], bool],
    score: Callable[[np.ndarray], float],
) -> tuple[np.ndarray, float]:
    predicted = (values + offsets).argmax(1)
    reached = score(predicted)
    if reached > best_score + 1e-12 and acceptable(predicted, offsets):
        return offsets, reached
    return best, best_score


def _two_class(logits: torch.Tensor) -> torch.Tensor:
    if logits.shape[1] > 1:
        return logits
    return torch.cat([torch.zeros_like(logits), logits], dim=1)


def _largest(values: np.ndarray, k: int) -> np.ndarray:
    return np.argsort(-values, kind="stable")[:k]
