"""What a run found for each of its objectives, as rows for `score.json`."""

from __future__ import annotations

from typing import Any

import numpy as np

from repair_engine.case import Case
from repair_engine.game import NeuronGame
from shapley import Estimate

_MOST_INLINE = 200_000  # values that are also given in JSON


def objective_rows(case: Case, game: NeuronGame, estimate: Estimate) -> list[dict[str, Any]]:
    """One row per objective, the metric first; lists [n] in the order of the document's filters.

    `values` and what belongs to them are left out where there are very many: `objectives.npz` has them.
    """
    weights = game.objective.rows
    everything = np.ones((1, game.n_players), dtype=bool)
    intact = game.evaluate(everything, game.full_batch()).values[:, 0]
    inline = estimate.values.size <= _MOST_INLINE
    rows = []
    for m, name in enumerate(case.objective_names):
        row: dict[str, Any] = {
            "name": name,
            "images": int((weights[m] > 0).sum()),
            "value_of_all": float(intact[m]),
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


def _numbers(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(v) else float(v) for v in values]
