"""filters.csv and curves.csv of an explanation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from repair_engine.documents.explain import ExplainRow
from repair_engine.documents.known import row_known
from repair_engine.documents.records import some_of
from repair_engine.studies.explain_curves import Curve
from repair_engine.support import tables

_FIGURES = (
    *("value", "lower", "upper", "std_error", "samples"),
    *("fresh_value", "fresh_lower", "fresh_upper", "fresh_std_error", "fresh_samples"),
    *("ranked_by", "rank", "weight_norm", "response_norm", "leave_one_out", "constant"),
)


def write_filters(rows: Sequence[ExplainRow], path: Path) -> None:
    """One row per filter, in the network's order; empty where a filter was not sampled.

    known is 0 there, and where the interval spans everything that a value can be.
    """
    with tables.writing(path, ("filter", "site", "channel", *_FIGURES, "known")) as out:
        for row in rows:
            site, _, channel = row["id"].rpartition(":")
            channel = channel.removeprefix("head")
            figures = ["" if value is None else value for value in some_of(row, _FIGURES).values()]
            prefix = "fresh_" if row["fresh_value"] is not None else ""
            out.writerow([row["id"], site, int(channel), *figures, int(row_known(row, prefix))])


def write_curves(curves: Sequence[Curve], path: Path) -> None:
    """One row per curve and number of removed filters; `draw` numbers the random orders."""
    with tables.writing(path, ("end", "ranking", "draw", "removed", "metric", "accuracy")) as out:
        for c in curves:
            draw = "" if c.draw is None else c.draw
            for k, metric, accuracy in zip(c.ks, c.metric, c.accuracy, strict=True):
                out.writerow([c.end, c.ranking, draw, int(k), float(metric), float(accuracy)])
