"""Parties' estimates into one: that of all their score images together, and where the parties differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from repair_engine.documents.estimates import PartyEstimate
from repair_engine.errors import BadInput
from repair_engine.parties.agreement import check_fit
from repair_engine.parties.weights import party_weights
from repair_engine.search.phases import DELTA
from repair_engine.support.statistics import holm
from shapley import bounds

_MANY = 1e9  # degrees of freedom of what has no sampling error


@dataclass(frozen=True)
class Merged:
    """What the parties found together.

    Attributes:
        parties: in the given order, [P].
        weights: α, float64 [P], summing to 1.
        values: Σ αₚ φₚ, float64 [n]; NaN where a party has no value.
        std_errors: of the sampling of coalitions, float64 [n].
        lower, upper: of intervals that hold together for all filters, float64 [n].
        interval: what they promise, in words.
        differing: by how much the parties differ, or NaN where it cannot be told: p-values of Cochran's Q (Cochran
            1954), Holm-adjusted over the filters, float64 [n].
        value_of_all: V of the intact network on all score images.
        warnings: for the report.
    """

    parties: tuple[PartyEstimate, ...]
    weights: np.ndarray
    values: np.ndarray
    std_errors: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    interval: str
    differing: np.ndarray
    value_of_all: float
    warnings: tuple[str, ...]

    @property
    def filters(self) -> tuple[str, ...]:
        return self.parties[0].filters

    @property
    def samples(self) -> np.ndarray:
        """int64 [n], of all parties."""
        return np.sum([party.samples for party in self.parties], axis=0)


def merge_estimates(parties: Sequence[PartyEstimate]) -> Merged:
    """The estimate on all parties' images together.

    Raises:
        BadInput: they do not fit together (see `agreement`), or the metric does not add up (see `weights`).
    """
    check_fit(parties)
    weights = party_weights(parties)
    values = weights @ np.stack([p.values for p in parties])
    errors, freedom = _errors(parties, weights)
    claims = len(values)
    half = _half_widths(parties, weights, errors, freedom, claims)
    everyone = sum(w * float(p.document["value_of_all"]) for w, p in zip(weights, parties))
    limit = max(float(p.run["value_range"]) for p in parties)
    return Merged(
        parties=tuple(parties),
        weights=weights,
        values=values,
        std_errors=errors,
        lower=np.maximum(values - half, -limit),
        upper=np.minimum(values + half, limit),
        interval=_guarantee(parties, claims),
        differing=_differing(parties),
        value_of_all=float(everyone),
        warnings=tuple(_warnings(parties, values)),
    )


def _errors(parties: Sequence[PartyEstimate], weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standard errors [n] and Welch and Satterthwaite's degrees of freedom [n].

    Parties that drew with the same seed drew the same coalitions, so their errors may go together: they are added in
    full. Between seeds errors are independent.
    """
    by_seed: dict[int, list[int]] = defaultdict(list)
    for p, party in enumerate(parties):
        by_seed[int(party.run["seed"])].append(p)
    variance, spread = np.zeros(len(parties[0].values)), np.zeros(len(parties[0].values))
    for members in by_seed.values():
        error = np.sum([weights[p] * _known_errors(parties[p]) for p in members], axis=0)
        freedom = np.min([np.maximum(parties[p].samples, 2) - 1 for p in members], axis=0)
        variance += error**2
        spread += error**4 / freedom
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt(variance), np.where(spread > 0, variance**2 / spread, _MANY)


def _known_errors(party: PartyEstimate) -> np.ndarray:
    return np.zeros_like(party.values) if party.exact else party.std_errors


def _half_widths(
    parties: Sequence[PartyEstimate], weights: np.ndarray, errors: np.ndarray, freedom: np.ndarray, claims: int
) -> np.ndarray:
    """As single runs have them (`shapley.bounds.clt`) at DELTA over all claims.

    Student's t on the joint error, never below the parties' floors together. Where a party has under 30 samples the
    parties' own intervals add up, each at its part of the level, of which those are for a bounded range.
    """
    delta = DELTA / claims
    floors, apart = np.zeros(len(errors)), np.zeros(len(errors))
    few = np.zeros(len(errors), dtype=bool)
    for weight, party in zip(weights, parties):
        if party.exact:
            continue
        scale, resolution = float(party.run["scale"]), float(party.run["resolution"])
        span = 2.0 * float(party.run["value_range"])
        count = np.maximum(party.samples, 1)
        floors += weight * scale * resolution * np.log(2.0 / delta) / count
        few |= party.samples < bounds.CLT_LEAST_SAMPLES
        variance = np.nan_to_num((party.std_errors / scale) ** 2 * count)
        apart += weight * scale * bounds.clt(variance, party.samples, delta / len(parties), span, resolution)
    together = np.maximum(bounds.student_quantile(delta / 2.0, freedom) * errors, floors)
    return np.where(few, apart, together)


def _guarantee(parties: Sequence[PartyEstimate], claims: int) -> str:
    if all(party.exact for party in parties):
        return "exact: every party evaluated every coalition"
    short = int(np.any([p.samples < bounds.CLT_LEAST_SAMPLES for p in parties if not p.exact], axis=0).sum())
    text = bounds.guarantee("clt", DELTA, claims, short)
    adaptive = [party.name for party in parties if party.run["adaptive"]]
    if adaptive:
        text += f"; earlier samples decided who was sampled further in {', '.join(adaptive)}, so the level is not exact"
    return text


def _differing(parties: Sequence[PartyEstimate]) -> np.ndarray:
    """Holm-adjusted p-values [n] of Cochran's Q: is the spread of the parties' values more than sampling error?"""
    from scipy.stats import chi2

    values = np.stack([p.values for p in parties])
    errors = np.stack([_known_errors(p) for p in parties])
    enough = np.all([p.exact | (p.samples >= bounds.CLT_LEAST_SAMPLES) for p in parties], axis=0)
    exact = (errors == 0).all(axis=0)
    same = np.isclose(values, values[0], rtol=0, atol=1e-12).all(axis=0)
    known = np.isfinite(values).all(axis=0) & enough & (exact | (errors > 0).all(axis=0))
    p_values = np.full(values.shape[1], np.nan)
    p_values[known & exact] = np.where(same, 1.0, 0.0)[known & exact]
    tested = known & ~exact
    precision = 1.0 / errors[:, tested] ** 2
    centre = (precision * values[:, tested]).sum(axis=0) / precision.sum(axis=0)
    q = (precision * (values[:, tested] - centre) ** 2).sum(axis=0)
    p_values[tested] = chi2.sf(q, len(parties) - 1)
    p_values[known] = holm(p_values[known].tolist())
    return p_values


def _warnings(parties: Sequence[PartyEstimate], values: np.ndarray) -> list[str]:
    found = []
    seeds = defaultdict(list)
    for party in parties:
        if not party.exact:
            seeds[party.run["seed"]].append(party.name)
    for seed, names in seeds.items():
        if len(names) > 1:
            found.append(
                f"{', '.join(names)} drew with the same seed {seed}, so the same coalitions: their errors are added in "
                "full. With a --seed of its own for each party the intervals are narrower."
            )
    missing = int(np.isnan(values).sum())
    if missing:
        found.append(
            f"{missing} of {len(values)} filters have no value together, since at least one party did not sample them. "
            "--estimator cmcs samples all of them, with equal counts."
        )
    return found


def need_two(paths: Sequence[str]) -> None:
    """Raises BadInput for fewer than two parties."""
    if len(paths) < 2:
        raise BadInput("merge takes the folders of two parties or more.", "Each is what `score --out` has written.")
