"""What an image takes is counted on live tensors, and what a game and a trail hold keeps to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from repair_engine.network import Network, Trail
from repair_engine.network.live import LiveBytes
from repair_engine.question.objectives import Objective
from repair_engine.search.game import NeuronGame

KIB = 1024


def peak_of(work: object, *known: torch.Tensor) -> int:
    with torch.no_grad(), LiveBytes(known) as live:
        work()  # type: ignore[operator]
    return live.peak


def test_what_lives_at_once_is_counted_and_views_and_weights_are_not() -> None:
    x = torch.zeros(256)  # 1 KiB

    def chain() -> None:
        a = x + 1
        b = a * 2
        del a
        b = b + 1  # two at once

    assert peak_of(chain) == 2 * KIB
    assert peak_of(lambda: [x + i for i in range(5)]) == 5 * KIB
    assert peak_of(lambda: (x + 1).view(16, 16).t()[3:]) == KIB
    weight = torch.zeros(16, 16)
    assert peak_of(lambda: weight.add_(1)) == KIB
    assert peak_of(lambda: weight.add_(1), weight) == 0


def test_what_composite_operations_make_in_between_is_seen() -> None:
    q = torch.zeros(1, 2, 64, 4)
    weights = 2 * 64 * 64 * 4
    mask = torch.zeros(64, 64)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        assert peak_of(lambda: F.scaled_dot_product_attention(q, q, q, mask), mask) >= weights


def test_a_backward_holds_what_the_forward_made() -> None:
    x = torch.ones(256, requires_grad=True)
    with LiveBytes() as live:
        y = x
        for _ in range(6):
            y = y.sin()
        torch.autograd.grad(y.sum(), x)
    assert live.peak >= 6 * KIB
    del y
    assert live.live < KIB


class Wide(nn.Module):
    """Between its only two cuts it makes something 32 times as large as any state."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.first(x)).flatten(2)  # [B, 4, 64]
        scores = (y.transpose(1, 2) @ y).softmax(-1)
        four = torch.stack([scores * k for k in (1.0, 2.0, 3.0, 4.0)], 1)  # [B, 4, 64, 64]
        mixed: torch.Tensor = y[:, :, None] @ four
        logits: torch.Tensor = self.last(mixed.mean((2, 3)))
        return logits


@pytest.fixture(scope="module")
def wide() -> Network:
    torch.manual_seed(0)
    network = Network.capture(Wide().eval(), torch.rand(2, 1, 8, 8))
    network.constants = torch.zeros(network.n_outputs)
    return network


def test_what_lies_between_two_cuts_bounds_a_batch(wide: Network) -> None:
    pixels = torch.rand(64, 1, 8, 8)
    found = wide.footprint(pixels[:1])
    assert found.largest <= 4 * 64 * 4 + 4 * 64 * 4
    assert found.forward >= 4 * 64 * 64 * 4
    assert found.backward >= found.forward
    zeros = np.zeros(64, np.int64)
    objective = Objective(pixels, zeros, np.full(64, 1 / 64), zeros)
    memory = 4 << 20
    game = NeuronGame(wide, objective, lambda images: images, 8, memory=memory)
    assert 2 <= game.chunk < 64
    assert game.chunk * found.forward <= memory
    images = game.images(np.arange(game.chunk))
    with LiveBytes() as live:
        wide.masked_logits(images, np.ones((1, wide.n_filters), bool))
    assert live.peak <= memory
    large = NeuronGame(wide, objective, lambda images: images, 8, memory=1 << 30)
    rows = np.random.default_rng(0).random((6, wide.n_filters)) < 0.5
    batch = game.full_batch()
    assert np.array_equal(game.evaluate(rows, batch).values, large.evaluate(rows, batch).values)


def test_a_trail_never_holds_more_than_its_bytes() -> None:
    torch.manual_seed(0)
    layers = [layer for _ in range(12) for layer in (nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())]
    module = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    network = Network.capture(module, torch.rand(2, 4, 16, 16))
    network.constants = torch.zeros(network.n_outputs)
    images, whole = torch.rand(8, 4, 16, 16), np.ones(network.n_filters, bool)
    state = 8 * network.footprint(images[:1]).largest
    peaks = {}
    for states in (0, 2, 12):
        with LiveBytes() as live:
            trail = Trail(network, images, states * state)
            first = trail.logits(whole)
        peaks[states] = live.peak
        assert torch.equal(first, network.logits(images))
    assert peaks[2] <= peaks[0] + 2 * state  # in its first run, too
    assert peaks[12] >= peaks[0] + 8 * state
