"""What a run found for each of its objectives, as rows for `score.json`."""

from __future__ import annotations

from typing import NotRequired, TypedDict

import numpy as np

from repair_engine.case.case import Case
from repair_engine.documents.records import FilterRow, Valued
from repair_engine.search.game import NeuronGame
from repair_engine.support.statistics import finite
from shapley import Estimate

_MOST_INLINE = 200_000  # values that are also given in JSON
_AT_ENDS = 10  # filters named at each end


class EndRow(TypedDict):
    """One filter at an end."""

    id: str
    value: float
    lower: float | None
    upper: float | None
    samples: int


class Ends(TypedDict):
    """The filters of each end, the most extreme first."""

    lowest: list[EndRow]
    highest: list[EndRow]


class ObjectiveRow(Ends):
    """One objective; lists [n] in the order of the document's filters."""

    name: str
    images: int
    value_of_all: float
    values: NotRequired[list[float | None]]
    std_errors: NotRequired[list[float | None]]
    lower: NotRequired[list[float | None]]
    upper: NotRequired[list[float | None]]


class ScoreRecord(Valued):
    """score.json."""

    value_of_all: float
    filters: list[FilterRow]
    score_images: list[str]
    constants_from: list[str]
    objectives: list[ObjectiveRow]


def objective_rows(case: Case, game: NeuronGame, estimate: Estimate) -> list[ObjectiveRow]:
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
        row: ObjectiveRow = {
            "name": name,
            "images": int((weights[m] > 0).sum()),
            "value_of_all": float(intact[m]),
            **_ends(case, estimate, m),
        }
        if inline:
            row |= {
                "values": [finite(x) for x in estimate.values[m]],
                "std_errors": [finite(x) for x in estimate.std_errors[m]],
                "lower": [finite(x) for x in estimate.lower[m]],
                "upper": [finite(x) for x in estimate.upper[m]],
            }
        rows.append(row)
    return rows


def _ends(case: Case, estimate: Estimate, m: int) -> Ends:
    """Of the filters that were sampled; of few, no filter stands at both ends."""
    values = estimate.values[m]
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    k = min(_AT_ENDS, len(order) // 2)
    rows = [_end(case, estimate, m, int(p)) for p in (*order[:k], *order[::-1][:k])]
    return {"lowest": rows[:k], "highest": rows[k:]}


def _end(case: Case, estimate: Estimate, m: int, player: int) -> EndRow:
    return {
        "id": case.subject.network.filter_id(player),
        "value": float(estimate.values[m, player]),
        "lower": finite(estimate.lower[m, player]),
        "upper": finite(estimate.upper[m, player]),
        "samples": int(estimate.samples[player]),
    }
