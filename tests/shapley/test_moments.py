import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shapley import Moments

seeds = st.integers(0, 2**32 - 1)


def moments_of(samples, where):
    """samples [T, M, n], where [T, n]: one merge per sample."""
    total = Moments.empty(samples.shape[1], samples.shape[2])
    for sample, seen in zip(samples, where, strict=True):
        total = total.merge(Moments.of(sample, seen))
    return total


@given(seeds, st.lists(st.integers(0, 7), min_size=1, max_size=6))
def test_merge_of_parts_is_the_whole(seed, sizes):
    rng = np.random.default_rng(seed)
    t = sum(sizes)
    samples = rng.normal(size=(t, 2, 3)) * 10.0 ** rng.integers(-3, 3) + 5.0
    where = rng.random((t, 3)) < 0.7
    cuts = np.cumsum(sizes)[:-1]
    merged = Moments.empty(2, 3)
    for part, seen in zip(np.split(samples, cuts), np.split(where, cuts), strict=True):
        merged = merged.merge(moments_of(part, seen))
    for i in range(3):
        own = samples[where[:, i], :, i]  # each variable has its own count
        assert merged.count[i] == len(own)
        if len(own):
            np.testing.assert_allclose(merged.mean[:, i], own.mean(axis=0), rtol=1e-10)
        if len(own) > 1:
            np.testing.assert_allclose(merged.variance[:, i], own.var(axis=0, ddof=1), rtol=1e-8, atol=1e-20)
            expected = own.std(axis=0, ddof=1) / np.sqrt(len(own))
            np.testing.assert_allclose(merged.std_error[:, i], expected, rtol=1e-8, atol=1e-12)
        else:
            assert np.isnan(merged.variance[:, i]).all()


@given(seeds)
def test_merging_an_empty_set_changes_no_bit(seed):
    rng = np.random.default_rng(seed)
    some = moments_of(rng.normal(size=(5, 1, 4)), np.ones((5, 4), dtype=bool))
    empty = Moments.empty(1, 4)
    for both in (some.merge(empty), empty.merge(some)):
        np.testing.assert_array_equal(both.count, some.count)
        np.testing.assert_array_equal(both.mean, some.mean)
        np.testing.assert_array_equal(both.m2, some.m2)


def test_spread_about_another_centre():
    samples = np.array([1.0, 2.0, 6.0])[:, None, None]
    total = moments_of(samples, np.ones((3, 1), dtype=bool))
    #                        (1-2)^2 + (2-2)^2 + (6-2)^2
    assert total.spread_about(np.array([[2.0]]))[0, 0] == pytest.approx(17.0)


def test_different_shapes_do_not_merge():
    with pytest.raises(ValueError, match="do not merge"):
        Moments.empty(1, 3).merge(Moments.empty(1, 4))
