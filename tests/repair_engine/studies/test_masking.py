"""Self-tests of attacks: silent on an honest network, and each sign is seen on one that masks its gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from repair_engine.models.preprocessing import Preprocessing
from repair_engine.question.attacks import AttackSettings
from repair_engine.question.victims import AttackImages, BlackBox, Victim, black_box, white_box
from repair_engine.studies import masking
from repair_engine.studies.attack_curves import Curves, Point, measure_curves
from tests.repair_engine.tiny import World

CPU = torch.device("cpu")
SETTINGS = AttackSettings.of("standard", 0.15, 6)


def victim_of(module: nn.Module) -> Victim:
    return Victim("the model", module, Preprocessing(channels=1), CPU)


def attacked(world: World) -> AttackImages:
    """Images that the world's network gets right."""
    right = world.module(world.images.tensor()).argmax(1).numpy() == world.images.labels
    rows = np.flatnonzero(right)[::2]
    labels = world.images.labels[rows]
    return AttackImages(rows, torch.from_numpy(world.images.pixels[rows])[:, None], labels, labels, targeted=False)


class Rounded(nn.Module):
    """The same predictions with gradients that are zero everywhere: a shattered defence."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(torch.round(x * 255) / 255)


class Misled(nn.Module):
    """The same logits with gradients of the opposite sign: every step of PGD makes the image safer."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.inner(x)
        return 2 * out.detach() - out


def checks(module: nn.Module, images: AttackImages) -> dict[str, masking.Check]:
    victim = victim_of(module)
    white = victim.predict(white_box(victim.logits, images, SETTINGS, torch.Generator().manual_seed(0), CPU))
    curves = measure_curves(victim, images, SETTINGS, white, 0)
    black = black_box(victim, images, SETTINGS, 200, 0)
    made = [
        masking.zero_equals_clean(curves, victim.predict(images.pixels)),
        masking.grows_with_epsilon(curves),
        masking.grows_with_steps(curves),
        masking.black_box_is_not_better(images, white, black, 200),
        masking.random_points_are_not_better(victim, images, white, SETTINGS, 0),
        masking.unbounded_wins_all(victim, images, SETTINGS, 0),
    ]
    return {check.key: check for check in made}


def test_an_honest_network_gives_no_sign(skewed: World) -> None:
    found = checks(skewed.module, attacked(skewed))
    assert {key for key, check in found.items() if check.warns} == set()


@pytest.mark.parametrize("mask", [Rounded, Misled])
def test_masked_gradients_are_seen(skewed: World, mask: type[nn.Module]) -> None:
    images = attacked(skewed)
    found = checks(mask(skewed.module), images)
    seen = {key for key, check in found.items() if check.warns}
    assert {"black-box-is-not-better", "unbounded-wins-all"} <= seen
    assert "epsilon-zero-equals-clean" not in seen
    figures = found["black-box-is-not-better"].figures
    assert figures["black_box"] > figures["white_box"]
    assert figures["n"] == len(images)
    assert found["unbounded-wins-all"].figures["success"] < 1


def test_a_success_that_falls_with_epsilon_or_steps_is_said() -> None:
    """40 images; success in points given by hand."""
    n = 40
    images = AttackImages(np.arange(n), torch.zeros(n, 1, 2, 2), np.zeros(n, int), np.zeros(n, int), targeted=False)

    def curves(*won: int) -> Curves:
        points = tuple(
            Point(SETTINGS.at(epsilon=0.1 * i, steps=i + 1), (np.arange(n) < w).astype(int)) for i, w in enumerate(won)
        )
        return Curves(images, points, points)

    for won, epsilon, steps in (
        ((0, 10, 20, 40), False, False),
        ((0, 20, 18, 40), False, False),  # two images fewer: chance
        ((0, 30, 10, 40), True, False),
        ((0, 0, 0, 0), True, False),
        ((30, 40, 40, 5), True, True),
        ((0, 40, 40, 40), False, False),
    ):
        assert masking.grows_with_epsilon(curves(*won)).warns == epsilon, won
        assert masking.grows_with_steps(curves(*won)).warns == steps, won


def test_a_prediction_that_differs_at_epsilon_zero_is_said(skewed: World) -> None:
    images = attacked(skewed)
    point = Point(SETTINGS.at(epsilon=0.0), images.labels)
    same, other = images.labels, np.where(np.arange(len(images)) == 3, images.labels + 1, images.labels)
    curves = Curves(images, (point,), ())
    assert not masking.zero_equals_clean(curves, same).warns
    check = masking.zero_equals_clean(curves, other)
    assert check.warns
    assert check.figures["differing"] == 1


def test_random_points_that_win_are_counted(skewed: World) -> None:
    """A white-box attack that did nothing: what random points win is what it missed."""
    images, victim = attacked(skewed), victim_of(skewed.module)
    wide = AttackSettings.of("standard", 0.5)
    check = masking.random_points_are_not_better(victim, images, images.labels, wide, 0)
    assert check.warns
    assert check.figures["won"] > 0
    everything = masking.random_points_are_not_better(victim, images, images.labels + 1, wide, 0)
    assert not everything.warns
    assert everything.figures["n"] == 0


def test_equal_counts_are_no_sign() -> None:
    images = AttackImages(np.arange(2), torch.zeros(2, 1, 2, 2), np.zeros(2, int), np.zeros(2, int), targeted=False)
    check = masking.black_box_is_not_better(images, np.array([1, 0]), BlackBox(np.array([0, 1]), np.array([5, 5])), 10)
    assert not check.warns
    assert check.figures["black_box_only"] == 1
