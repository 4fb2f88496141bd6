"""Intervals for means: half-widths as functions of what `Moments` keeps.

``delta`` is the failure probability of one two-sided interval; a union bound over m claims is the same
call with delta / m. ``span`` is the width of the range that one sample lies in: V in a range of width 1
puts marginal contributions in [-1, 1], so span is 2. Every half-width is inf where nothing can be said.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from shapley.base import BoundName, Floats, Ints
from shapley.moments import Moments

CLT_LEAST_SAMPLES = 30  # below this many samples `clt` is not offered
_RATES = 40  # lambdas of `anytime`
_RATE_RATIO = 1.5


def bernstein_paper(variance: Floats, count: Ints, delta: float, span: float = 1.0) -> Floats:
    """Empirical Bernstein as Ghorbani & Zou print it (appendix E): ln(2/delta), R = 1, 3t - 1.

    Kept for comparison: it is Maurer & Pontil's one-sided bound read as a two-sided one, with half the
    range that marginal contributions have (and 3t - 1 for 3(t - 1)). Too narrow to hold at 1 - delta.
    """
    t = np.maximum(count, 1)
    log = math.log(2.0 / delta)
    half = np.sqrt(2.0 * log * variance / t) + 7.0 * span * log / (3.0 * t - 1.0)
    return np.where(count > 1, half, np.inf)


def bernstein(variance: Floats, count: Ints, delta: float, span: float = 2.0) -> Floats:
    """Two-sided empirical Bernstein, Maurer & Pontil 2009, Theorem 4 (arXiv 0907.3740) at delta / 2 a side.

    Holds for any distribution on a range of width ``span`` and a count fixed beforehand.
    ``variance`` [M, n] is unbiased, ``count`` [n].
    """
    t = np.maximum(count, 1)
    log = math.log(4.0 / delta)
    half = np.sqrt(2.0 * log * variance / t) + 7.0 * span * log / (3.0 * np.maximum(t - 1, 1))
    return np.where(count > 1, half, np.inf)


def student_quantile(upper_tail: float, freedom: Ints | Floats) -> Floats:
    """Student's t quantile with ``upper_tail`` probability above it (Abramowitz & Stegun 26.7.5).

    For freedom >= 29 the relative error is under 1e-3 down to tails of 1e-6.
    """
    z = -NormalDist().inv_cdf(upper_tail)
    nu = np.asarray(freedom, dtype=np.float64)
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    g4 = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return z + g1 / nu + g2 / nu**2 + g3 / nu**3 + g4 / nu**4


def clt(variance: Floats, count: Ints, delta: float, span: float = 2.0, resolution: float = 0.0) -> Floats:
    """Student's t interval from 30 samples on; below that, `bernstein`, which needs no normality.

    ``resolution`` is by how much one image can move V on a batch.
    Samples that are mostly zero have a variance of zero until the first event, so the half-width is
    never taken below resolution * ln(2/delta) / t: after t zeros, an event of that size may still
    have a rate of ln(2/delta) / t (the rule of three at any level). Events larger than that are
    not covered by the floor: the interval is asymptotic, and that is its one honest weakness.
    """
    enough = count >= CLT_LEAST_SAMPLES
    t = np.maximum(count, CLT_LEAST_SAMPLES)
    half = student_quantile(delta / 2.0, t - 1) * np.sqrt(variance / t)
    half = np.maximum(half, resolution * math.log(2.0 / delta) / t)
    return np.where(enough, half, bernstein(variance, count, delta, span))


def anytime(spread: Floats, count: Ints, delta: float, span: float = 2.0) -> Floats:
    """Empirical-Bernstein confidence sequence: holds at all times at once, however one peeks or stops.

    ``spread`` [M, n] is the sum over samples of (X_i - c_i)^2, each c_i a guess in the range made before
    X_i was drawn (here: the mean of the earlier rounds). For every rate lambda in [0, 1/span),
    exp(lambda * sum(X_i - mu) - psi(lambda) * spread) with psi(l) = (-log(1 - span l) - span l) / span^2
    is a supermartingale below one on average (Howard, Ramdas, McAuliffe & Sekhon 2021, Theorem 4,
    arXiv 1810.08240; Waudby-Smith & Ramdas 2024, arXiv 2010.09686). A fixed mixture of
    geometrically spaced rates with weights 1/((j+1)(j+2)) is one too, and Ville's inequality
    makes each of its terms a bound that never fails with probability 1 - delta.
    """
    best = np.full(np.broadcast_shapes(spread.shape, count.shape), np.inf)
    t = np.maximum(count, 1)
    for j in range(_RATES):
        rate = 0.95 / span * _RATE_RATIO**-j
        psi = (-math.log1p(-span * rate) - span * rate) / span**2
        log = math.log(2.0 * (j + 1) * (j + 2) / delta)
        best = np.minimum(best, (log + psi * spread) / (rate * t))
    return np.where(count > 0, best, np.inf)


def half_widths(
    bound: BoundName, moments: Moments, spread: Floats, delta: float, value_range: float, resolution: float
) -> Floats:
    """Half-widths [M, n] of the intervals for the means of ``moments``, by name of the bound."""
    variance = np.nan_to_num(moments.variance)
    if bound == "clt":
        return clt(variance, moments.count, delta, 2.0 * value_range, resolution)
    if bound == "bernstein":
        return bernstein(variance, moments.count, delta, 2.0 * value_range)
    if bound == "bernstein_paper":
        return bernstein_paper(variance, moments.count, delta, value_range)
    if bound == "anytime":
        return anytime(spread, moments.count, delta, 2.0 * value_range)
    raise ValueError(f"unknown bound {bound!r}")


def guarantee(bound: BoundName, delta: float, claims: int, short: int = 0) -> str:
    """What the interval promises, in words. ``short``: how many players have fewer than 30 samples."""
    level = f"{100 * (1 - delta):g}%"
    together = f"all {claims} intervals together" if claims > 1 else "each interval by itself"
    if bound == "clt":
        text = f"asymptotic (Student's t, never below one image's worth of events), {level} for {together}"
        if short:
            text += f"; {short} with under {CLT_LEAST_SAMPLES} samples show the bounded-range interval"
        return text + "; not for repeated looks, nor for samples whose number was chosen by their own values"
    if bound == "bernstein":
        return (
            f"bounded range, any distribution (Maurer & Pontil 2009, two-sided), {level} for {together}; "
            "not for repeated looks"
        )
    if bound == "bernstein_paper":
        return (
            f"as Ghorbani & Zou 2020 print it, said to be {level} for {together}; "
            "one-sided logarithm and half the range, so it fails more often"
        )
    return (
        f"bounded range, any distribution, {level} for {together} at all times at once: holds under "
        "repeated looks, adaptive sampling and any stopping rule"
    )
