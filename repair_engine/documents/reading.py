"""Results of `explain`, `score` and `repair` as they lie in a folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from repair_engine.errors import BadInput
from repair_engine.studies.agreement_figures import Valued
from repair_engine.support import tables
from repair_engine.support.words import first_few

TABLE = "filters.csv"  # of a repair: all its filters, of which report.json has the culprits alone
FILES = ("explain.json", "score.json", "report.json")
_WRITERS = "`explain`, `score` or `repair`"
_NAMED = 3


@dataclass(frozen=True)
class Place:
    """Where a result lies.

    Attributes:
        document: one of FILES.
        table: of a repair, its filters.csv.
    """

    document: Path
    table: Path | None = None

    @classmethod
    def of(cls, given: str) -> Place:
        """In a folder, or a file of one. Raises BadInput: there is none."""
        path = Path(given)
        if path.is_dir():
            found = next((path / name for name in FILES if (path / name).is_file()), None)
            if found is None:
                known = f"{', '.join(FILES[:-1])} nor {FILES[-1]}"
                raise BadInput(f"{path} holds neither {known}.", f"Name folders that {_WRITERS} wrote.")
            path = found
        if not path.is_file():
            raise BadInput(f"There is no {path}.", f"Name folders that {_WRITERS} wrote.")
        return cls(path, path.with_name(TABLE))


def read_result(given: str | Place, called: str | None = None) -> Valued:
    """The result in a folder (explain.json, else score.json, else report.json), or in a file.

    Args:
        called: what it is called in messages; by default its path.

    Raises:
        BadInput: there is none, it is not what `explain`, `score` or `repair` writes, or it does not hold the values
            of all filters with their standard errors.
    """
    place = given if isinstance(given, Place) else Place.of(given)
    shown = called or str(place.document)
    try:
        document = json.loads(place.document.read_text(encoding="utf-8"))
        verb = document["verb"]
        if verb not in ("explain", "score", "repair"):
            raise BadInput(f"{shown} is a result of {verb}.", f"`compare` takes results of {_WRITERS}.")
        rows = _rows_of_repair(document, place.table, shown) if verb == "repair" else document["filters"]
        ids = tuple(str(row["id"]) for row in rows)
        values, errors = _column(rows, "value"), _column(rows, "std_error")
        scores = _column(rows, "ranked_by" if verb == "explain" else "best")
        for key in ("name", "text", "goal"):
            document["metric"][key]
        for part in ("model", "data"):
            document[part]["file"], document[part]["sha256"]
        document["run"]["seed"]
    except BadInput:
        raise
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{shown} is not a result of {_WRITERS} ({type(error).__name__}: {error}).") from error
    if not ids or len(set(ids)) < len(ids):
        raise BadInput(f"{shown} lists {'no filters' if not ids else 'a filter twice'}.")
    if verb != "explain":
        scores = np.where(np.isnan(scores), values, scores)
    return Valued(place.document, shown, document, ids, values, errors, scores)


def _rows_of_repair(document: dict[str, Any], table: Path | None, shown: str) -> list[dict[str, Any]]:
    """Of its table, as the other results have them. Raises BadInput: the repair did not value all filters, or an
    earlier version wrote it without standard errors."""
    if document.get("by_hand"):
        raise BadInput(
            f"{shown} is a repair with filters chosen by hand: no others were valued.",
            "Compare the run that it goes on from.",
        )
    if table is None or not table.is_file():
        raise BadInput(f"{shown} is a repair without its {TABLE}.", f"Keep report.json and {TABLE} in one folder.")
    rows = tables.read(table)
    if rows and "std_error" not in rows[0]:
        raise BadInput(
            f"{shown} was repaired by an earlier version, which kept no standard errors of the values.",
            "Repair again with the same seed and budget: values repeat, and their errors are kept.",
        )
    return [{"id": row["filter"], **{key: row[key] or None for key in ("value", "std_error", "best")}} for row in rows]


def _column(rows: list[dict[str, Any]], key: str) -> np.ndarray:
    return np.array([np.nan if row.get(key) is None else float(row[key]) for row in rows], dtype=float)


def check_same_filters(a: Valued, b: Valued) -> None:
    """Raises BadInput where the two results are of networks with different filters, naming what differs."""
    of_a, of_b = set(a.ids), set(b.ids)
    if of_a == of_b:
        return
    said = []
    for valued, extra in ((a, of_a - of_b), (b, of_b - of_a)):
        if extra:
            lone = [name for name in valued.ids if name in extra]
            said.append(f"only {valued.called} has {first_few(lone, _NAMED)}")
    raise BadInput(
        f"The results are of networks with different filters ({_network(a)}; {_network(b)}): {'; '.join(said)}.",
        "Filters are compared by their names: the networks must have the same architecture. Weights, images, metric "
        "and estimator may differ.",
    )


def _network(valued: Valued) -> str:
    model = valued.document["model"]
    return f"{model.get('architecture', 'unknown')} of {model['file']} with {len(valued.ids):,} filters"
