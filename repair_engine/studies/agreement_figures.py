"""How far two sets of values agree: rank correlation, also corrected for sampling noise, and overlap of the ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from repair_engine.studies.arrays import descending
from repair_engine.studies.noise import noise_of

_KS = (5, 10, 20, 50, 100, 200, 500)
_LEAST = 5  # filters that a correlation needs


@dataclass(frozen=True)
class Valued:
    """One result.

    Attributes:
        path: of its file.
        called: what it is called in messages.
        document: as it was written.
        ids: of the filters, [n].
        values, errors: of the search's samples, unbiased or nearly, float64 [n]; NaN where a filter was not sampled.
        scores: what is known of the values for ranking, float64 [n]; NaN where nothing is.
    """

    path: Path
    called: str
    document: Mapping[str, Any]
    ids: tuple[str, ...]
    values: np.ndarray
    errors: np.ndarray
    scores: np.ndarray

    def reordered(self, ids: tuple[str, ...]) -> Valued:
        """The same with its filters in the given order."""
        at = {name: i for i, name in enumerate(self.ids)}
        return self._taken(np.array([at[name] for name in ids], dtype=np.int64))

    def only(self, some: np.ndarray) -> Valued:
        """The same of some of its filters, bool [n]."""
        return self._taken(np.flatnonzero(some))

    def _taken(self, rows: np.ndarray) -> Valued:
        ids = tuple(self.ids[i] for i in rows)
        return Valued(
            self.path, self.called, self.document, ids, self.values[rows], self.errors[rows], self.scores[rows]
        )


@dataclass(frozen=True)
class Agreement:
    """Correlation of two estimates.

    Attributes:
        n: filters that both sampled.
        spearman: rank correlation of their values; None with fewer than five filters, or where one side is constant.
        corrected: that divided by the square root of both reliabilities (Spearman 1904), cut off at ±1; None where a
            reliability is not known or 0. For ranks the formula is an approximation.
        reliabilities: of both sides, see `Noise`.
        cut: the quotient was beyond ±1.
    """

    n: int
    spearman: float | None
    corrected: float | None
    reliabilities: tuple[float | None, float | None]
    cut: bool


def agreement(a: Valued, b: Valued) -> Agreement:
    """Of values of the same filters in the same order; those that either side did not sample are left out."""
    both = np.isfinite(a.values) & np.isfinite(b.values)
    n = int(both.sum())
    noises = [noise_of(v.values[both], v.errors[both]) for v in (a, b)]
    reliabilities = noises[0].reliability, noises[1].reliability
    rho = spearman(a.values[both], b.values[both])
    corrected, cut = None, False
    if rho is not None and all(reliabilities) and all(noise.n == n for noise in noises):
        quotient = rho / float(np.sqrt(np.prod([float(r or 0.0) for r in reliabilities])))
        cut = abs(quotient) > 1
        corrected = float(np.clip(quotient, -1, 1))
    return Agreement(n, rho, corrected, reliabilities, cut)


def spearman(x: np.ndarray, y: np.ndarray) -> float | None:
    """Spearman's rank correlation of [n] with [n], ties at their mean rank; None where it is not defined."""
    if len(x) < _LEAST or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(x, y).statistic)


class OverlapRow(TypedDict):
    """See `overlaps`."""

    end: str
    k: int
    shared: int
    share: float
    by_chance: float
    p: float


def overlaps(a: Valued, b: Valued) -> list[OverlapRow]:
    """For several k, how many filters are among the k first (last) of both, what chance gives, and how likely it is.

    Both must have sampled all of them: an end that was only guessed at, or tied, would say nothing. Of fewer than
    two filters there are no ends.

    `p` is the probability of that many or more if one ranking were shuffled (hypergeometric).
    """
    from scipy.stats import hypergeom

    n = len(a.ids)
    if n < 2:
        return []
    orders = descending(a.scores), descending(b.scores)
    rows: list[OverlapRow] = []
    for k in [k for k in _KS if k <= n // 2] or [max(1, n // 2)]:
        for end in ("most critical", "least critical"):
            ends = [set((o[:k] if end == "most critical" else o[n - k :]).tolist()) for o in orders]
            shared = len(ends[0] & ends[1])
            rows.append(
                {
                    "end": end,
                    "k": k,
                    "shared": shared,
                    "share": shared / k,
                    "by_chance": k / n,
                    "p": float(hypergeom.sf(shared - 1, n, k, k)),
                }
            )
    return rows
