"""How ablated culprits work together: what each gains alone, what is lost without it, and which pairs interact.

Measured on the report images, after everything was chosen, by ablation alone. The interaction of two culprits is what
ablating both gains beyond what each gains alone, the intact network being the start (the pairwise interaction of
Grabisch & Roubens 1999, of one coalition in place of the average over all).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import TypedDict

import numpy as np

from repair_engine.case.case import Case
from repair_engine.choosing.plan import coalition_predictions
from repair_engine.support.progress import Progress
from repair_engine.support.statistics import IntervalRecord, holm, paired_bootstrap, paired_p_value

SHARE = 0.1  # of the budget, in addition
_MOST = 12  # culprits
_RESAMPLES = 4_000


class CulpritAlone(TypedDict):
    """`alone`: what ablating it gains in the intact network; `last`: in one where all other culprits are ablated."""

    id: str
    alone: IntervalRecord
    last: IntervalRecord


class Pair(TypedDict):
    """`both`: what ablating both gains; `interaction`: beyond what each gains alone.

    `kind`, by the p-value adjusted over all pairs: "only together" (neither is shown to gain alone, both together
    are), "together", "overlap", or "" where no interaction is shown.
    """

    first: str
    second: str
    both: IntervalRecord
    interaction: IntervalRecord
    p: float
    p_holm: float
    kind: str


class InteractionsRecord(TypedDict):
    """Gains are improvements of the metric, whichever way it goes; of `of` culprits the first are here."""

    of: int
    n: int
    culprits: list[CulpritAlone]
    pairs: list[Pair]
    evaluations: int


def interactions_of(case: Case, players: np.ndarray, budget: int, progress: Progress) -> InteractionsRecord | None:
    """Of the first culprits in the order of removal, as many as `SHARE` of the budget allows; None: fewer than two.

    Args:
        players: the culprits that are ablated, int64 [k].
    """
    objective, subject = case.question.objective("report"), case.subject
    pixels = objective.pixels
    affordable = int(SHARE * budget / len(pixels))
    some = players[: next((m for m in range(min(_MOST, len(players)), 1, -1) if _coalitions(m) <= affordable), 0)]
    if len(some) < 2:
        return None
    coalitions = np.ones((_coalitions(len(some)), subject.network.n_filters), dtype=bool)
    for coalition, removed in zip(coalitions, _removed(some, players), strict=True):
        coalition[removed] = False
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        progress("measuring how culprits work together", done / (len(coalitions) * len(pixels)))

    predicted = coalition_predictions(subject.network, pixels, case.images.normalize, coalitions, tick, subject.room)
    seed, level = case.settings.seed, case.settings.level
    hits = (predicted == objective.targets).astype(float)
    outcomes = hits if objective.complement == (objective.goal == "lower") else -hits  # the larger the better

    def interval(change: np.ndarray) -> IntervalRecord:
        none = np.zeros_like(change)
        found = paired_bootstrap(
            none, change, objective.weights, objective.cells, seed, resamples=_RESAMPLES, level=level
        )
        return {"value": found.estimate, "lower": found.lower, "upper": found.upper, "level": found.level}

    m, ids = len(some), [subject.network.filter_id(int(p)) for p in some]
    intact, together = outcomes[0], outcomes[1]
    alone = outcomes[2 : 2 + m] - intact
    last = together - outcomes[2 + m : 2 + 2 * m]
    both = outcomes[2 + 2 * m :] - intact
    culprits: list[CulpritAlone] = [
        {"id": name, "alone": interval(a), "last": interval(b)} for name, a, b in zip(ids, alone, last, strict=True)
    ]
    pairs: list[Pair] = []
    for (i, j), gain in zip(combinations(range(m), 2), both, strict=True):
        beyond = gain - alone[i] - alone[j]
        p = paired_p_value(objective.weights * beyond, objective.cells, seed)
        pairs.append(
            {"first": ids[i], "second": ids[j], "both": interval(gain), "interaction": interval(beyond), "p": p,
             "p_holm": 1.0, "kind": ""}
        )  # fmt: skip
    gains = {row["id"]: row["alone"]["lower"] > 0 for row in culprits}
    for row, adjusted in zip(pairs, holm([one["p"] for one in pairs]), strict=True):
        row["p_holm"] = adjusted
        if adjusted < 0.05:
            row["kind"] = _kind(row, gains[row["first"]] or gains[row["second"]])
    return {
        "of": len(players), "n": len(objective), "culprits": culprits, "pairs": pairs,
        "evaluations": len(coalitions) * len(pixels),
    }  # fmt: skip


def _kind(row: Pair, gains_alone: bool) -> str:
    if row["interaction"]["value"] < 0:
        return "overlap"
    return "together" if gains_alone or row["both"]["lower"] <= 0 else "only together"


def _coalitions(m: int) -> int:
    """Of m culprits: intact, all ablated, each alone, all but each, each pair."""
    return 2 + 2 * m + m * (m - 1) // 2


def _removed(some: np.ndarray, everyone: np.ndarray) -> Iterator[np.ndarray]:
    yield everyone[:0]
    yield everyone
    for player in some:
        yield np.array([player])
    for player in some:
        yield everyone[everyone != player]
    for pair in combinations(some.tolist(), 2):
        yield np.array(pair)
