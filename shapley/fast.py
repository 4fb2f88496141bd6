"""The estimator `fast`: guesses touch all players, unbiased samples decide among those in question.

A `GuessingGame` offers, at the price of a few coalitions, guesses at `Game.differences` of *all* players at once
(for a network: from gradients), and with each sampled difference a smooth version of it, far less noisy. A run

1. *screens*: averages the guesses over many draws;
2. *samples* differences as `cmcs` does, with the guesses on the same draws;
3. estimates: the guesses serve as control variates (Lavenberg & Welch 1981), their coefficients pooled over all
   players, so the estimate stays unbiased but for terms of order 1 / (draws x players);
4. ranks by what is most likely given everything: an empirical-Bayes regression of the smooth differences on the
   guesses, and of the estimates on what comes of it (Efron & Morris 1975; Fay & Herriot 1979), each player's own
   samples outweighing it as they come in;
5. goes on with the players whose place above or below rank k is open.

Estimates have intervals; the ranking has none of its own, only the posterior spread of its model.
"""

from __future__ import annotations

import dataclasses
from statistics import NormalDist

import numpy as np

from shapley.base import Bools, Floats, Settings
from shapley.paired import PairedMoments
from shapley.state import State

HARD, SMOOTH, GUESSES = 0, 1, 2  # rows of the quantities sampled together: difference, its smooth version, guesses
RANDOM_PLAYERS = 96  # sampled beside the contenders in the first round: a regression needs more than extremes
_Z = 2.0  # posterior standard deviations within which a player's place is open
_PRIOR_DRAWS = 10.0  # draws' worth of the pooled variance in each player's own
_SLOPE_SPREAD = 0.5  # of differences on their smooth version, about 1: few samples must not turn the order round
_STAND_OUT = 0.05  # share of players that stand out from the model
_SEED_WORD = 0xFA57


@dataclasses.dataclass(frozen=True)
class Combined:
    """Unscaled: multiply by `cmcs.scale` for Shapley values."""

    values: Floats  # [n] control-variate estimates; NaN where not sampled
    std_errors: Floats  # [n]; NaN with fewer than two samples
    best: Floats  # [n] posterior means, of all players
    spread: Floats  # [n] posterior standard deviations
    prior: Floats  # [n] standard deviations before a player's own samples (wide: it stands out); inf: no model yet
    melts: Floats  # [n] share of the prior's variance that is noise of the samples, and falls as they come in
    anchored: Floats  # [n] share of what tells against that noise that are the guesses, which stay as they are


def combine(state: State) -> Combined:
    """Estimates and posterior of objective 0 from what was screened and sampled so far."""
    paired, screened = state.paired, state.screened
    sampled = paired.count > 0
    if not sampled.any():
        guess = screened.mean[0]
        nothing, endless = np.full(len(guess), np.nan), np.full(len(guess), np.inf)
        return Combined(nothing, nothing, guess, endless, endless, np.zeros(len(guess)), np.zeros(len(guess)))
    hard, hard_error = _controlled(paired, screened, HARD)
    smooth, smooth_error = _controlled(paired, screened, SMOOTH)
    guesses = screened.mean / np.maximum(screened.mean.std(axis=1, keepdims=True), 1e-12)
    first, first_spread, first_melts = _regress(guesses, smooth, smooth_error, screened.mean[0])
    width = _width(first, smooth, smooth_error)
    smooth_best, smooth_spread, _ = _shrink(smooth, smooth_error, first, first_spread, width)
    # The guesses once more beside it would be nearly collinear with it, and their noise would be blown up.
    scale = max(float(smooth_best.std()), 1e-12)
    features = smooth_best[None] / scale
    prior, prior_spread, melts = _regress(features, hard, hard_error, smooth_best, smooth_spread / scale, scale)
    wide = _width(prior, hard, hard_error)
    best, spread, apart = _shrink(hard, hard_error, prior, prior_spread, wide)
    values = np.where(sampled, hard, np.nan)
    errors = np.where(paired.count > 1, hard_error, np.nan)
    outside = apart > 0.5
    prior_spread, melts = np.where(outside, wide, prior_spread), np.where(outside, 0.0, melts)
    # The smooth posterior's precision is 1 / first_spread^2 + 1 / smooth_error^2; only the second part grows.
    error = np.where(np.isfinite(smooth_error), smooth_error, 0.0) ** 2
    anchored = (1.0 - first_melts) * np.where(sampled, error / np.maximum(error + first_spread**2, 1e-300), 1.0)
    return Combined(values, errors, best, spread, prior_spread, melts, anchored)


def _controlled(paired: PairedMoments, screened: PairedMoments, row: int) -> tuple[Floats, Floats]:
    """Control-variate means [n] of quantity ``row`` and their standard errors [n] (inf where not sampled)."""
    covariance = paired.pooled_covariance()
    among = covariance[GUESSES:, GUESSES:]
    beta = np.linalg.lstsq(among, covariance[GUESSES:, row], rcond=1e-8)[0]
    count = paired.count
    # The screen's means are known only so well: the best coefficient is smaller by what that noise would add.
    betas = beta[:, None] * (screened.count / np.maximum(screened.count + count, 1))  # [S, n]
    mean = paired.mean[row] - ((paired.mean[GUESSES:] - screened.mean) * betas).sum(axis=0)
    weights = np.zeros(paired.mean.shape)
    weights[row], weights[GUESSES:] = 1.0, -betas
    own = np.nan_to_num(paired.variance_of(weights))
    pooled = np.einsum("in,ij,jn->n", weights, covariance, weights)
    freedom = np.maximum(count - 1, 0)
    variance = (freedom * own + _PRIOR_DRAWS * np.maximum(pooled, 0.0)) / (freedom + _PRIOR_DRAWS)
    of_screen = np.nan_to_num(screened.variance_of(betas)) / np.maximum(screened.count, 1)
    error = np.sqrt(variance / np.maximum(count, 1) + of_screen)
    return mean, np.where(count > 0, error, np.inf)


def _regress(
    features: Floats,
    target: Floats,
    error: Floats,
    fallback: Floats,
    last_noise: Floats | None = None,
    expected: float | None = None,
) -> tuple[Floats, Floats, Floats]:
    """Predictions [n] of ``target`` from ``features`` [p, n] and their spread [n], by weighted least squares.

    The spread is that of true values about the prediction (method of moments), and ``last_noise`` [n], the known
    error of the last feature; last comes the share [n] of the latter in the spread's square. With too few sampled
    players to fit, ``fallback`` with an infinite spread. ``expected`` is what the last coefficient is believed to be.
    """
    known = np.isfinite(error)
    p, n = features.shape
    if known.sum() < 4 * (p + 1):
        return fallback, np.full(n, np.inf), np.zeros(n)
    design = np.concatenate([np.ones((1, n)), features])
    between = max(float(np.var(target[known]) - np.mean(error[known] ** 2)), 1e-12)
    coefficients = np.zeros(p + 1)
    for _ in range(5):  # weights and spread settle in a few turns
        weights = known / (np.where(known, error, 1.0) ** 2 + between)
        gram, right = (design * weights) @ design.T, (design * weights) @ target
        if expected is not None:
            gram[-1, -1] += 1.0 / (_SLOPE_SPREAD * expected) ** 2
            right[-1] += 1.0 / (_SLOPE_SPREAD**2 * expected)
        # Least squares of the normal equations: guesses that say nothing (constant columns) get coefficient 0.
        coefficients = np.linalg.lstsq(gram, right, rcond=1e-10)[0]
        residual = target - coefficients @ design
        share = known.sum() / max(known.sum() - p - 1, 1)  # degrees of freedom that the fit took
        excess = weights @ (residual**2 * share - np.where(known, error, 0.0) ** 2) / weights.sum()
        floor = max(1e-3 * float(np.mean(error[known] ** 2)), 1e-16)
        # One standard error less: a spread that may be chance is no licence to believe noisy samples.
        doubt = np.sqrt(2.0 / known.sum()) * (weights @ np.where(known, error, 0.0) ** 2) / weights.sum()
        between = max(float(excess - doubt), floor)
    noise = (
        np.zeros(n)
        if last_noise is None
        else (coefficients[-1] * np.where(np.isfinite(last_noise), last_noise, 0.0)) ** 2
    )
    falling = noise if between > floor else between + noise  # a floor in proportion to the errors falls with them
    return coefficients @ design, np.sqrt(between + noise), falling / (between + noise)


def _width(prior: Floats, own: Floats, error: Floats) -> float:
    """How far from the model a player may stand: the spread of all values, the noise of samples taken off."""
    known = np.isfinite(error)
    excess = float(np.var(own[known]) - np.mean(error[known] ** 2)) if known.sum() > 1 else 0.0
    return max(float(prior.std()), np.sqrt(max(excess, 0.0)), 1e-12)


def _shrink(own: Floats, error: Floats, prior: Floats, spread: Floats, wide: float) -> tuple[Floats, Floats, Floats]:
    """Posterior mean and deviation [n] of normal samples ``own`` +- ``error``, and the share [n] of the wide part.

    Of the players most lie within ``spread`` of ``prior`` and a few stand out, by ``wide``: a mixture of two normals
    (Box & Tiao 1968), so noise is drawn into the model whole, and what noise cannot explain is left where it is.
    """
    sampled = np.isfinite(error)
    modelled = np.isfinite(spread)
    noise = np.where(sampled, error, 0.0) ** 2
    gap = np.where(sampled, own - prior, 0.0)
    logs, means, variances = [], [], []
    for share, width in ((1.0 - _STAND_OUT, np.where(modelled, spread, wide)), (_STAND_OUT, np.maximum(spread, wide))):
        own_width = np.where(np.isfinite(width), width, 0.0) ** 2
        total = np.maximum(noise + own_width, 1e-300)
        logs.append(np.log(share) - np.where(sampled, 0.5 * np.log(total) + 0.5 * gap**2 / total, 0.0))
        pull = np.where(sampled, own_width / total, 0.0)
        means.append(prior + pull * gap)
        variances.append(np.where(sampled, pull * noise, own_width))
    apart = 1.0 / (1.0 + np.exp(np.clip(logs[0] - logs[1], -500, 500)))
    mean = (1.0 - apart) * means[0] + apart * means[1]
    variance = (1.0 - apart) * (variances[0] + (means[0] - mean) ** 2)
    variance += apart * (variances[1] + (means[1] - mean) ** 2)
    # Without a model there is only the own sample.
    mean = np.where(modelled, mean, np.where(sampled, own, prior))
    deviation = np.where(modelled, np.sqrt(variance), np.where(sampled, error, np.inf))
    return mean, deviation, apart


def ends(settings: Settings, n: int) -> tuple[int, ...]:
    """Ranks (counted from the top) behind which a cut lies that is to be settled."""
    k = min(settings.top_k, n - 1)
    return {"top": (k,), "bottom": (n - k,), "both": (k, n - k)}[settings.side]


def first_active(state: State, settings: Settings) -> Bools:
    """Players sampled first, bool [n]: those that the screen puts near the asked ends, and random others."""
    candidates = settings.candidates()
    keep = settings.keep
    if keep is None or keep * (1 + (settings.side == "both")) >= candidates.sum():
        return candidates
    order = np.flatnonzero(candidates)
    order = order[np.argsort(-state.screened.mean[0][order], kind="stable")]
    active = np.zeros(len(candidates), dtype=bool)
    if settings.side in ("top", "both"):
        active[order[:keep]] = True
    if settings.side in ("bottom", "both"):
        active[order[-keep:]] = True
    others = np.flatnonzero(candidates & ~active)
    rng = np.random.default_rng([settings.seed, settings.stream, _SEED_WORD])
    active[rng.permutation(others)[:RANDOM_PLAYERS]] = True
    return active


def open_players(state: State, settings: Settings, scale: float) -> Bools:
    """Players [n] whose place at an asked end is open: the posterior reaches over the cut.

    At most ``settings.keep`` for each end, those nearest to it in standard deviations. A posterior spread within
    ``settings.tol`` counts as settled.
    """
    return open_under(combine(state), settings, scale)


def open_under(combined: Combined, settings: Settings, scale: float) -> Bools:
    """`open_players` under a given posterior."""
    candidates = settings.candidates()
    active = np.zeros(len(candidates), dtype=bool)
    settled = combined.spread * scale <= settings.tol
    for distance in cut_distances(combined, candidates, settings):
        near = np.flatnonzero(candidates & ~settled & (np.abs(distance) < _Z))
        if settings.keep is not None:
            near = near[np.argsort(np.abs(distance[near]), kind="stable")[: settings.keep]]
        active[near] = True
    return active


def cut_distances(combined: Combined, candidates: Bools, settings: Settings) -> list[Floats]:
    """For each asked end, how far each player's posterior mean lies above the cut, in its standard deviations [n]."""
    ordered = np.sort(combined.best[candidates])[::-1]
    found = []
    for k in ends(settings, len(ordered)):
        cut = (ordered[k - 1] + ordered[k]) / 2.0
        with np.errstate(invalid="ignore"):
            distance = (combined.best - cut) / np.maximum(combined.spread, 1e-300)
        found.append(np.where(np.isfinite(combined.spread), distance, 0.0))
    return found


def expected_overlap(combined: Combined, settings: Settings) -> float:
    """The share of the true top (bottom) k that the posterior expects among its own; the worse of the asked ends."""
    candidates = settings.candidates()
    phi = NormalDist().cdf
    shares = []
    sides = {"top": (1,), "bottom": (-1,), "both": (1, -1)}[settings.side]
    for sign, distance in zip(sides, cut_distances(combined, candidates, settings)):
        chosen = np.flatnonzero(candidates & (sign * distance > 0))
        shares.append(float(np.mean([phi(sign * d) for d in distance[chosen]])) if len(chosen) else 0.0)
    return min(shares)
