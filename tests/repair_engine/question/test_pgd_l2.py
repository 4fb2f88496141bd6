"""PGD in ℓ2: the ball, the direction, success against ε; and where random numbers stand after earlier batches."""

from __future__ import annotations

import pytest
import torch

from repair_engine.question.attacks import AttackSettings, pgd, random_point, skip_starts
from tests.repair_engine.question.test_pgd import attack, success
from tests.repair_engine.tiny import World


@pytest.mark.parametrize("preset", ["paper", "standard"])
@pytest.mark.parametrize("epsilon", [0.01, 0.5, 8.0])
def test_inside_the_ball_and_the_pixel_range(skewed: World, preset: str, epsilon: float) -> None:
    clean, attacked, _ = attack(skewed, AttackSettings.of(preset, epsilon, 7, norm="l2"))
    assert float(attacked.min()) >= 0
    assert float(attacked.max()) <= 1
    assert float((attacked - clean).flatten(1).norm(dim=1).max()) <= epsilon * (1 + 1e-5)
    assert not torch.equal(attacked, clean)


@pytest.mark.parametrize("preset", ["paper", "standard"])
def test_success_grows_with_epsilon(skewed: World, preset: str) -> None:
    rates = [success(skewed, AttackSettings.of(preset, e, 10, norm="l2")) for e in (0.004, 0.3, 1.0, 8.0)]
    assert rates == sorted(rates)
    assert rates[-1] > rates[0] + 0.5


def test_a_linear_classifier_is_moved_along_its_weights() -> None:
    weight = torch.tensor([1.0, -2.0, 0.5, -0.1])
    settings = AttackSettings.of("standard", 0.1, 60, norm="l2")
    clean, goal = torch.full((2, 1, 2, 2), 0.5), torch.tensor([1, 0])
    attacked = pgd(lambda x: (x.flatten(1) @ weight)[:, None], clean, goal, settings, torch.Generator().manual_seed(0))
    moved = (attacked - clean).flatten(1)
    unit = weight / weight.norm()
    for row, sign in ((0, -1.0), (1, 1.0)):
        assert float(moved[row] @ unit) == pytest.approx(sign * 0.1, rel=0.02)


def test_random_points_fill_the_ball() -> None:
    """The radius of a uniform point in d dimensions has the median ε·2^(−1/d), and no direction is preferred."""
    pixels = torch.full((4000, 1, 2, 2), 0.5)
    settings = AttackSettings.of("standard", 0.2, norm="l2")
    change = (random_point(pixels, settings, torch.Generator().manual_seed(0)) - pixels).flatten(1)
    radius = change.norm(dim=1)
    assert float(radius.max()) <= 0.2 + 1e-6
    assert float(radius.median()) == pytest.approx(0.2 * 2 ** (-1 / 4), rel=0.02)
    assert float(change.mean(0).abs().max()) < 4 * 0.2 / 4000**0.5


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_epsilon_zero_changes_nothing(skewed: World, norm: str) -> None:
    clean, attacked, _ = attack(skewed, AttackSettings.of("standard", 0.0, 5, norm=norm, zero=True))
    assert torch.equal(clean, attacked)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_skipped_starts_are_those_of_the_attack(skewed: World, norm: str) -> None:
    """Two batches in a row, and the second alone after the first one's starts were skipped."""
    settings = AttackSettings.of("standard", 0.1, 2, norm=norm, restarts=2)
    clean, goal = skewed.images.tensor(), torch.from_numpy(skewed.images.labels)
    one = torch.Generator().manual_seed(5)
    pgd(skewed.module, clean[:10], goal[:10], settings, one)
    second = pgd(skewed.module, clean[10:16], goal[10:16], settings, one)
    other = torch.Generator().manual_seed(5)
    skip_starts((10, *clean.shape[1:]), settings, other)
    assert torch.equal(pgd(skewed.module, clean[10:16], goal[10:16], settings, other), second)
