"""Time to quality: read off curves by hand, and extrapolated for methods whose error is known in closed form."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from benchmarks.methods import Snapshot
from benchmarks.metrics import Reference
from benchmarks.reach import Extrapolation, observed, reach

M = 300  # filters of either kind


def two_levels(noise: float = 0.0) -> Reference:
    """Half of the filters are worth +1, half −1: the top half is right where the noise keeps its sign."""
    values = np.concatenate([np.ones(M), -np.ones(M)])
    return Reference(values, np.full(2 * M, noise), np.ones(2 * M))


def needed(level: float, sigma: float) -> float:
    """How much more time brings the share of the right half from that of noise `sigma` to `level`.

    The share is Φ(1/σ), and σ falls with the square root of time.
    """
    return (sigma * NormalDist().inv_cdf(level)) ** 2


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
def test_extrapolation_by_standard_errors(level: float) -> None:
    reference = two_levels()
    t = np.full(2 * M, 50)
    last = Snapshot(10.0, 1000, -reference.values, np.full(2 * M, 4.0), t)
    found = reach([last], Extrapolation(last, reference), level, M, "top")
    assert found.extrapolated
    assert found.seconds == pytest.approx(10.0 * needed(level, 4.0), rel=0.1)
    assert found.evaluations == pytest.approx(100 * found.seconds)


def test_extrapolation_by_error_against_the_reference() -> None:
    reference = two_levels()
    rng = np.random.default_rng(0)
    values = 0.01 * (reference.values + 3.0 * rng.normal(size=2 * M))  # its scale is off: only ranks matter
    last = Snapshot(10.0, 1000, values)
    found = Extrapolation(last, reference).reach(0.9, M, "bottom")
    assert found.seconds == pytest.approx(10.0 * needed(0.9, 3.0), rel=0.3)


def test_spread_of_few_mostly_zero_samples_is_not_taken_at_its_word() -> None:
    reference = two_levels()
    t = np.full(2 * M, 3)
    errors = np.zeros(2 * M)
    errors[:20] = 4.0 * math.sqrt(2 * M / 20)  # all the spread was seen on 20 filters
    last = Snapshot(10.0, 1000, -reference.values, errors, t)
    found = Extrapolation(last, reference).reach(0.9, M, "top")
    assert found.seconds == pytest.approx(10.0 * needed(0.9, 4.0), rel=0.3)


def test_a_method_that_knows_nothing_is_not_extrapolated() -> None:
    reference = two_levels()
    last = Snapshot(10.0, 1000, np.random.default_rng(0).normal(size=2 * M))
    found = Extrapolation(last, reference).reach(0.8, M, "top")
    assert found.seconds is None
    assert "nothing to do with" in found.note


def test_a_noisy_reference_does_not_keep_a_method_from_getting_there() -> None:
    values = np.random.default_rng(0).normal(size=2 * M)
    reference = Reference(values, np.full(2 * M, 0.5), np.ones(2 * M))
    last = Snapshot(10.0, 1000, values, np.full(2 * M, 0.4), np.full(2 * M, 50))
    model = Extrapolation(last, reference)
    assert model.seen_at_end(50, "top") < 0.8 < 0.95 == pytest.approx(model.overlap(1e4, 50, "top"), abs=0.05)
    found = model.reach(0.95, 50, "top")
    assert found.extrapolated
    assert found.seconds > 50.0


def test_a_reference_that_is_mostly_noise_is_not_extrapolated_from() -> None:
    values = np.random.default_rng(0).normal(size=2 * M)
    reference = Reference(values, np.full(2 * M, 0.8), np.ones(2 * M))
    last = Snapshot(10.0, 1000, values, np.full(2 * M, 0.4), np.full(2 * M, 50))
    found = Extrapolation(last, reference).reach(0.8, 50, "top")
    assert found.seconds is None
    assert "too noisy" in found.note


def test_what_was_not_seen_is_never_earlier_than_the_end() -> None:
    reference = two_levels()
    last = Snapshot(10.0, 1000, -reference.values, np.full(2 * M, 0.1), np.full(2 * M, 50))
    found = reach([last], Extrapolation(last, reference), 0.9, M, "top")
    assert found.seconds == pytest.approx(10.0)
    assert found.extrapolated


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.2, 0.6, 1.0, 1.0], 2.0 * 2**0.5),  # halfway in log time between 2 and 4
        ([0.8, 0.9, 0.9, 0.9], 1.0),  # from the start
        ([0.9, 0.6, 0.6, 0.9], 4.0 * 2 ** (2 / 3)),  # that it was there before does not count
        ([0.9, 0.9, 0.9, 0.7], None),
    ],
)
def test_observed(scores: list[float], expected: float | None) -> None:
    assert observed([1.0, 2.0, 4.0, 8.0], scores, 0.8) == (None if expected is None else pytest.approx(expected))
