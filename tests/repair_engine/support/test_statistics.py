from __future__ import annotations

import math

import numpy as np
import pytest

from repair_engine.support.statistics import (
    REFUSE_BELOW,
    WARN_BELOW,
    cell_flag,
    holm,
    mcnemar,
    paired_bootstrap,
    resampling_cells,
    wilson,
)


def test_wilson_by_hand() -> None:
    # centre (p + z²/2n) / (1 + z²/n), half width z √(p(1−p)/n + z²/4n²) / (1 + z²/n); p = .8, n = 10
    z = 1.959963984540054
    centre = (0.8 + z * z / 20) / (1 + z * z / 10)
    half = z * math.sqrt(0.8 * 0.2 / 10 + z * z / 400) / (1 + z * z / 10)
    found = wilson(8, 10)
    assert found.estimate == 0.8
    assert found.lower == pytest.approx(centre - half, abs=1e-12)
    assert found.upper == pytest.approx(centre + half, abs=1e-12)
    # Newcombe (1998), table I: 81/263 -> .2553 to .3662; 0/20 -> 0 to .1611
    assert (wilson(81, 263).lower, wilson(81, 263).upper) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert (wilson(0, 20).lower, wilson(0, 20).upper) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_wilson_at_the_edges() -> None:
    empty = wilson(0, 0)
    assert math.isnan(empty.estimate)
    assert (empty.lower, empty.upper) == (0.0, 1.0)
    assert wilson(5, 5).upper == 1.0
    assert wilson(5, 5).lower < 1.0
    with pytest.raises(ValueError, match="6 successes of 5"):
        wilson(6, 5)


def test_bootstrap_estimate_is_the_weighted_difference() -> None:
    before = np.array([1, 0, 0, 1, 1, 0])
    after = np.array([1, 1, 1, 0, 1, 1])
    weights = np.array([0.1, 0.1, 0.1, 0.2, 0.2, 0.3])
    cells = np.array([0, 0, 0, 1, 1, 1])
    found = paired_bootstrap(before, after, weights, cells, seed=0)
    assert found.estimate == pytest.approx(0.1 + 0.1 - 0.2 + 0.3)
    assert found.lower <= found.estimate <= found.upper
    assert paired_bootstrap(before, after, weights, cells, seed=0) == found


def test_bootstrap_variance_is_the_stratified_one() -> None:
    rng = np.random.default_rng(0)
    cells = np.repeat([0, 1, 2], [400, 50, 5])
    before, after = rng.integers(0, 2, 455), rng.integers(0, 2, 455)
    weights = np.repeat([1 / 3 / 400, 1 / 3 / 50, 1 / 3 / 5], [400, 50, 5])
    gain = weights * (after - before)
    variance = sum(n * gain[cells == c].var(ddof=1) for c, n in enumerate((400, 50, 5)))
    found = paired_bootstrap(before, after, weights, cells, seed=0, resamples=40_000, level=0.6827)
    assert (found.upper - found.lower) / 2 == pytest.approx(math.sqrt(variance), rel=0.1)


def test_bootstrap_without_any_change_is_zero() -> None:
    same = np.array([1, 0, 1, 0])
    found = paired_bootstrap(same, same, np.full(4, 0.25), np.array([0, 0, 1, 1]), seed=0)
    assert (found.estimate, found.lower, found.upper) == (0.0, 0.0, 0.0)


def test_bootstrap_takes_fractional_outcomes_and_single_image_cells() -> None:
    rng = np.random.default_rng(1)
    before, after = rng.random(101), rng.random(101)
    cells = np.array([0] * 100 + [1])
    found = paired_bootstrap(before, after, np.full(101, 1 / 101), cells, seed=0)
    assert paired_bootstrap(before, after, np.full(101, 1 / 101), cells, seed=1) != found
    assert found.lower < found.estimate < found.upper
    with pytest.raises(ValueError, match="2 outcomes and 1 cells"):
        paired_bootstrap(before[:2], after[:2], np.ones(2), cells[:1], seed=0)


def test_bootstrap_coverage() -> None:
    """95% intervals over 400 sets of two cells cover the true gain within Monte-Carlo error of nominal."""
    rng = np.random.default_rng(2)
    chances = {-1: 0.05, 0: 0.75, 1: 0.2}  # lost, as before, won
    truth = 0.15
    cells, weights = np.repeat([0, 1], [120, 40]), np.repeat([0.5 / 120, 0.5 / 40], [120, 40])
    covered = 0
    for seed in range(400):
        change = rng.choice(list(chances), p=list(chances.values()), size=160)
        found = paired_bootstrap(np.zeros(160), change, weights, cells, seed, resamples=1000)
        covered += found.lower <= truth <= found.upper
    assert covered / 400 >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 400)


@pytest.mark.parametrize("per_class", [1, 2, 3])
def test_coverage_with_few_images_a_class(per_class: int) -> None:
    """Each class has a chance of its own; the truth is over the images that these classes could have given."""
    rng = np.random.default_rng(per_class)
    n, covered, seeds = 120, 0, 200
    cells = np.repeat(np.arange(n // per_class), per_class)
    lost = rng.uniform(0.0, 0.3, n // per_class)[cells]
    for seed in range(seeds):
        u = rng.random(n)
        change = np.where(u < lost, -1, np.where(u > 0.8, 1, 0))
        found = paired_bootstrap(np.zeros(n), change, np.full(n, 1 / n), cells, seed, resamples=1000)
        assert found.lower < found.upper
        covered += found.lower <= 0.2 - lost.mean() <= found.upper
    assert covered / seeds >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / seeds)


def test_a_pool_of_one_image_joins_the_smallest_cell() -> None:
    assert resampling_cells(np.array([0] * 9 + [1] * 5 + [2])).tolist() == [0] * 9 + [1] * 6
    within = resampling_cells(np.array([0, 0, 1, 1, 2, 3]), np.array([0, 0, 0, 1, 1, 1]))
    assert len(set(within[:3])) == len(set(within[3:])) == 1
    assert within[0] != within[3]


def test_of_one_image_nothing_is_known() -> None:
    found = paired_bootstrap(np.ones(1), np.zeros(1), np.ones(1), np.zeros(1, int), seed=0)
    assert (found.estimate, found.lower, found.upper) == (-1.0, -1.0, 1.0)


def pairs(both: int, lost: int, won: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    before = np.repeat([True, True, False, False], [both, lost, won, neither])
    after = np.repeat([True, False, True, False], [both, lost, won, neither])
    return before, after


def test_mcnemar_exact_by_hand() -> None:
    found = mcnemar(*pairs(50, 1, 7, 10))
    # two-sided binomial of 8 discordant pairs: 2 (C(8,0) + C(8,1)) / 2⁸
    assert (found.lost, found.won, found.method) == (1, 7, "exact")
    assert found.p_value == pytest.approx(2 * 9 / 256)
    assert mcnemar(*pairs(5, 3, 3, 5)).p_value == 1.0
    assert mcnemar(*pairs(5, 0, 0, 5)).p_value == 1.0


def test_mcnemar_asymptotic_by_hand() -> None:
    found = mcnemar(*pairs(100, 10, 25, 30))
    statistic = (abs(10 - 25) - 1) ** 2 / 35
    assert found.method == "asymptotic"
    assert found.p_value == pytest.approx(math.erfc(math.sqrt(statistic / 2)))


def test_holm_by_hand() -> None:
    # sorted .01 ·4, .02 ·3, .03 ·2, .04 ·1, each at least the one before
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_small_cells_are_flagged() -> None:
    assert (WARN_BELOW, REFUSE_BELOW) == (100, 30)
    assert [cell_flag(n) for n in (0, 29, 30, 99, 100)] == ["too few", "too few", "few", "few", "ok"]
