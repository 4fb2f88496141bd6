"""The authors' loop on a game whose values are known: marginals, truncation, patience, threshold and active set."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.masked import MaskedValue
from benchmarks.methods import Samples
from benchmarks.peers import authors
from tests.benchmarks.additive import additive_case


def everything(owned: list[int]) -> tuple[MaskedValue, np.ndarray]:
    """V on all images, and the values."""
    case, values = additive_case(owned)
    value = MaskedValue(case.base, sum(owned))
    value.use(authors.uniform_batch(case.base.objective, sum(owned), np.random.default_rng(0)))
    return value, values


def test_its_values_on_an_additive_game() -> None:
    case, values = additive_case([30, 1, 12, 5])
    snapshots = authors.run(case, 0.05, seed=0)
    assert snapshots[-1].values == pytest.approx(values)
    assert snapshots[-1].std_errors == pytest.approx(np.zeros(4), abs=1e-9)


def test_a_permutation_ends_after_more_than_five_dead_steps() -> None:
    value, values = everything([2] * 30)
    order = np.random.default_rng(1).permutation(30)
    marginals = authors.permutation(value, order, np.ones(30, dtype=bool), base=0.001)
    # V is 1 − r/30: V − 0.001 ≤ 0.2 from r = 24 on, so r = 29 is the sixth dead step and the last one evaluated
    assert value.evaluations == 30 * 60
    assert marginals[order[:29]] == pytest.approx(values[order[:29]])
    assert marginals[order[29]] == 0.0


def test_inactive_filters_are_removed_but_not_measured() -> None:
    value, values = everything([1, 2, 3, 4])
    active = np.array([True, False, True, False])
    marginals = authors.permutation(value, np.array([1, 0, 2, 3]), active, base=0.001)
    assert marginals == pytest.approx(np.where(active, values, 0.0))
    # V(N); after 1 is gone: V before 0 anew, V after 0, V after 2
    assert value.evaluations == 4 * 10


def test_contenders_straddle_the_value_of_rank_k_plus_one() -> None:
    samples = Samples(4)
    for _ in range(4000):
        samples.add(np.array([0.4, 0.1, 0.1005, -0.2]))
    # no spread: half-widths are 7/3 ln 10 / 3999 = 0.00134, and the threshold for k = 1 is 0.1005
    assert authors.contenders(samples, 1).tolist() == [False, True, True, False]


def test_few_samples_leave_everyone_active() -> None:
    samples = Samples(3)
    samples.add(np.array([0.9, 0.0, -0.9]))
    assert authors.contenders(samples, 1).all()


def test_uniform_batches_weigh_to_one() -> None:
    case, _ = additive_case([100, 60])
    batch = authors.uniform_batch(case.base.objective, 128, np.random.default_rng(0))
    assert len(np.unique(batch.indices)) == 128
    assert batch.weights.sum() == pytest.approx(1.0)
