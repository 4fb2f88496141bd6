"""filters.csv: what was found out about every filter, culprit or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from repair_engine.documents.known import is_known
from repair_engine.network import Network
from repair_engine.search.phases import Ranking
from repair_engine.support import tables
from repair_engine.support.statistics import finite
from shapley import Estimate

_FIGURES = ("value", "lower", "upper", "std_error", "samples")
HEADER = (
    *("filter", "site", "channel", *_FIGURES, "best"),
    *(f"fresh_{name}" for name in _FIGURES),
    *("constant", "rank", "ablated", "known", "kind"),
)


def write_filters(network: Network, ranking: Ranking, k: int, path: Path) -> None:
    """One row per unit, in the network's order; kind is filter, hidden or head.

    value, lower, upper, std_error and samples are of the search, which chose by them where it went on; best is what
    it took the value for when it ranked the filters (`fast` alone, of every filter). The fresh ones are of the samples
    that were drawn afterwards for the candidates, and once more for what is ablated (exact values need no second look
    and stand in the first columns). Empty: not sampled. rank is the place in the order of ablation, from 1. known is 0
    where a filter was not sampled, or its interval spans everything that a value can be.

    Args:
        k: how many of the ranked filters were ablated.
    """
    rank = {int(player): place for place, player in enumerate(ranking.players, 1)}
    fresh = ranking.fresh if ranking.fresh is not ranking.found else None
    with tables.writing(path, HEADER) as rows:
        for player in range(network.n_filters):
            name = network.filter_id(player)
            site, _, _ = name.rpartition(":")
            place = rank.get(player, 0)
            rows.writerow(
                [
                    *(name, site, network.channel(player)),
                    *_figures(ranking.found, player),
                    "" if ranking.found.best is None else finite(ranking.found.best[player]),
                    *(_figures(fresh, player) if fresh else [""] * len(_FIGURES)),
                    *(tables.Figure(f"{network.constant(player):.9g}"), place or "", int(0 < place <= k)),
                    int(_known(fresh if fresh is not None and fresh.samples[player] else ranking.found, player)),
                    network.kind(player),
                ]
            )


def _known(of: Estimate, player: int) -> bool:
    value, lower, upper = (float(found[0][player]) for found in (of.values, of.lower, of.upper))
    return is_known(None if np.isnan(value) else value, lower, upper)


def _figures(of: Estimate, player: int) -> list[object]:
    """In the order of _FIGURES; empty where there is none."""
    if np.isnan(of.values[0][player]):
        return [*[""] * (len(_FIGURES) - 1), int(of.samples[player])]
    ends = (of.values, of.lower, of.upper, of.std_errors)
    return [*(finite(end[0][player]) for end in ends), int(of.samples[player])]
