"""From merged samples to an Estimate: scaling, intervals, the truncation certificate.

Statistics of adaptive sampling: under `tmab` a player's sample count depends on its own earlier samples, so
its mean is biased (a player that looked low early on is dropped and stays low) and the CLT and Bernstein
intervals do not hold for it; the anytime interval does. What is reported should come from fresh samples:
a second run with ``stream=1``, ``estimator='cmcs'``, ``players=`` those reported, and ``tol=0``.
"""

from __future__ import annotations

import math

import numpy as np

from shapley import bounds, cmcs, fast
from shapley.base import BoundName, Certificate, Estimate, Floats, Interval, Settings
from shapley.state import State, fingerprint

_ADAPTIVE = "; earlier samples decided who was sampled further, so the means are biased and the level is not exact"


def scale(state: State, settings: Settings) -> float:
    """What the mean of the samples is multiplied by to be the value: 1 for walks."""
    return scale_of(settings, state.depth)


def scale_of(settings: Settings, depth: int | None) -> float:
    """`scale` at a depth (None: not learned yet)."""
    if settings.estimator in ("cmcs", "fast") and depth is not None:
        return cmcs.scale(settings.n_players, depth)
    return 1.0


def raw_half_widths(state: State, settings: Settings, bound: BoundName, delta: float) -> Floats:
    """Half-widths [M, n] for the unscaled means, each at ``delta``."""
    return bounds.half_widths(
        bound, state.moments, state.spread, delta, settings.value_range, settings.image_resolution
    )


def estimate(
    state: State,
    settings: Settings,
    interval: BoundName = "clt",
    delta: float | None = None,
    claims: int | None = None,
) -> Estimate:
    """What the merged rounds say.

    The intervals hold together with probability 1 - ``delta`` (default: the settings') for ``claims`` of
    them (default: all valued players, all objectives; 1 for intervals that hold one by one). They are
    about the value on the images of the game, and where the depth is below n, about the truncated value.
    Raises ValueError where the state belongs to other settings.
    """
    if state.settings_key != fingerprint(settings):
        raise ValueError("this state belongs to other settings")
    delta = settings.delta if delta is None else delta
    claims = settings.n_candidates * settings.n_objectives if claims is None else claims
    if claims < 1 or not 0.0 < delta < 1.0:
        raise ValueError(f"claims must be at least 1 and delta in (0, 1); got {claims} and {delta}")
    factor = scale(state, settings)
    samples = state.moments.count
    values = np.where(samples > 0, state.moments.mean * factor, np.nan)
    half = raw_half_widths(state, settings, interval, delta / claims) * factor
    errors = state.moments.std_error * factor
    best = spread = overlap = None
    if settings.guesses:
        combined = fast.combine(state)
        best, spread = combined.best * factor, combined.spread * factor
        overlap = fast.expected_overlap(combined, settings)
        if interval == "clt":
            enough = samples >= bounds.CLT_LEAST_SAMPLES
            values[0] = np.where(enough, combined.values * factor, values[0])
            errors[0] = np.where(enough, combined.std_errors * factor, errors[0])
            quantile = bounds.student_quantile(delta / claims / 2.0, np.maximum(samples, 2) - 1)
            floor = settings.image_resolution * math.log(2.0 * claims / delta) / np.maximum(samples, 1) * factor
            half[0] = np.where(enough, np.maximum(quantile * errors[0], floor), half[0])
    known = np.nan_to_num(values)
    limit = settings.value_range
    # Fixed designs keep their level; where earlier samples chose who is sampled on, only `anytime` does.
    adaptive = _ADAPTIVE if settings.adaptive and interval != "anytime" else ""
    short = int((samples[settings.candidates()] < bounds.CLT_LEAST_SAMPLES).sum())
    return Estimate(
        values=values,
        std_errors=errors,
        lower=np.maximum(known - half, -limit),
        upper=np.minimum(known + half, limit),
        samples=samples,
        evaluations=state.evaluations,
        rounds=state.round,
        stopped=state.stopped,
        estimator=settings.estimator,
        interval=Interval(interval, delta, claims, bounds.guarantee(interval, delta, claims, short) + adaptive),
        certificate=_certificate(state),
        depth=state.depth,
        best=best,
        best_spread=spread,
        expected_overlap=overlap,
    )


def _certificate(state: State) -> Certificate | None:
    walks = int(state.walks.count[0])
    if walks == 0:
        return None
    intact, stop, empty, missing = state.walks.mean.T
    return Certificate(walks, intact, stop, empty, missing, state.walks.std_error[:, 3])
