"""Intervals and tests for reports: all of them on images that the repair never saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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

    @property
    def includes_zero(self) -> bool:
        return self.lower <= 0.0 <= self.upper


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
    """Interval of Σ w·after − Σ w·before on the same images.

    A stratified percentile bootstrap: in each cell of n images n − 1 are drawn with replacement and
    weighted by n / (n − 1), so that the variance is unbiased in small cells too (Rao & Wu 1988). A cell
    with one image adds no variance: `cell_flag` marks it. Percentiles rather than BCa: the statistic is a
    sum over many images, and BCa's corrections are not defined for cells without any change.

    Args:
        before, after: outcomes, such as 0/1 correctness, [N].
        weights: of the objective, [N].
        cells: class × subgroup as integers; resampling stays within, [N].
        seed: of the resampling.
    """
    gain = np.asarray(weights, float) * (np.asarray(after, float) - np.asarray(before, float))
    cells = np.asarray(cells)
    if not len(gain) == len(cells) > 0:
        raise ValueError(f"{len(gain)} outcomes and {len(cells)} cells")
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0xB007]))
    sums = np.zeros(resamples)
    for cell in np.unique(cells):
        values, counts = np.unique(gain[cells == cell], return_counts=True)
        n = int(counts.sum())
        if len(values) == 1 or n == 1:
            sums += float(values @ counts)
            continue
        # few different values (−w, 0, w): draw how often each occurs instead of drawing images
        drawn = rng.multinomial(n - 1, counts / n, size=resamples)
        sums += drawn @ values * (n / (n - 1))
    tail = (1 - level) / 2
    lower, upper = np.quantile(sums, [tail, 1 - tail])
    return Interval(float(gain.sum()), float(lower), float(upper), level, "paired stratified percentile bootstrap")


def resampling_cells(cells: np.ndarray) -> np.ndarray:
    """Cells [N] with those of fewer than four images pooled: alone they would add no variance."""
    codes, inverse, counts = np.unique(cells, return_inverse=True, return_counts=True)
    pooled = np.where(counts < _POOL_BELOW, -1, codes)
    return pooled[inverse]


def paired_cell_means(
    before: np.ndarray, after: np.ndarray, cells: np.ndarray, seed: int, resamples: int = 4_000
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of each cell before and after, and bootstrap draws of them for statistics that are no sums over images.

    Within each cell of n images n − 1 are drawn with replacement, the same before and after, so that the variance of
    a cell's mean is unbiased (Rao & Wu 1988); a cell of one image does not vary.

    Args:
        before, after: whether each image is classified rightly, bool [N].
        cells: 0 … C−1, each occurring, [N].

    Returns:
        float64 [2, C] and [2, resamples, C].
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0xCE11]))
    before, after = np.asarray(before, bool), np.asarray(after, bool)
    n_cells = int(np.max(cells)) + 1
    kinds = np.zeros((n_cells, 4))  # right neither time, after only, before only, both times
    np.add.at(kinds, (cells, 2 * before + after), 1)
    sizes = kinds.sum(axis=1)
    counts = np.stack([kinds[:, 2] + kinds[:, 3], kinds[:, 1] + kinds[:, 3]])
    draws = np.empty((2, resamples, n_cells))
    for c in range(n_cells):
        drawn = rng.multinomial(int(max(sizes[c] - 1, 1)), kinds[c] / sizes[c], size=resamples)
        total = max(sizes[c] - 1, 1)
        draws[0, :, c], draws[1, :, c] = (drawn[:, 2] + drawn[:, 3]) / total, (drawn[:, 1] + drawn[:, 3]) / total
    return counts / sizes, draws


def mcnemar(before: np.ndarray, after: np.ndarray) -> McNemar:
    """McNemar's test of paired correctness (McNemar 1947): exact below 25 discordant pairs, else with
    continuity correction.

    Args:
        before, after: whether each image is classified rightly, bool [N].
    """
    from statsmodels.stats.contingency_tables import mcnemar as test

    before, after = np.asarray(before, bool), np.asarray(after, bool)
    lost, won = int((before & ~after).sum()), int((~before & after).sum())
    if lost + won == 0:
        return McNemar(0, 0, 1.0, "exact")
    exact = lost + won < _EXACT_BELOW
    table = [[int((before & after).sum()), lost], [won, int((~before & ~after).sum())]]
    result = test(table, exact=exact, correction=True)
    return McNemar(lost, won, min(float(result.pvalue), 1.0), "exact" if exact else "asymptotic")


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment for several tests (Holm 1979), in the given order."""
    if not len(p_values):
        return []
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(list(p_values), method="holm")[1]]


def cell_flag(n: int) -> str:
    """What a cell of n images allows: "ok", "few" (a warning) or "too few" (must not gate anything)."""
    if n < REFUSE_BELOW:
        return "too few"
    return "few" if n < WARN_BELOW else "ok"


def small_cells(sizes: Mapping[str, int]) -> list[str]:
    """Warnings that name the cells with too few images to trust or to gate on."""
    texts = {
        "few": f"fewer than {WARN_BELOW} images, so wide intervals",
        "too few": f"fewer than {REFUSE_BELOW} images, too few to decide anything",
    }
    named = {flag: [f"{name} ({n})" for name, n in sizes.items() if cell_flag(n) == flag] for flag in texts}
    return [f"{', '.join(cells)}: {texts[flag]}." for flag, cells in named.items() if cells]
