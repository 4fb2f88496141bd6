"""How much of the spread of estimated values is sampling noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Noise:
    """Of the filters that were sampled.

    Attributes:
        n: how many have both a value and a standard error.
        spread: standard deviation of their values.
        error: root mean square of their standard errors.
        reliability: 1 − error²/spread², the share of the variance that is not noise; None where n < 3, and 0 where
            noise alone would give such a spread.
    """

    n: int
    spread: float
    error: float
    reliability: float | None


def noise_warning(noise: Noise) -> str | None:
    """What is to be said where most of the spread is noise."""
    if noise.reliability is None or noise.reliability >= 0.5:
        return None
    return (
        f"Of the variance of the {noise.n:,} sampled values about {1 - noise.reliability:.0%} is sampling noise: "
        "neighbours in the ranking are not told apart. A larger budget would."
    )


def noise_of(values: np.ndarray, errors: np.ndarray) -> Noise:
    """Of values and standard errors, float64 [n]; NaN where there is none."""
    known = np.isfinite(values) & np.isfinite(errors)
    n = int(known.sum())
    if n < 3:
        return Noise(n, float("nan"), float("nan"), None)
    spread, error = float(np.std(values[known], ddof=1)), float(np.sqrt(np.mean(errors[known] ** 2)))
    return Noise(n, spread, error, max(0.0, 1.0 - (error / spread) ** 2) if spread > 0 else 0.0)
