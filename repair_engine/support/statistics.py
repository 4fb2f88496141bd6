"""Intervals and tests for reports: all of them on images that the repair never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

WARN_BELOW = 100  # images in a cell: fewer make wide intervals
REFUSE_BELOW = 30  # images in a cell: fewer must not decide anything
_POOL_BELOW = 4  # images: a cell that small has no spread of its own to resample
_EXACT_BELOW = 25  # discordant pairs: fewer take McNemar's exact test


@dataclass(frozen=True)
class Interval:
    """An estimate with a confidence interval at `level`, and how it was made."""

    estimate: float
    lower: float
    upper: float
    level: float
    method: str


class IntervalRecord(TypedDict):
    """Of a value, in documents."""

    value: float
    lower: float
    upper: float
    level: float


class McNemarRecord(TypedDict):
    """`McNemar` in documents."""

    lost: int
    won: int
    p_value: float
    method: str


@dataclass(frozen=True)
class McNemar:
    """Paired correctness before and after.

    Attributes:
        lost: images right before and wrong after.
        won: images wrong before and right after.
        p_value: two-sided, of lost and won being equally likely.
        method: "exact" or "asymptotic".
    """

    lost: int
    won: int
    p_value: float
    method: str

    def to_json(self) -> McNemarRecord:
        return {"lost": self.lost, "won": self.won, "p_value": self.p_value, "method": self.method}


def finite(value: float) -> float | None:
    """A number for JSON; None where there is none."""
    return float(value) if np.isfinite(value) else None


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927); with n = 0 it is all of [0, 1]."""
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    if n == 0:
        return Interval(float("nan"), 0.0, 1.0, level, "Wilson")
    from scipy.stats import binomtest

    found = binomtest(successes, n).proportion_ci(level, method="wilson")
    return Interval(successes / n, float(found.low), float(found.high), level, "Wilson")


def paired_bootstrap(
    before: np.ndarray,
    after: np.ndarray,
    weights: np.ndarray,
    cells: np.ndarray,
    seed: int,
    resamples: int = 10_000,
    level: float = 0.95,
) -> Interval:
    """Interval of Σ w·after − Σ w·before on the same images, by `paired_draws`.

    Percentiles rather than BCa: the statistic is a sum over many images, and BCa's corrections are not defined for
    cells without any change. Of one image alone nothing is known but what it can at most change by.

    Args:
        before, after: outcomes, such as 0/1 correctness, [N].
        weights: of the objective, [N].
        cells: class × subgroup as integers, [N]; the small ones are pooled.
        seed: of the resampling.
    """
    gain = np.asarray(weights, float) * (np.asarray(after, float) - np.asarray(before, float))
    if not len(gain) == len(np.asarray(cells)) > 0:
        raise ValueError(f"{len(gain)} outcomes and {len(np.asarray(cells))} cells")
    method = "paired stratified percentile bootstrap"
    if len(gain) == 1:
        most = abs(float(np.asarray(weights, float)[0]))
        return Interval(float(gain[0]), -most, most, level, method)
    draws = paired_draws(gain[None], resampling_cells(cells), [seed, 0xB007], resamples)[0]
    lower, upper = percentiles(draws, level)
    return Interval(float(gain.sum()), lower, upper, level, method)


def paired_draws(parts: np.ndarray, cells: np.ndarray, key: Sequence[int], resamples: int) -> np.ndarray:
    """Sums over the images on bootstrap resamples of them: what all paired intervals here are made of.

    In each cell of n images n − 1 are drawn with replacement and weighted by n / (n − 1), so that the variance is
    unbiased in small cells too (Rao & Wu 1988). Every sum of a resample sees the same images. A cell of one image
    does not vary: `resampling_cells` leaves none where it can.

    Args:
        parts: what each image adds to each of M sums, [M, N].
        cells: [N]; resampling stays within.
        key: of the random numbers.

    Returns:
        float64 [M, resamples].
    """
    rng = np.random.default_rng(np.random.SeedSequence(key))
    sums = np.zeros((len(parts), resamples))
    for cell in np.unique(cells):
        inside = parts[:, cells == cell]
        some = np.flatnonzero(inside.any(axis=1))
        if not len(some):
            continue
        # few different values (−w, 0, w): draw how often each occurs instead of drawing images
        values, counts = np.unique(inside[some], axis=1, return_counts=True)
        n = int(counts.sum())
        if len(counts) == 1 or n == 1:
            sums[some] += (values @ counts)[:, None]
            continue
        drawn = rng.multinomial(n - 1, counts / n, size=resamples)
        sums[some] += (drawn @ values.T * (n / (n - 1))).T
    return sums


def paired_p_value(parts: np.ndarray, cells: np.ndarray, seed: int, resamples: int = 10_000) -> float:
    """Two-sided, of no change, by the resamples that make the interval of `paired_bootstrap`.

    Args:
        parts: what each image adds to the change, [N].
        cells, seed: as there.
    """
    if len(parts) < 2 or not parts.any():
        return 1.0
    draws = paired_draws(parts[None], resampling_cells(cells), [seed, 0xB007], resamples)[0]
    return float(min(1.0, max(2 * min((draws <= 0).mean(), (draws >= 0).mean()), 1 / resamples)))


def percentiles(draws: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The middle `level` of draws [R]."""
    tail = (1 - level) / 2
    lower, upper = np.quantile(draws, [tail, 1 - tail])
    return float(lower), float(upper)


def resampling_cells(cells: np.ndarray, within: np.ndarray | None = None) -> np.ndarray:
    """Cells [N] with those of fewer than four images pooled: alone they would add no variance, or hardly any.

    A pool of one image joins the smallest cell beside it.

    Args:
        within: what pools must not cross, such as the subgroup, [N].
    """
    cells = np.asarray(cells)
    outer = np.zeros(len(cells), np.int64) if within is None else np.unique(within, return_inverse=True)[1].ravel()
    out = np.empty(len(cells), np.int64)
    for part in np.unique(outer):
        mine = np.flatnonzero(outer == part)
        codes, inverse, counts = np.unique(cells[mine], return_inverse=True, return_counts=True)
        pooled = np.where(counts < _POOL_BELOW, -1, codes)
        if counts[pooled == -1].sum() == 1 and len(codes) > 1:
            others = np.where(pooled == -1, len(cells) + 1, counts)
            pooled = np.where(pooled == -1, codes[others.argmin()], pooled)
        out[mine] = np.where(pooled[inverse.ravel()] == -1, -1 - part, pooled[inverse.ravel()])
    return out


def image_counts(cells: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """`paired_draws` for statistics that are no sums: how often each image is drawn, with its weight, [resamples, N].

    A cell's counts sum to its size.
    """
    out = np.ones((resamples, len(cells)))
    pooled = resampling_cells(cells)
    for cell in np.unique(pooled):
        inside = np.flatnonzero(pooled == cell)
        n = len(inside)
        if n > 1:
            out[:, inside] = rng.multinomial(n - 1, np.full(n, 1 / n), size=resamples) * (n / (n - 1))
    return out


def mcnemar(before: np.ndarray, after: np.ndarray) -> McNemar:
    """McNemar's test of paired correctness (McNemar 1947): exact below 25 discordant pairs, else with
    continuity correction.

    Args:
        before, after: whether each image is classified rightly, bool [N].
    """
    from scipy.stats import binom, chi2

    before, after = np.asarray(before, bool), np.asarray(after, bool)
    lost, won = int((before & ~after).sum()), int((~before & after).sum())
    if lost + won == 0:
        return McNemar(0, 0, 1.0, "exact")
    exact = lost + won < _EXACT_BELOW
    if exact:
        p = 2 * binom.cdf(min(lost, won), lost + won, 0.5)
    else:
        p = chi2.sf((abs(lost - won) - 1) ** 2 / (lost + won), 1)
    return McNemar(lost, won, min(float(p), 1.0), "exact" if exact else "asymptotic")


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment for several tests (Holm 1979), in the given order."""
    given = np.asarray(p_values, float)
    order = np.argsort(given)
    adjusted = np.empty_like(given)
    adjusted[order] = np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1))
    return np.minimum(adjusted, 1.0).tolist()


def cell_flag(n: int) -> str:
    """What a cell of n images allows: "ok", "few" (a warning) or "too few" (must not gate anything)."""
    if n < REFUSE_BELOW:
        return "too few"
    return "few" if n < WARN_BELOW else "ok"
