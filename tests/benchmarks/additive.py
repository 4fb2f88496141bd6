"""A case in which image j is right where filter owner[j] is present: V is additive and every value is known."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import torch

from benchmarks.cases import BenchCase
from repair_engine.question.objectives import Objective, plan_batches
from shapley import Outcomes
from shapley.games import flip_differences


class OwnerNetwork:
    """Logits [K, B, 2]: the second is larger where the image's owner is present. Images are [B, 1, 1, 1] of owners."""

    def __init__(self, n: int, classes: int) -> None:
        self.n_filters, self.classes, self.device = n, classes, torch.device("cpu")

    def masked_logits(self, images: torch.Tensor, masks: np.ndarray) -> torch.Tensor:
        present = torch.from_numpy(masks)[:, images.flatten().long()].float()
        return torch.stack([torch.full_like(present, 0.5), present], dim=2)


class OwnerGame:
    """As `NeuronGame`, over `OwnerNetwork`."""

    n_objectives = 1
    n_parts = 1
    lookahead = 1
    dead_level = -1.0

    def __init__(self, network: OwnerNetwork, objective: Objective, batch_size: int) -> None:
        self.network, self.objective, self.n_players = network, objective, network.n_filters
        self.plan = plan_batches(objective, batch_size)
        self.batch_size = self.plan.size

    def images(self, indices: np.ndarray) -> torch.Tensor:
        return self.objective.pixels[torch.from_numpy(indices)]

    def draw_batch(self, rng: np.random.Generator) -> SimpleNamespace:
        indices, weights = self.plan.draw(rng)
        return SimpleNamespace(indices=indices, weights=weights)

    def evaluate(self, coalitions: np.ndarray, batch: SimpleNamespace) -> Outcomes:
        owners = self.objective.pixels.flatten().numpy().astype(int)[batch.indices]
        values = coalitions[:, owners] @ batch.weights[0]
        return Outcomes(values[None], np.ones(len(coalitions)))

    def differences(
        self, coalitions: np.ndarray, players: np.ndarray, batch: SimpleNamespace, spent: Callable[[int], None]
    ) -> np.ndarray:
        return flip_differences(self, coalitions[0], players, batch, spent)


class OwnerCase(BenchCase):
    def game(self, images: int = 32) -> OwnerGame:
        return OwnerGame(self.base.network, self.base.objective, images)


def additive_case(owned: list[int], classes: int = 1000) -> tuple[OwnerCase, np.ndarray]:
    """A case where filter i owns `owned[i]` images, and the Shapley values float64 [n]."""
    owners = np.repeat(np.arange(len(owned)), owned)
    total = len(owners)
    pixels = torch.from_numpy(owners.astype(np.float32)).view(-1, 1, 1, 1)
    targets, cells = np.ones(total, np.int64), np.zeros(total, np.int64)
    objective = Objective(pixels, targets, np.full(total, 1 / total), cells)
    game = OwnerGame(OwnerNetwork(len(owned), classes), objective, 32)
    case = OwnerCase("additive", torch.nn.Identity(), game, {"model": "m", "data": "d"})
    return case, np.array(owned) / total
