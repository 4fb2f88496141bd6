"""Statistics from their definitions, for `checker.py`; nothing of the project, and no statistics library."""

from __future__ import annotations

import math

import numpy as np


def wilson(k: int, n: int) -> tuple[float, float]:
    z, p = 1.959963984540054, k / n
    middle, half = (p + z * z / (2 * n)), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)
    return (0.0 if k == 0 else low, 1.0 if k == n else high)


def mcnemar(before: np.ndarray, after: np.ndarray) -> tuple[int, int, float]:
    """Lost, won, p: exact below 25 discordant pairs, else chi-square with continuity correction."""
    lost, won = int((before & ~after).sum()), int((~before & after).sum())
    n = lost + won
    if n == 0:
        return 0, 0, 1.0
    if n < 25:
        return lost, won, min(1.0, 2 * sum(math.comb(n, i) for i in range(min(lost, won) + 1)) / 2**n)
    return lost, won, math.erfc(math.sqrt((abs(lost - won) - 1) ** 2 / n / 2))


def holm(p: list[float]) -> list[float]:
    out, largest = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[i]))
        out[i] = largest
    return out


def bootstrap(change: np.ndarray, cells: np.ndarray, resamples: int = 4000) -> tuple[float, float, float]:
    """Ends of the percentile interval of a sum over images, n − 1 drawn per cell (fewer than 4 images: pooled), and
    the standard deviation of the draws."""
    codes, inverse, counts = np.unique(cells, return_inverse=True, return_counts=True)
    cells = np.where(counts < 4, -1, np.arange(len(codes)))[inverse]
    rng, sums = np.random.default_rng(12345), np.zeros(resamples)
    for cell in np.unique(cells):
        inside = change[cells == cell]
        n = len(inside)
        if n == 1:
            sums += inside[0]
        else:
            sums += inside[rng.integers(0, n, (resamples, n - 1))].sum(1) * n / (n - 1)
    return float(np.quantile(sums, 0.025)), float(np.quantile(sums, 0.975)), float(sums.std())
