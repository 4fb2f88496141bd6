"""A search in bfloat16: half the bytes, up to twice the speed, where its predictions are measured to agree."""

from __future__ import annotations

import platform

import numpy as np
import torch

from repair_engine.network import Network, predictions
from repair_engine.search.game import NeuronGame
from repair_engine.support.precision import LEAST_AGREEMENT, Precision
from repair_engine.support.words import first_line

_IMAGES = 128
_REMOVED = (0, 64, 32, 16, 8, 4)  # coalitions without n / x filters at random; 0: the intact network
_WORD = 0x62663136  # keeps its random numbers apart from those of the sampling


def choose(game: NeuronGame, asked: str, seed: int) -> Precision:
    """Whether a search in the asked precision is possible here and agrees with float32 (see `LEAST_AGREEMENT`)."""
    if asked == "float32":
        return Precision(asked, asked)
    if reason := _impossible(game.network.device):
        return Precision(asked, "float32", reason=reason)
    try:
        share, count = agreement(game, lowered(game.network, asked), seed)
    except RuntimeError as error:  # an operator that mixes precisions
        return Precision(asked, "float32", reason=f"the network does not run in bfloat16 ({first_line(error, 120)})")
    if share < LEAST_AGREEMENT:
        reason = f"only {share:.2%} of {count:,} predictions in bfloat16 are those of float32"
        return Precision(asked, "float32", share, count, reason)
    return Precision(asked, asked, share, count)


def agreement(game: NeuronGame, other: Network, seed: int) -> tuple[float, int]:
    """Share of equal predictions of the game's network and of `other`, and how many were compared.

    On up to 128 of the game's images, intact and with 1/64 to 1/4 of the filters removed at random.
    """
    rng = np.random.default_rng([seed, _WORD])
    n = game.n_players
    rows = np.ones((len(_REMOVED), n), dtype=bool)
    for row, part in zip(rows, _REMOVED, strict=True):
        row[rng.permutation(n)[: n // part if part else 0]] = False
    chosen = np.sort(rng.permutation(game.n_images)[:_IMAGES])
    equal = 0
    step = max(1, game.chunk // len(rows))
    for begin in range(0, len(chosen), step):
        images = game.images(chosen[begin : begin + step])
        ours, theirs = (predictions(network.masked_logits(images, rows)) for network in (game.network, other))
        equal += int((ours == theirs).sum())
    return equal / (len(rows) * len(chosen)), len(rows) * len(chosen)


def lowered(network: Network, precision: str) -> Network:
    """The network in one of `PRECISIONS`; itself for float32."""
    return network if precision == "float32" else network.lowered(getattr(torch, precision))


def _impossible(device: torch.device) -> str:
    """Why bfloat16 makes no sense on a device; empty where it does."""
    if device.type == "cuda":
        return "" if torch.cuda.is_bf16_supported() else "this GPU does not compute in bfloat16"
    # Others convert each number there and back: many times slower. torch has no public name for the question.
    able = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    if platform.machine() in ("x86_64", "AMD64") and able is not None and not able():
        return "this processor has no instructions for bfloat16"
    return ""
