"""When an estimate is good enough: read off its snapshots, or extrapolated from its measured spread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.methods import Snapshot
from benchmarks.metrics import End, Reference, overlap, plausible, reliability, spread

FARTHEST = 1e6  # times the allotment; beyond, a level counts as out of reach
_RUNS = 64  # simulated runs per time
_PRIOR = 10.0  # samples that the reference's variance profile counts for
LEAST_RELIABLE = 0.5  # share of a reference's variance that must not be noise
_STEPS = 24  # halvings of the bracket in log time


@dataclass(frozen=True)
class Reach:
    """When a level is reached.

    Attributes:
        seconds, evaluations: None where it is out of reach.
        extrapolated: not seen within the allotment.
        note: "" or why it is out of reach.
    """

    seconds: float | None
    evaluations: float | None
    extrapolated: bool
    note: str = ""

    def to_json(self) -> dict[str, object]:
        out: dict[str, object] = {
            "seconds": None if self.seconds is None else float(f"{self.seconds:.4g}"),
            "evaluations": None if self.evaluations is None else float(f"{self.evaluations:.4g}"),
            "extrapolated": self.extrapolated,
        }
        return out | ({"note": self.note} if self.note else {})


def observed(times: Sequence[float], scores: Sequence[float], level: float) -> float | None:
    """When the scores reach a level for good: the first snapshot from which on none is below it.

    Interpolated between that snapshot and the one before, linearly in log time; None where the last is below.
    """
    first = len(scores)
    while first > 0 and scores[first - 1] >= level:
        first -= 1
    if first == len(scores):
        return None
    if first == 0:
        return float(times[0])
    low, high = scores[first - 1], scores[first]
    share = (level - low) / (high - low)
    a, b = math.log(max(times[first - 1], 1e-9)), math.log(max(times[first], 1e-9))
    return math.exp(a + share * (b - a))


def end_errors(last: Snapshot, reference: Reference) -> np.ndarray | None:
    """The standard deviation of each value at the last snapshot, float64 [n]; None where nothing can be said.

    From the method's own spread where it has one. A filter's own few samples are mostly zeros and their spread says
    little, so the reference's profile of variances, scaled to the method's, counts for ten samples.

    Without a spread: from its error against the reference, the same for all filters, after the rescaling that suits
    the estimate best (a method that answers nearly 0 for all filters has a small error and knows nothing). That is the
    noise that makes the correlation what it is; None where the correlation could be chance.
    """
    if last.std_errors is not None and last.samples is not None and (last.samples > 1).any():
        t = last.samples.astype(np.float64)
        known = t > 1
        own = np.where(known, np.nan_to_num(last.std_errors) ** 2 * t, 0.0)  # variance of one sample
        profile = np.maximum(reference.variances, 1e-3 * reference.variances.mean())
        freedom = np.where(known, t - 1, 0.0)
        scale = float((freedom * own).sum() / (freedom * profile).sum())
        variance = (_PRIOR * scale * profile + freedom * own) / (_PRIOR + freedom)
        return np.sqrt(variance / np.maximum(t, 1.0))
    values = np.nan_to_num(last.values)
    if np.ptp(values) == 0:
        return None
    correlation = float(np.corrcoef(values, reference.values)[0, 1])
    if correlation < 3.0 / math.sqrt(reference.n):
        return None
    true_spread = spread(reference)
    correlation = min(correlation * math.sqrt(float(np.var(reference.values)) / true_spread), 0.9999)
    return np.full(reference.n, math.sqrt(true_spread * (1.0 / correlation**2 - 1.0)))


class Extrapolation:
    """A method after T seconds, simulated: true values + N(0, σ² · T_end / T), against the true values.

    The true values are drawn from what the reference leaves open, so a noisy reference does not keep a method from
    getting there (it does in what is observed).

    Attributes:
        reliable: whether the reference is more than noise.
        known: and whether the method's noise could be told; if not, nothing can be said about later.
    """

    def __init__(self, last: Snapshot, reference: Reference) -> None:
        self.last, self.reference = last, reference
        errors = end_errors(last, reference)
        self.reliable = reliability(reference) >= LEAST_RELIABLE
        self.known = errors is not None and self.reliable
        noise = np.zeros(reference.n) if errors is None else errors
        rng = np.random.default_rng(1)
        self._runs = [(plausible(reference, rng), rng.normal(size=reference.n) * noise) for _ in range(_RUNS)]

    def overlap(self, factor: float, k: int, end: End) -> float:
        """Mean overlap with the true values at `factor` × the last snapshot's time."""
        shrink = 1.0 / math.sqrt(factor)
        return float(np.mean([overlap(true + shrink * noise, true, k, end) for true, noise in self._runs]))

    def seen_at_end(self, k: int, end: End) -> float:
        """Mean overlap with the *reference* at the last snapshot's time: what should have been observed there."""
        values = self.reference.values
        return float(np.mean([overlap(true + noise, values, k, end) for true, noise in self._runs]))

    def reach(self, level: float, k: int, end: End) -> Reach:
        """When the mean overlap reaches `level`; never before the end of what was run."""
        if not self.reliable:
            return Reach(None, None, True, "the reference is too noisy to extrapolate from: continue it")
        if not self.known:
            return Reach(None, None, True, "its values at the end have nothing to do with the reference's")
        if self.overlap(FARTHEST, k, end) < level:
            return Reach(None, None, True, f"not within {FARTHEST:.0e} × the time given")
        low, high = 0.0, math.log(FARTHEST)
        if self.overlap(1.0, k, end) >= level:
            high = 0.0
        for _ in range(_STEPS):
            if high - low < 1e-3:
                break
            middle = (low + high) / 2
            low, high = (low, middle) if self.overlap(math.exp(middle), k, end) >= level else (middle, high)
        factor = math.exp(high)
        return Reach(self.last.seconds * factor, self.last.evaluations * factor, True)


def reach(snapshots: Sequence[Snapshot], model: Extrapolation, level: float, k: int, end: End) -> Reach:
    """Observed where the snapshots reach the level for good, else extrapolated."""
    found = [overlap(s.values, model.reference.values, k, end) for s in snapshots]
    seconds = observed([s.seconds for s in snapshots], found, level)
    if seconds is None:
        return model.reach(level, k, end)
    evaluations = observed([float(s.evaluations) for s in snapshots], found, level)
    return Reach(seconds, evaluations, False)
