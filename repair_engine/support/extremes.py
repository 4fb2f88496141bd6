"""Intervals for the change of the largest of several figures: of the worst subgroup, of a gap, of equalized odds.

A maximum of noisy figures lies above the largest true one, by more where several are about as large, and that may
change between before and after. Percentiles of resampled maxima do not know of it: of eight differences of 20 points,
of which a repair closes seven, they say far too often that the largest fell. What is here holds
whichever figures are the largest: simultaneous bands for what they are made of, and what these allow at the least and
at the most.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

PAIRED = 200  # figures: the differences of more are not all looked at
_FLAT = 1e-9  # a standard error of none


def change_of_the_largest(seen: np.ndarray, drawn: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Interval of max_k after_k − max_j before_j.

    Bands of all differences after_k − before_j hold at once (sup-t, Montiel Olea & Plagborg-Møller 2019, by the
    bootstrap). The largest after is some k and the largest before at least every j, so the change is at most the
    largest over k of the least upper bound over j; and the other way round.

    Args:
        seen: before and after, [2, J].
        drawn: the same on R resamples, paired, [2, R, J].
    """
    before, after = drawn
    bounds = np.empty((2, seen.shape[1], seen.shape[1]))  # difference and standard error by after, before
    largest = np.zeros(len(before))
    for k in range(seen.shape[1]):
        difference = seen[1, k] - seen[0]
        error = after[:, k, None] - before - difference
        spread = error.std(axis=0)
        bounds[:, k] = difference, spread
        moving = spread > _FLAT
        if moving.any():
            np.maximum(largest, np.abs(error[:, moving] / spread[moving]).max(axis=1), out=largest)
    width = float(np.quantile(largest, level)) * bounds[1]
    upper, lower = (bounds[0] + width).min(axis=1).max(), (bounds[0] - width).max(axis=0).min()
    return float(lower), float(upper)


def change_of_the_largest_of_many(seen: np.ndarray, errors: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The same, wider, from each figure's own interval (normal, Bonferroni): for more figures than `PAIRED`.

    Args:
        seen, errors: before and after, with their standard errors, [2, J].
    """
    z = NormalDist().inv_cdf(1 - (1 - level) / (2 * seen.size))  # both ways round: half as many two-sided ones
    least, most = (seen - z * errors).max(axis=1), (seen + z * errors).max(axis=1)
    return float(least[1] - most[0]), float(most[1] - least[0])


def ordered_pairs(n: int) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of different places among n, both ways round: int64 [n (n − 1)] each."""
    first, second = np.nonzero(~np.eye(n, dtype=bool))
    return first, second


def change_of_the_range(seen: np.ndarray, drawn: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Interval of the change of max − min of independent figures; arguments as for `change_of_the_largest`."""
    first, second = ordered_pairs(seen.shape[1])
    differences = seen[:, first] - seen[:, second]
    if len(first) <= PAIRED:
        return change_of_the_largest(differences, drawn[:, :, first] - drawn[:, :, second], level)
    variances = drawn.var(axis=1)
    return change_of_the_largest_of_many(differences, np.sqrt(variances[:, first] + variances[:, second]), level)
