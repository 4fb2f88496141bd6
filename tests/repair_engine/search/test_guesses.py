"""The guesses' derivatives against finite differences, and differences against pairs of full forwards."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from repair_engine.network import Network
from repair_engine.question.objectives import Objective
from repair_engine.search.game import NeuronGame
from repair_engine.search.guesses import N_GUESSES, guess_differences, hits


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(1, 4, 3)
        self.two = nn.Conv2d(4, 3, 3)
        self.head = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.two(torch.relu(self.one(x)))).mean((2, 3)))


def _network() -> tuple[Network, torch.Tensor]:
    torch.manual_seed(3)
    images = torch.rand(5, 1, 9, 9)
    network = Network.capture(_Net().eval().requires_grad_(False), images[:2])
    network.constants = network.mean_outputs([images]).float()
    return network, images


TARGETS, WEIGHTS = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([0.1, 0.3, 0.2, 0.2, 0.2])


def _coalitions() -> np.ndarray:
    rows = np.random.default_rng(0).random((5, 7)) < 0.7
    rows[0] = True
    return rows


def test_slopes_equal_finite_differences() -> None:
    """Each image under its own coalition: rows 0 (probability), 3 (margin) and 4 (probability, where absent)."""
    network, images = _network()
    present = _coalitions()

    def values(masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = network.soft_logits(images, masks).double()
        own = logits[torch.arange(5), TARGETS]
        others = logits.clone()
        others[torch.arange(5), TARGETS] = float("-inf")
        return torch.softmax(logits, 1)[torch.arange(5), TARGETS], own - others.amax(1)

    found = guess_differences(network, images, present, TARGETS, WEIGHTS)
    assert found.shape == (N_GUESSES, 7)
    for player in range(7):
        ends = []
        for step in (-1e-2, 1e-2):
            masks = torch.from_numpy(present).float()
            masks[:, player] += step
            ends.append(values(masks))
        slope, margin_slope = ((high - low) / 2e-2 for low, high in zip(*ends))
        expected = [(WEIGHTS @ slope.float()), (WEIGHTS @ margin_slope.float())]
        np.testing.assert_allclose(found[[0, 3], player], torch.stack(expected), rtol=0.03, atol=4e-6)
        absent = WEIGHTS @ (slope * torch.from_numpy(~present[:, player])).float()
        np.testing.assert_allclose(found[4, player], absent, rtol=0.03, atol=4e-6)
    assert np.abs(found).max() > 1e-4


def test_differences_hard_and_smooth_against_two_full_forwards() -> None:
    network, images = _network()
    targets = network.logits(images).argmax(1).numpy()
    targets[:2] = (targets[:2] + 1) % 3  # some are missed
    objective = Objective(images, targets, WEIGHTS.numpy().astype(float), np.arange(5))
    game = NeuronGame(network, objective, lambda x: x, 5)
    batch, present = game.full_batch(), _coalitions()
    hard, smooth = game.smooth_differences(present, np.arange(7), batch, lambda _: None)
    for player in range(7):
        rows = []
        for there in (True, False):
            coalition = present.copy()
            coalition[:, player] = there
            logits = torch.cat([network.masked_logits(images[[b]], coalition[[b]])[0] for b in range(5)])
            probability = torch.softmax(logits, 1)[torch.arange(5), torch.from_numpy(targets)].numpy()
            rows.append((logits.argmax(1).numpy() == targets, probability))
        (hit, p), (missed, q) = rows
        np.testing.assert_allclose(hard[0, player], batch.weights[0] @ (hit.astype(float) - missed), atol=1e-12)
        np.testing.assert_allclose(smooth[player], batch.weights[0] @ (p - q), atol=1e-6)


def test_several_draws_at_once_are_guessed_as_one_by_one() -> None:
    network, images = _network()
    objective = Objective(images, TARGETS.numpy(), WEIGHTS.numpy().astype(float), np.arange(5))
    game = NeuronGame(network, objective, lambda x: x, 5)
    draws = [(_coalitions(), game.full_batch()), (~_coalitions(), game.draw_batch(np.random.default_rng(1)))]
    spent: list[int] = []
    together = game.guesses(draws, spent.append)
    assert together.shape == (2, N_GUESSES, 7)
    assert sum(spent) == 2 * 5 * game.guess_cost
    for draw, found in zip(draws, together):
        np.testing.assert_allclose(found, game.guesses([draw], lambda _: None)[0], atol=1e-7)
    assert np.abs(together[0] - together[1]).max() > 1e-4


def test_a_single_logit_is_two_classes() -> None:
    logits = torch.tensor([[0.7], [-0.2]])
    right, probability = hits(logits, torch.tensor([0, 0]))
    assert right.tolist() == [0.0, 1.0]
    torch.testing.assert_close(probability, 1 - torch.sigmoid(logits[:, 0]))


def test_soft_masks_of_zero_and_one_are_the_masks() -> None:
    network, images = _network()
    coalition = np.array([True, False, True, False, True, True, False])
    soft = network.soft_logits(images, torch.from_numpy(coalition).float())
    torch.testing.assert_close(soft, network.masked_logits(images, coalition[None])[0], rtol=1e-5, atol=1e-6)
