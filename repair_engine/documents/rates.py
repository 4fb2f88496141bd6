"""rates.csv: true and false positive rates of every class in every subgroup, before and after, on the report images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from repair_engine.support import tables
from repair_engine.support.tables import Figure

if TYPE_CHECKING:
    from repair_engine.studies.odds import RateRow

HEADER = ("class", "subgroup", "rate", "n", "before", "after", "counts")


def write_rates(rates: Sequence[RateRow], path: Path) -> None:
    """Two lines for a class in a subgroup, one for each rate; a rate of no image is left empty."""
    with tables.writing(path, HEADER) as rows:
        for row in rates:
            for rate, cell in (("true positive", row["true"]), ("false positive", row["false"])):
                shares = [Figure("" if share is None else f"{share:.6f}") for share in (cell["before"], cell["after"])]
                rows.writerow((row["of"], row["subgroup"], rate, cell["n"], *shares, "yes" if cell["counts"] else "no"))
