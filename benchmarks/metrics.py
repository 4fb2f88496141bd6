"""How near an estimate is to a reference: which filters it puts at the ends, and in what order it puts all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import rankdata

End = Literal["top", "bottom"]
ENDS: tuple[End, ...] = ("top", "bottom")


@dataclass(frozen=True)
class Reference:
    """Long-run values with what is known of their noise.

    Attributes:
        values: float64 [n].
        std_errors: float64 [n].
        variances: float64 [n], of one sample of each filter; only their profile over filters is used.
    """

    values: np.ndarray
    std_errors: np.ndarray
    variances: np.ndarray

    @property
    def n(self) -> int:
        return len(self.values)


def chosen(values: np.ndarray, k: int, end: End) -> np.ndarray:
    """The k filters at an end, int64 [k]; unknown (NaN) values count as 0, ties go to the lower index."""
    known = np.nan_to_num(values)
    return np.argsort(-known if end == "top" else known, kind="stable")[:k]


def overlap(values: np.ndarray, reference: np.ndarray, k: int, end: End) -> float:
    """Share of the reference's k filters at an end that the estimate puts there too."""
    return len(np.intersect1d(chosen(values, k, end), chosen(reference, k, end))) / k


def regret_form(values: np.ndarray, reference: np.ndarray, k: int, end: End) -> float:
    """Sum of the reference values of the k filters chosen, over the best possible sum.

    Near-ties cost next to nothing here, unlike in `overlap`. 1 is best; it may be negative.
    """
    best = reference[chosen(reference, k, end)].sum()
    return float(reference[chosen(values, k, end)].sum() / best) if best else 1.0


def spearman(values: np.ndarray, reference: np.ndarray) -> float:
    """Rank correlation over all filters; 0 where one of them is constant."""
    a, b = rankdata(np.nan_to_num(values)), rankdata(reference)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def scores(values: np.ndarray, reference: np.ndarray, ks: tuple[int, ...]) -> dict[str, float]:
    """All measures of one estimate, by name: `top50`, `bottom50`, `regret_top50`, …, `spearman`."""
    out: dict[str, float] = {}
    for k in ks:
        for end in ENDS:
            out[f"{end}{k}"] = overlap(values, reference, k, end)
            out[f"regret_{end}{k}"] = regret_form(values, reference, k, end)
    out["spearman"] = spearman(values, reference)
    return {name: round(value, 4) for name, value in out.items()}


def usable_ks(n: int, ks: tuple[int, ...]) -> tuple[int, ...]:
    """Those k for which the two ends do not meet."""
    return tuple(k for k in ks if 2 * k < n)


def spread(reference: Reference) -> float:
    """Variance of the true values over filters: that of the reference's values less its noise."""
    return max(
        float(np.var(reference.values) - np.mean(reference.std_errors**2)), 1e-4 * float(np.var(reference.values))
    )


def reliability(reference: Reference) -> float:
    """Share of the variance over filters that is the true values' (the squared correlation with them), 0 to 1."""
    return spread(reference) / max(float(np.var(reference.values)), 1e-300)


def plausible(reference: Reference, rng: np.random.Generator) -> np.ndarray:
    """What the true values may be, given the reference, float64 [n].

    A draw from the posterior under a normal prior with the filters' mean and `spread`: a noisy reference is more
    spread out than the truth, and its extremes are partly luck.
    """
    prior, noise = spread(reference), reference.std_errors**2
    weight = prior / (prior + noise)
    centre = reference.values.mean()
    mean = centre + weight * (reference.values - centre)
    return mean + rng.normal(size=reference.n) * np.sqrt(weight * noise)


def ceiling(reference: Reference, ks: tuple[int, ...], runs: int = 200) -> dict[str, dict[str, float]]:
    """What the reference's own noise allows, by simulation.

    Returns:
        "perfect": mean scores of the true values against this reference, the most a method can be expected to reach;
        "two_references": mean scores of two references of this noise against each other.
    """
    rng = np.random.default_rng(0)
    perfect, pairs = [], []
    for _ in range(runs):
        truth = plausible(reference, rng)
        first, second = (truth + rng.normal(size=reference.n) * reference.std_errors for _ in range(2))
        perfect.append(scores(truth, reference.values, ks))
        pairs.append(scores(first, second, ks))
    return {"perfect": _mean(perfect), "two_references": _mean(pairs)}


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0]}
