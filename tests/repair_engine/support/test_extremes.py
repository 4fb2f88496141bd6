"""Intervals for the change of a largest figure hold, also where percentiles of resampled maxima do not."""

from __future__ import annotations

import numpy as np
import pytest

from repair_engine.studies import fairness, odds
from repair_engine.support.extremes import (
    PAIRED,
    change_of_the_largest,
    change_of_the_largest_of_many,
    change_of_the_range,
    ordered_pairs,
)

RESAMPLES = 500


def shares(before: np.ndarray, after: np.ndarray, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Shares of n paired images in each cell and their bootstrap: [2, J] and [2, R, J]."""
    first = rng.random((n, len(before)))
    second = np.where(rng.random(first.shape) < 0.8, first, rng.random(first.shape))
    kinds = 2 * (first < before) + (second < after)
    counts = np.stack([(kinds == kind).sum(axis=0) for kind in range(4)], axis=1)
    drawn = rng.multinomial(n - 1, counts / n, size=(RESAMPLES, len(before))) / (n - 1)
    both = counts[None] / n
    return (
        np.concatenate([both[..., 2] + both[..., 3], both[..., 1] + both[..., 3]]),
        np.stack([drawn[..., 2] + drawn[..., 3], drawn[..., 1] + drawn[..., 3]]),
    )


CASES = {
    "seven of eight are mended": (np.full(8, 0.4), np.array([0.4, *[0.1] * 7])),
    "seven of eight break": (np.array([0.4, *[0.1] * 7]), np.full(8, 0.4)),
    "all stay": (np.full(8, 0.4), np.full(8, 0.4)),
    "the worst is mended": (np.array([0.5, *[0.1] * 7]), np.full(8, 0.12)),
    "a staircase": (np.linspace(0.1, 0.5, 8), np.linspace(0.1, 0.4, 8)),
}


@pytest.mark.parametrize("name", CASES)
def test_they_hold_whichever_figure_is_the_largest(name: str) -> None:
    before, after = CASES[name]
    truth = after.max() - before.max()
    rng, runs = np.random.default_rng(5), 60
    held = percentiles = 0
    for _ in range(runs):
        seen, drawn = shares(before, after, 60, rng)
        lower, upper = change_of_the_largest(seen, drawn)
        value = np.diff(seen.max(axis=1))[0]
        assert lower <= value <= upper
        held += lower <= truth <= upper
        low, high = np.quantile(np.diff(drawn.max(axis=2), axis=0)[0], [0.025, 0.975])
        percentiles += low <= truth <= high
    assert held >= 0.95 * runs - 2  # one error of a share of 60 is 1.7 runs
    if "seven" in name:
        assert percentiles < 0.85 * runs  # why this module is here


def test_of_one_figure_it_is_an_ordinary_interval() -> None:
    seen, drawn = shares(np.array([0.5]), np.array([0.3]), 400, np.random.default_rng(0))
    lower, upper = change_of_the_largest(seen, drawn)
    low, high = np.quantile(np.diff(drawn[:, :, 0], axis=0)[0], [0.025, 0.975])
    assert (lower, upper) == pytest.approx((low, high), abs=0.015)


def test_where_nothing_changed_the_change_is_none() -> None:
    seen, drawn = shares(np.full(5, 0.3), np.full(5, 0.3), 100, np.random.default_rng(0))
    same = np.stack([seen[0], seen[0]]), np.stack([drawn[0], drawn[0]])
    assert change_of_the_largest(*same) == (0, 0)
    assert change_of_the_range(*same) == (0, 0)


def test_a_gap_is_the_largest_of_all_differences_and_more_subgroups_make_it_wider() -> None:
    rng = np.random.default_rng(1)
    ends = []
    for groups in (2, 4, 30):
        before, after = np.full(groups, 0.6), np.full(groups, 0.6)
        before[0] = 0.2
        seen, drawn = shares(before, after, 200, rng)
        lower, upper = change_of_the_range(seen, drawn)
        assert lower < -0.4 + 0.1
        assert lower <= np.diff(np.ptp(seen, axis=1))[0] <= upper
        ends.append(upper - lower)
    assert ends == sorted(ends)
    assert 30 * 29 > PAIRED >= 4 * 3


def test_of_many_figures_each_has_an_interval_of_its_own() -> None:
    seen, errors = np.array([[0.5, 0.1], [0.2, 0.1]]), np.array([[0.1, 0.1], [0.1, 0.1]])
    lower, upper = change_of_the_largest_of_many(seen, errors)
    z = 2.498  # of 1 − .05 / 8
    assert (lower, upper) == pytest.approx((-0.3 - 2 * 0.1 * z, -0.3 + 2 * 0.1 * z), abs=0.001)
    first, second = ordered_pairs(3)
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]


def test_equalized_odds_of_many_rates_take_the_wider_way_and_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    labels = np.repeat(np.arange(3), 200)
    groups = ["a", "b"] * 300
    before = np.where(rng.random(600) < np.where(np.array(groups) == "a", 0.9, 0.5), labels, (labels + 1) % 3)
    after = np.where(rng.random(600) < 0.85, labels, (labels + 1) % 3)
    names = ["ant", "bee", "cat"]
    few, _ = odds.describe(groups, names, labels, before, after, seed=0)
    monkeypatch.setattr(odds, "PAIRED", 1)
    many, _ = odds.describe(groups, names, labels, before, after, seed=0)
    assert few is not None
    assert many is not None
    assert many["change"]["lower"] < few["change"]["lower"] < few["change"]["value"]
    assert few["change"]["value"] < few["change"]["upper"] < many["change"]["upper"]
    assert many["change"]["upper"] - many["change"]["lower"] < 4 * (few["change"]["upper"] - few["change"]["lower"])


def test_a_worst_subgroup_that_stays_is_not_called_improved() -> None:
    """Nine subgroups, of which the repair mends eight: the worst is as bad as before."""
    rng, claims = np.random.default_rng(3), 0
    codes = np.repeat(np.arange(9), 60)
    names = [f"g{i}" for i in range(9)]
    labels = np.tile(np.repeat([0, 1], 30), 9)
    for _ in range(20):
        u = rng.random(len(codes))
        before, after = u < 0.5, np.where(codes == 0, rng.random(len(codes)) < 0.5, u < 0.9)
        found = fairness.describe(names, codes, labels, before, after, seed=0)
        assert found["worst"] is not None
        assert found["gap"] is not None
        claims += found["worst"]["change"]["lower"] > 0
    assert claims <= 1
