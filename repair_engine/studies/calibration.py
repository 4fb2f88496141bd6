"""How far a model's probabilities can be trusted: proper scores, calibration error and over-confidence.

A repair changes logits, and with them how sure a model is: accuracy can rise while confidence no longer means anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from repair_engine.support.statistics import (
    REFUSE_BELOW,
    IntervalRecord,
    cell_flag,
    paired_draws,
    percentiles,
    resampling_cells,
    wilson,
)

BINS = 10  # of confidence
_RESAMPLES = 2_000
_SIMULATED = 400  # sets of outcomes of a model that is calibrated
_AT_ONCE = 1 << 22  # simulated outcomes
_COLDEST = 3.0  # |log temperature|


class ConfidenceBin(TypedDict):
    """Predictions whose confidence lies in (low, high]."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float
    lower: float
    upper: float


class Reliability(TypedDict):
    """The expected calibration error, Σ n_b/N · |accuracy_b − confidence_b| (Guo et al. 2017, arXiv:1706.04599)."""

    ece: float
    confidence: float
    bins: list[ConfidenceBin]


class ModelReliability(Reliability):
    """`ece_if_calibrated`: what a model as sure as this one would show on so many images if it were right as often as
    it is sure, [mean, 95th percentile]. `temperature`: what the logits are best divided by, and the figures then."""

    ece_if_calibrated: list[float]
    temperature: float | None
    nll_at_temperature: float | None
    ece_at_temperature: float | None


class Score(TypedDict):
    before: float
    after: float
    change: IntervalRecord


class SubgroupConfidence(Score):
    """Over-confidence in a subgroup."""

    name: str
    n: int
    size: str


class CalibrationRecord(TypedDict):
    """See `describe`."""

    n: int
    before: ModelReliability
    after: ModelReliability
    nll: Score
    brier: Score
    overconfidence: Score
    subgroups: list[SubgroupConfidence]


@dataclass(frozen=True)
class Judged:
    """What a model says of labelled images.

    Attributes:
        nll: −log of the true class's probability, [N].
        brier: Σ_c (p_c − [c is true])², [N].
        confidence: the predicted class's probability, [N].
        right: bool [N].
    """

    nll: np.ndarray
    brier: np.ndarray
    confidence: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> Judged:
        """Of logits [N, classes]; a single one is a binary classifier's, its probability the sigmoid."""
        log_p = _log_probabilities(logits / temperature)
        p, rows = np.exp(log_p), np.arange(len(labels))
        predicted = log_p.argmax(axis=1)
        brier = (p**2).sum(axis=1) - 2 * p[rows, labels] + 1
        return cls(-log_p[rows, labels], brier, p[rows, predicted], predicted == labels)


def describe(
    labels: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    subgroups: Sequence[str] | None,
    fitted_on: tuple[np.ndarray, np.ndarray, np.ndarray],
    seed: int,
    level: float = 0.95,
) -> CalibrationRecord:
    """Before and after on the same images, with the paired changes of what is a mean over images.

    Those are the negative log-likelihood, the Brier score over all classes, and confidence minus accuracy. The
    calibration error is none: noise alone makes it larger than 0, so it stands beside what noise alone would make it.

    Args:
        labels: int64 [N], of at least 30 images.
        before, after: logits float32 [N, classes].
        subgroups: of each image, [N]; None: there are none. Those of fewer than 30 images are left out.
        fitted_on: labels and both logits of the images that temperatures are fitted on (Guo et al. 2017).
        seed: of the resampling, within the classes.
    """
    was, now = Judged.of(before, labels), Judged.of(after, labels)
    excess = was.confidence - was.right, now.confidence - now.right
    parts = np.stack([now.nll - was.nll, now.brier - was.brier, excess[1] - excess[0]]) / len(labels)
    drawn = paired_draws(parts, resampling_cells(labels), [seed, 0xCA11], _RESAMPLES)
    scores = [
        _score(*two, draws, level)
        for two, draws in zip(((was.nll, now.nll), (was.brier, now.brier), excess), drawn, strict=True)
    ]
    of_select, *logits_there = fitted_on
    models = [
        _model(judged, logits, labels, _temperature(there, of_select), seed)
        for judged, logits, there in zip((was, now), (before, after), logits_there, strict=True)
    ]
    return {
        "n": len(labels),
        "before": models[0],
        "after": models[1],
        "nll": scores[0],
        "brier": scores[1],
        "overconfidence": scores[2],
        "subgroups": [] if subgroups is None else _by_subgroup(np.asarray(subgroups), labels, excess, seed, level),
    }


def reliability(confidence: np.ndarray, right: np.ndarray) -> Reliability:
    """Accuracy by confidence, in bins of a tenth: of the predicted classes' probabilities, and whether they are right,
    [N] each."""
    bins: list[ConfidenceBin] = []
    at = _bin_of(confidence)
    for b in np.unique(at).tolist():
        inside = at == b
        found = wilson(int(right[inside].sum()), int(inside.sum()))
        bins.append(
            {
                "low": b / BINS, "high": (b + 1) / BINS, "n": int(inside.sum()),
                "confidence": float(confidence[inside].mean()), "accuracy": found.estimate,
                "lower": found.lower, "upper": found.upper,
            }
        )  # fmt: skip
    error = sum(row["n"] * abs(row["accuracy"] - row["confidence"]) for row in bins) / len(right)
    return {"ece": float(error), "confidence": float(confidence.mean()), "bins": bins}


def _bin_of(confidence: np.ndarray) -> np.ndarray:
    return np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)


def _model(
    judged: Judged, logits: np.ndarray, labels: np.ndarray, temperature: float | None, seed: int
) -> ModelReliability:
    again = None if temperature is None else Judged.of(logits, labels, temperature)
    return {
        **reliability(judged.confidence, judged.right),
        "ece_if_calibrated": _ece_if_calibrated(judged.confidence, seed),
        "temperature": temperature,
        "nll_at_temperature": None if again is None else float(again.nll.mean()),
        "ece_at_temperature": None if again is None else reliability(again.confidence, again.right)["ece"],
    }


def _ece_if_calibrated(confidence: np.ndarray, seed: int) -> list[float]:
    """Mean and 95th percentile of the calibration error where each prediction is right with its own probability
    (consistency resampling, Bröcker & Smith 2007)."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0xECE]))
    errors, at = np.zeros(_SIMULATED), _bin_of(confidence)
    for b in np.unique(at):
        inside = confidence[at == b]
        step = max(1, _AT_ONCE // len(inside))
        for low in range(0, _SIMULATED, step):
            high = min(low + step, _SIMULATED)
            right = (rng.random((high - low, len(inside))) < inside).sum(axis=1)
            errors[low:high] += np.abs(right - inside.sum())
    errors /= len(confidence)
    return [float(errors.mean()), float(np.quantile(errors, 0.95))]


def _temperature(logits: np.ndarray, labels: np.ndarray) -> float | None:
    """That of the least negative log-likelihood; None where it would be at an end of what is tried, for there is
    none: all are right, or nothing tells the classes apart."""
    from scipy.optimize import minimize_scalar

    def nll(log_t: float) -> float:
        return float(Judged.of(logits, labels, float(np.exp(log_t))).nll.mean())

    found = float(minimize_scalar(nll, bounds=(-_COLDEST, _COLDEST), method="bounded").x)
    return None if abs(found) > 0.98 * _COLDEST else float(np.exp(found))


def _by_subgroup(
    groups: np.ndarray, labels: np.ndarray, excess: tuple[np.ndarray, np.ndarray], seed: int, level: float
) -> list[SubgroupConfidence]:
    rows: list[SubgroupConfidence] = []
    for name in np.unique(groups):
        inside = groups == name
        if (n := int(inside.sum())) < REFUSE_BELOW:
            continue
        was, now = (one[inside] for one in excess)
        drawn = paired_draws((now - was)[None] / n, resampling_cells(labels[inside]), [seed, 0xCA12], _RESAMPLES)[0]
        rows.append({"name": str(name), "n": n, "size": cell_flag(n), **_score(was, now, drawn, level)})
    return rows


def _score(before: np.ndarray, after: np.ndarray, drawn: np.ndarray, level: float) -> Score:
    """Of what is known of each image before and after, [n], and of the mean change on resamples."""
    lower, upper = percentiles(drawn, level)
    change: IntervalRecord = {
        "value": float(after.mean() - before.mean()), "lower": lower, "upper": upper, "level": level,
    }  # fmt: skip
    return {"before": float(before.mean()), "after": float(after.mean()), "change": change}


def surer(found: CalibrationRecord) -> str:
    """Whether a repair made the model "more" or "less" over-confident, or "worse" by its likelihood though neither; ""
    where nothing is shown."""
    change = found["overconfidence"]["change"]
    if change["lower"] > 0:
        return "more"
    if change["upper"] < 0:
        return "less"
    return "worse" if found["nll"]["change"]["lower"] > 0 else ""


def _log_probabilities(logits: np.ndarray) -> np.ndarray:
    wide = np.asarray(logits, float)
    if wide.shape[1] == 1:
        wide = np.concatenate([np.zeros_like(wide), wide], axis=1)
    wide = wide - wide.max(axis=1, keepdims=True)
    found: np.ndarray = wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))
    return found
