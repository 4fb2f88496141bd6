import math

import numpy as np
import pytest
from scipy import stats

from shapley import bounds
from shapley.moments import Moments

DELTA = 0.1
REPEATS = 4000


def one(value):
    return np.array([[float(value)]])


def test_the_paper_s_form_by_hand():
    # sqrt(2 ln(2/.2) .04 / 101) + 7 ln(2/.2) / (3*101 - 1)
    expected = math.sqrt(2 * math.log(10) * 0.04 / 101) + 7 * math.log(10) / 302
    assert bounds.bernstein_paper(one(0.04), np.array([101]), 0.2)[0, 0] == pytest.approx(expected)


def test_the_paper_s_range_term_alone_asks_53727_samples():
    counts = np.array([53_727, 53_728])
    below, reached = bounds.bernstein_paper(np.zeros((1, 2)), counts, 0.2)[0]
    assert reached <= 1e-4 < below


def test_the_two_sided_form_by_hand():
    # sqrt(2 ln(4/.2) .04 / 101) + 7 * 2 * ln(4/.2) / (3*100)
    expected = math.sqrt(2 * math.log(20) * 0.04 / 101) + 14 * math.log(20) / 300
    assert bounds.bernstein(one(0.04), np.array([101]), 0.2)[0, 0] == pytest.approx(expected)


@pytest.mark.parametrize("function", [bounds.bernstein_paper, bounds.bernstein, bounds.clt])
def test_fewer_than_two_samples_say_nothing(function):
    assert np.isinf(function(np.zeros((1, 2)), np.array([0, 1]), DELTA)).all()


def test_no_sample_says_nothing_at_any_time():
    assert np.isinf(bounds.anytime(np.zeros((1, 1)), np.array([0]), DELTA)).all()


@pytest.mark.parametrize("tail", [0.1, 0.025, 1e-4, 1e-6])
@pytest.mark.parametrize("freedom", [29, 60, 1000])
def test_student_quantile(tail, freedom):
    assert float(bounds.student_quantile(tail, freedom)) == pytest.approx(stats.t.isf(tail, freedom), rel=1e-3)


def test_clt_below_30_samples_is_the_bounded_range_interval():
    variance, counts = np.full((1, 2), 0.01), np.array([29, 30])
    below, from_30 = bounds.clt(variance, counts, DELTA)[0]
    assert below == bounds.bernstein(variance, counts, DELTA)[0, 0]
    assert from_30 == pytest.approx(stats.t.isf(DELTA / 2, 29) * math.sqrt(0.01 / 30), rel=1e-3)


DISTRIBUTIONS = {
    "symmetric": lambda rng, shape: (rng.binomial(8, 0.3, shape) - rng.binomial(8, 0.3, shape)) / 8,
    "skewed": lambda rng, shape: (rng.binomial(8, 0.2, shape) - 0.0) / 8,
    "rare": lambda rng, shape: (rng.random(shape) < 0.02) * 1.0,
    "extremes": lambda rng, shape: np.where(rng.random(shape) < 0.5, 1.0, -1.0),
}
MEANS = {"symmetric": 0.0, "skewed": 0.2, "rare": 0.02, "extremes": 0.0}


def coverage(samples, truth, half):
    return float((np.abs(samples.mean(axis=0) - truth) <= half).mean())


@pytest.mark.parametrize("count", [20, 200])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_bernstein_covers_at_least_nominally(name, count):
    samples = DISTRIBUTIONS[name](np.random.default_rng(1), (count, REPEATS))
    variance, counts = samples.var(axis=0, ddof=1), np.full(REPEATS, count)
    half = bounds.bernstein(variance[None], counts, DELTA)[0]
    assert coverage(samples, MEANS[name], half) >= 1 - DELTA


@pytest.mark.parametrize("count", [30, 200])
def test_clt_covers_nominally(count):
    samples = DISTRIBUTIONS["symmetric"](np.random.default_rng(2), (count, REPEATS))
    variance, counts = samples.var(axis=0, ddof=1), np.full(REPEATS, count)
    half = bounds.clt(variance[None], counts, DELTA, resolution=1 / 8)[0]
    two_errors = 2 * math.sqrt(DELTA * (1 - DELTA) / REPEATS)
    assert coverage(samples, 0.0, half) == pytest.approx(1 - DELTA, abs=two_errors)


def test_mostly_zero_samples_need_the_variance_floor():
    rng = np.random.default_rng(3)
    samples = (rng.random((40, REPEATS)) < 0.01) / 32  # 67% of the repeats see nothing but zeros
    variance, counts = samples.var(axis=0, ddof=1)[None], np.full(REPEATS, 40)
    assert coverage(samples, 0.01 / 32, bounds.clt(variance, counts, DELTA)[0]) < 0.5
    floored = bounds.clt(variance, counts, DELTA, resolution=1 / 32)[0]
    assert coverage(samples, 0.01 / 32, floored) >= 1 - DELTA


def ever_missed(name, interval, repeats=1000, rounds=40, size=10):
    """Share of sequences whose interval misses the mean after any round, with spread kept as the runs do."""
    rng = np.random.default_rng(4)
    total, spread = Moments.empty(1, repeats), np.zeros((1, repeats))
    missed = np.zeros(repeats, dtype=bool)
    for _ in range(rounds):
        sampled = Moments.empty(1, repeats)
        for sample in DISTRIBUTIONS[name](rng, (size, repeats)):
            sampled = sampled.merge(Moments.of(sample[None]))
        spread = spread + sampled.spread_about(total.mean)
        total = total.merge(sampled)
        missed |= np.abs(total.mean[0] - MEANS[name]) > interval(total, spread)[0]
    return missed.mean()


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_anytime_covers_under_peeking(name):
    def anytime(total, spread):
        return bounds.anytime(spread, total.count, DELTA)

    assert ever_missed(name, anytime) <= DELTA


def test_peeking_breaks_the_clt_interval():
    def clt(total, spread):
        return bounds.clt(total.variance, total.count, DELTA)

    assert ever_missed("symmetric", clt) > 2 * DELTA


def test_anytime_by_hand():
    # Without spread the steepest rate is best: 0.95 / 2, weight 1/2 of the mixture, two sides.
    half = bounds.anytime(np.zeros((1, 1)), np.array([50]), DELTA)[0, 0]
    assert half == pytest.approx(math.log(2 * 2 / DELTA) / (0.95 / 2 * 50))
    # With spread 100 it is the third: rate 0.95 / 2 / 1.5^2, weight 1/12.
    rate = 0.95 / 2 / 1.5**2
    psi = (-math.log(1 - 2 * rate) - 2 * rate) / 4
    expected = (math.log(2 * 12 / DELTA) + 100 * psi) / (rate * 500)
    assert bounds.anytime(one(100), np.array([500]), DELTA)[0, 0] == pytest.approx(expected)


def test_anytime_is_not_vacuous():
    variance, counts = np.full((1, 1), 0.01), np.array([2000])
    half = bounds.anytime(variance * counts, counts, DELTA)
    assert half < 1.6 * bounds.bernstein(variance, counts, DELTA)


def test_half_widths_knows_every_bound_and_no_other():
    moments, spread = Moments.of(np.zeros((1, 1))), np.zeros((1, 1))
    for name in ("clt", "bernstein", "bernstein_paper", "anytime"):
        assert bounds.half_widths(name, moments, spread, DELTA, 1.0, 0.1).shape == (1, 1)
    with pytest.raises(ValueError, match="unknown bound"):
        bounds.half_widths("hoeffding", moments, spread, DELTA, 1.0, 0.1)
