"""`auto`'s rule on figures made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from repair_engine.edits.deciding import smallest, tuning_share

RNG = np.random.default_rng(0)
SIZES = [(0, 0), (2, 50), (2, 40), (300, 300)]


def draws(values: list[float], noise: float) -> np.ndarray:
    """Resamples in which all candidates share the images' noise, and each has a little of its own."""
    return np.array(values) + RNG.normal(0, 0.1, (4000, 1)) + RNG.normal(0, noise, (4000, len(values)))


@pytest.mark.parametrize(
    ("values", "feasible", "chosen"),
    [
        ([0.50, 0.60, 0.61, 0.70], [True, True, True, True], 3),  # clearly the best, though large
        ([0.50, 0.695, 0.69, 0.70], [True, True, True, True], 2),  # near the best: fewest units, then parameters
        ([0.50, 0.695, 0.60, 0.70], [True, True, True, True], 1),
        ([0.50, 0.60, 0.61, 0.70], [True, True, True, False], 2),  # outside a limit
        ([0.695, 0.69, 0.69, 0.70], [True, True, True, True], 0),  # a gain within the noise: nothing is changed
    ],
)
def test_the_smallest_within_one_standard_error_of_the_best(values: list, feasible: list, chosen: int) -> None:
    found, behind = smallest(np.array(values), draws(values, 0.01), np.array(feasible), SIZES)
    assert found == chosen
    best = int(np.argmax(np.where(feasible, values, -1)))
    assert behind[best] == 0


def test_the_noise_that_counts_is_that_of_the_difference() -> None:
    """A standard error of .1 on each figure would call .60 and .70 alike; the images are the same, so they are not."""
    values = [0.5, 0.6, 0.6, 0.7]
    assert smallest(np.array(values), draws(values, 0.001), np.ones(4, bool), SIZES)[0] == 3


def test_what_may_be_spent_in_addition() -> None:
    assert tuning_share("ablate") == pytest.approx(0.3)  # the three controls
    assert tuning_share("biases") == pytest.approx(0.3)
    assert tuning_share("ablate+head") == pytest.approx(0.4)
    assert tuning_share("auto") == pytest.approx(0.7)
