"""With which weights parties' estimates add up to that of their images together, or why they do not.

The metric on all images together gives each image a weight; so does the metric at its party. Where the former is the
same multiple of the latter for every image of a party, that multiple is the party's weight: V = Σ αₚ Vₚ for every
coalition, and Shapley values are linear in V. Accuracy has αₚ = nₚ/N, the recall of a class αₚ = n of the class there
over n of the class, always. Subgroup recall adds up where parties hold different subgroups, or the same cells in the
same proportions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from repair_engine.documents.estimates import PartyEstimate
from repair_engine.errors import BadInput
from repair_engine.question.objectives import Metric, metric_weights
from repair_engine.question.objectives.metric import accuracy_weights

_RELATIVE = 1e-9


def party_weights(parties: Sequence[PartyEstimate]) -> np.ndarray:
    """α of each party, float64 [P], summing to 1.

    Raises:
        BadInput: the metric on all images is no sum of the parties', naming the cells that stand against it.
    """
    together = _cell_weights(parties[0], [cell for party in parties for cell in party.document["cells"]])
    alphas = np.empty(len(parties))
    for p, party in enumerate(parties):
        own = _cell_weights(party, party.document["cells"])
        ratios = {cell: together[cell] / weight for cell, weight in own.items()}
        low, high = min(ratios, key=ratios.__getitem__), max(ratios, key=ratios.__getitem__)
        if ratios[high] > ratios[low] * (1 + _RELATIVE):
            raise BadInput(
                f"{party.document['metric']['name']} over all images is no sum of the parties' own: in {party.name} an "
                f"image of {_named(high)} would count {ratios[high] / ratios[low]:.3g} times as much, beside one of "
                f"{_named(low)}, as it did there.",
                "It adds up where parties hold different subgroups, or the same subgroups and classes in the same "
                "proportions. Score accuracy or recall:CLASS, which always add up.",
            )
        alphas[p] = sum(ratios[_key(c)] * own[_key(c)] * int(c["images"]) for c in party.document["cells"])
    return alphas


def _cell_weights(party: PartyEstimate, cells: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str | None], float]:
    """The weight of one image of each cell, were these all images."""
    metric = Metric.parse(str(party.document["metric"]["name"]))
    classes = list(party.document["classes"])
    try:
        counts = [int(cell["images"]) for cell in cells]
        labels = np.repeat([classes.index(cell["class"]) for cell in cells], counts)
    except ValueError as error:
        raise BadInput(f"{party.name} counts images of a class that is not among its classes ({error}).") from error
    if metric.attacked or metric.forgets:  # whose cells are of its own images alone
        weights = accuracy_weights(len(labels))
    else:
        groups = [str(cell["subgroup"]) for cell, count in zip(cells, counts) for _ in range(count)]
        weights = metric_weights(metric, labels, groups, classes)
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return {_key(cell): float(weights[i]) for cell, i in zip(cells, first)}


def _key(cell: Mapping[str, Any]) -> tuple[str, str | None]:
    return str(cell["class"]), cell["subgroup"]


def _named(cell: tuple[str, str | None]) -> str:
    return f"class {cell[0]!r}" if cell[1] is None else f"class {cell[0]!r} in subgroup {cell[1]!r}"
