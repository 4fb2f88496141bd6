"""What a run found for each of its objectives, as rows for `score.json`."""

from __future__ import annotations

from typing import Any

import numpy as np

from repair_engine.case.case import Case
from repair_engine.search.game import NeuronGame
from shapley import Estimate

_MOST_INLINE = 200_000  # values that are also given in JSON
_AT_ENDS = 10  # filters named at each end


def objective_rows(case: Case, game: NeuronGame, estimate: Estimate) -> list[dict[str, Any]]:
    """One row per objective, the metric first; lists [n] in the order of the document's filters.

    `lowest` and `highest` name the filters of each end, the most extreme first. `values` and what belongs to them are
    left out where there are very many: `objectives.npz` has them.
    """
    weights = game.objective.rows
    everything = np.ones((1, game.n_players), dtype=bool)
    intact = game.evaluate(everything, game.full_batch()).values[:, 0]
    inline = estimate.values.size <= _MOST_INLINE
    rows = []
    for m, name in enumerate(case.question.names):
        row: dict[str, Any] = {
            "name": name,
            "images": int((weights[m] > 0).sum()),
            "value_of_all": float(intact[m]),
            **_ends(case, estimate, m),
        }
        if inline:
            row |= {
                "values": _numbers(estimate.values[m]),
                "std_errors": _numbers(estimate.std_errors[m]),
                "lower": _numbers(estimate.lower[m]),
                "upper": _numbers(estimate.upper[m]),
            }
        rows.append(row)
    return rows


def _ends(case: Case, estimate: Estimate, m: int) -> dict[str, list[dict[str, Any]]]:
    """Of the filters that were sampled; of few, no filter stands at both ends."""
    values = estimate.values[m]
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    k = min(_AT_ENDS, len(order) // 2)
    ends = {"lowest": order[:k], "highest": order[::-1][:k]}
    return {
        end: [
            {
                "id": case.subject.network.filter_id(int(p)),
                "value": float(values[p]),
                "lower": _number(estimate.lower[m, p]),
                "upper": _number(estimate.upper[m, p]),
                "samples": int(estimate.samples[p]),
            }
            for p in players
        ]
        for end, players in ends.items()
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _numbers(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(v) else float(v) for v in values]
