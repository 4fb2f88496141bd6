"""Results of `explain` and `score` as they lie in a folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from repair_engine.errors import BadInput

_FILES = ("explain.json", "score.json")
_NAMED = 3


@dataclass(frozen=True)
class Valued:
    """One result.

    Attributes:
        path: of its file.
        called: what it is called in messages.
        document: as it was written.
        ids: of the filters, [n].
        values, errors: of the search's samples, unbiased or nearly, float64 [n]; NaN where a filter was not sampled.
        scores: what is known of the values for ranking, float64 [n]; NaN where nothing is.
    """

    path: Path
    called: str
    document: dict[str, Any]
    ids: tuple[str, ...]
    values: np.ndarray
    errors: np.ndarray
    scores: np.ndarray

    def reordered(self, ids: tuple[str, ...]) -> Valued:
        """The same with its filters in the given order."""
        at = {name: i for i, name in enumerate(self.ids)}
        rows = np.array([at[name] for name in ids], dtype=np.int64)
        return Valued(
            self.path, self.called, self.document, ids, self.values[rows], self.errors[rows], self.scores[rows]
        )


def read_result(given: str, called: str | None = None) -> Valued:
    """The result in a folder (explain.json, else score.json), or in a file; `called` so, by default by its path.

    Raises:
        BadInput: there is none, or it is not what `explain` or `score` writes.
    """
    path = Path(given)
    if path.is_dir():
        found = next((path / name for name in _FILES if (path / name).is_file()), None)
        if found is None:
            raise BadInput(
                f"{path} holds neither {' nor '.join(_FILES)}.", "Name folders that `explain` or `score` wrote."
            )
        path = found
    shown = called or str(path)
    if not path.is_file():
        raise BadInput(f"There is no {path}.", "Name folders that `explain` or `score` wrote.")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        verb, rows = document["verb"], document["filters"]
        if verb not in ("explain", "score"):
            raise BadInput(f"{shown} is a result of {verb}.", "`compare` takes results of `explain` and `score`.")
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
        raise BadInput(f"{shown} is not a result of `explain` or `score` ({type(error).__name__}: {error}).") from error
    if not ids or len(set(ids)) < len(ids):
        raise BadInput(f"{shown} lists {'no filters' if not ids else 'a filter twice'}.")
    if verb == "score":
        scores = np.where(np.isnan(scores), values, scores)
    return Valued(path, shown, document, ids, values, errors, scores)


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
            first = [name for name in valued.ids if name in extra][:_NAMED]
            more = f" and {len(extra) - _NAMED:,} more" if len(extra) > _NAMED else ""
            said.append(f"only {valued.called} has {', '.join(first)}{more}")
    raise BadInput(
        f"The results are of networks with different filters ({_network(a)}; {_network(b)}): {'; '.join(said)}.",
        "Filters are compared by their names: the networks must have the same architecture. Weights, images, metric "
        "and estimator may differ.",
    )


def _network(valued: Valued) -> str:
    model = valued.document["model"]
    return f"{model.get('architecture', 'unknown')} of {model['file']} with {len(valued.ids):,} filters"
