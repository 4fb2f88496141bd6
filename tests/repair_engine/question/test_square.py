"""Square: inside the ball, within its budget, without gradients, never worse than clean, better than noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from repair_engine.question.attacks import AttackSettings, Queried, predicted_classes, random_point, square
from repair_engine.question.attacks.square import judge, square_share, two_bumps
from tests.repair_engine.tiny import World

BALLS = {"linf": 0.08, "l2": 0.9}


class Counted:
    """Logits of a module, counting the images asked for."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.asked = module, 0

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        self.asked += len(pixels)
        return self.module(pixels)


def right(world: World, n: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    """Clean images that the network gets right, with their labels."""
    pixels, labels = world.images.tensor(), torch.from_numpy(world.images.labels)
    rows = torch.nonzero(world.module(pixels).argmax(1) == labels).flatten()[::2][:n]
    return pixels[rows], labels[rows]


def attacked(
    world: World, norm: str, queries: int = 200, targeted: bool = False, seed: int = 0
) -> tuple[Queried, torch.Tensor, torch.Tensor]:
    pixels, labels = right(world)
    goals = (labels + 1) % 3 if targeted else labels
    settings = AttackSettings.of("standard", BALLS[norm], norm=norm, targeted=targeted)
    return (
        square(world.module, pixels, goals, settings, queries, [(seed, i) for i in range(len(pixels))]),
        pixels,
        goals,
    )


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("targeted", [False, True])
def test_inside_the_ball_and_what_it_says_is_so(sabotaged: World, norm: str, targeted: bool) -> None:
    found, pixels, goals = attacked(sabotaged, norm, targeted=targeted)
    change = (found.pixels - pixels).flatten(1)
    size = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
    assert float(size.max()) <= BALLS[norm] + 1e-5
    assert float(found.pixels.min()) >= 0
    assert float(found.pixels.max()) <= 1
    hit = sabotaged.module(found.pixels).argmax(1) == goals
    assert ((hit if targeted else ~hit).numpy() == found.success).all()
    assert found.success.sum() > 0
    clean_loss, _ = judge(sabotaged.module(pixels), goals, targeted)
    loss, _ = judge(sabotaged.module(found.pixels), goals, targeted)
    assert (loss <= clean_loss + 1e-6).all()


@pytest.mark.parametrize("norm", BALLS)
def test_the_budget_is_respected_and_counted(sabotaged: World, norm: str) -> None:
    pixels, labels = right(sabotaged)
    settings = AttackSettings.of("standard", BALLS[norm], norm=norm)
    for queries in (1, 2, 30):
        model = Counted(sabotaged.module)
        found = square(model, pixels, labels, settings, queries, [(0, i) for i in range(len(pixels))])
        assert found.queries.max() <= queries
        assert found.queries.sum() == model.asked
        assert (found.queries[~found.success] == queries).all()


@pytest.mark.parametrize("norm", BALLS)
def test_more_queries_find_no_less_and_beat_as_many_random_points(sabotaged: World, norm: str) -> None:
    short, pixels, labels = attacked(sabotaged, norm, queries=5)
    found, _, _ = attacked(sabotaged, norm, queries=200)
    assert found.success.sum() >= short.success.sum()
    settings = AttackSettings.of("standard", BALLS[norm], norm=norm)
    generator, fooled = torch.Generator().manual_seed(0), torch.zeros(len(pixels), dtype=torch.bool)
    for _ in range(200):
        fooled |= sabotaged.module(random_point(pixels, settings, generator)).argmax(1) != labels
    assert found.success.sum() > int(fooled.sum())


def test_an_image_does_not_depend_on_its_neighbours(sabotaged: World) -> None:
    together, pixels, labels = attacked(sabotaged, "linf", 40)
    settings = AttackSettings.of("standard", BALLS["linf"])
    for i in (0, 7):
        alone = square(sabotaged.module, pixels[i : i + 1], labels[i : i + 1], settings, 40, [(0, i)])
        torch.testing.assert_close(alone.pixels[0], together.pixels[i])
        assert alone.queries[0] == together.queries[i]
    other, _, _ = attacked(sabotaged, "linf", 40, seed=1)
    assert not torch.equal(other.pixels, together.pixels)


class Stairs(nn.Module):
    """A linear classifier behind a rounding: its gradients are zero everywhere."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(torch.round(x.flatten(1) * 255) / 255)


def test_needs_no_gradients() -> None:
    """PGD stands still where gradients are zero; queries do not care."""
    torch.manual_seed(0)
    model = Stairs(nn.Linear(64, 2)).requires_grad_(False)
    pixels = torch.rand(30, 1, 8, 8) * 0.6 + 0.2
    labels = model(pixels).argmax(1)
    x = pixels.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(model(x).sum(), x)
    assert not gradient.any()
    settings = AttackSettings.of("standard", 0.1)
    found = square(model, pixels, labels, settings, 300, [(0, i) for i in range(30)])
    assert found.success.mean() > 0.8


@pytest.mark.parametrize("norm", BALLS)
def test_a_linear_classifier_is_beaten_near_the_least_size_that_beats_it(norm: str) -> None:
    """Two classes with margin m and weight w: ℓ∞ needs ε > m/‖w‖₁, ℓ2 needs ε > m/‖w‖₂. Below nobody wins."""
    weight = torch.linspace(-1, 1, 144)
    pixels = torch.full((1, 1, 12, 12), 0.5)

    def logits(x: torch.Tensor) -> torch.Tensor:
        return (x.flatten(1) @ weight + 0.3)[:, None]

    least = 0.3 / float(weight.abs().sum() if norm == "linf" else weight.norm())
    for factor, wins in ((0.98, False), (3.0, True)):
        settings = AttackSettings.of("standard", factor * least, norm=norm)
        found = square(logits, pixels, torch.tensor([1]), settings, 500, [(0, 0)])
        assert bool(found.success[0]) == wins


def test_epsilon_zero_asks_once_and_changes_nothing(sabotaged: World) -> None:
    pixels, labels = right(sabotaged)
    settings = AttackSettings.of("standard", 0.0, zero=True)
    found = square(sabotaged.module, pixels, labels, settings, 50, [(0, i) for i in range(len(pixels))])
    assert torch.equal(found.pixels, pixels)
    assert not found.success.any()
    assert (found.queries == 1).all()


def test_the_schedule_of_the_paper() -> None:
    """Halved at 10, 50, 200, 500, 1000, 2000, 4000, 6000 and 8000 of 10,000 queries."""
    shares = [square_share(i, 10_000) / square_share(0, 10_000) for i in range(10_000)]
    changes = [i for i in range(1, 10_000) if shares[i] != shares[i - 1]]
    assert changes == [11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001]
    assert shares[-1] == 2**-9
    assert square_share(5, 500) == square_share(100, 10_000)


@pytest.mark.parametrize("side", [1, 2, 3, 5, 8, 13])
def test_bumps_have_length_one(side: int) -> None:
    rng = np.random.default_rng(0)
    made = two_bumps(side, rng)
    assert made.shape == (side, side)
    assert np.sqrt((made**2).sum()) == pytest.approx(1)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 9), (3, 4, 3), (2, 28, 5)])
@pytest.mark.parametrize("norm", BALLS)
def test_images_of_any_shape(shape: tuple[int, int, int], norm: str) -> None:
    torch.manual_seed(0)
    pixels = torch.rand(2, *shape)
    model = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 3)).requires_grad_(False)
    labels = predicted_classes(model(pixels))
    settings = AttackSettings.of("standard", 0.2, norm=norm)
    found = square(model, pixels, labels, settings, 30, [(0, 0), (0, 1)])
    assert found.pixels.shape == pixels.shape
    assert torch.isfinite(found.pixels).all()
