"""compare.json as a dictionary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, cast

import numpy as np

from repair_engine.documents.reading import Place, Valued, check_same_filters, read_result
from repair_engine.studies.agreement_figures import OverlapRow, agreement, overlaps
from repair_engine.studies.arrays import HistogramRecord, histogram
from repair_engine.studies.names import RANDOM, SHAPLEY

if TYPE_CHECKING:  # these need torch, which the web process does not load
    from repair_engine.question.question import MetricRecord
    from repair_engine.studies.explain_curves import CurveRow

SCHEMA = 1


class SideRecord(TypedDict):
    """One result; `model`, `data` and `run` hold what it says of some of their keys."""

    path: str
    verb: str
    metric: MetricRecord
    model: dict[str, Any]
    data: dict[str, Any]
    run: dict[str, Any]
    sampled: int
    histogram: HistogramRecord
    curves: list[CurveRow]


class AgreementRecord(TypedDict):
    """See `Agreement`."""

    n: int
    spearman: float | None
    corrected: float | None
    reliabilities: list[float | None]
    cut: bool


class CompareRecord(TypedDict):
    """compare.json."""

    schema: int
    verb: str
    results: list[SideRecord]
    filters: int
    differs: list[str]
    agreement: AgreementRecord
    overlaps: list[OverlapRow]
    warnings: list[str]
    out: NotRequired[str]


def compare(first: str | Place, second: str | Place, names: tuple[str, str] | None = None) -> CompareRecord:
    """The document about two results.

    Args:
        first, second: folders or files of `explain`, `score` or `repair`, or where these lie.
        names: what they are called in the document and in errors; their paths by default.

    Raises:
        BadInput: not such results, or of networks with different filters (see `read_result`).
    """
    called = names or (None, None)
    a, b = read_result(first, called[0]), read_result(second, called[1])
    check_same_filters(a, b)
    b = b.reordered(a.ids)
    found = agreement(a, b)
    sampled = np.isfinite(a.values) & np.isfinite(b.values)
    return {
        "schema": SCHEMA,
        "verb": "compare",
        "results": [_side(a), _side(b)],
        "filters": len(a.ids),
        "differs": _differs(a, b),
        "agreement": cast(AgreementRecord, asdict(found)),
        "overlaps": overlaps(a.only(sampled), b.only(sampled)),
        "warnings": _warnings(a, b, found.n),
    }


def _side(valued: Valued) -> SideRecord:
    document = valued.document
    run = document["run"]
    rows = document.get("curves", {}).get("rows", [])
    return {
        "path": valued.called,
        "verb": document["verb"],
        "metric": document["metric"],
        "model": {key: document["model"].get(key) for key in ("file", "sha256", "architecture")},
        "data": {key: document["data"].get(key) for key in ("file", "sha256")},
        "run": {key: run.get(key) for key in ("estimator", "ablation", "budget", "evaluations", "seed")},
        "sampled": int(np.isfinite(valued.values).sum()),
        "histogram": histogram(valued.scores),
        "curves": [row for row in rows if row["ranking"] in (SHAPLEY, RANDOM)],
    }


def _differs(a: Valued, b: Valued) -> list[str]:
    """What is not the same on both sides, in words."""
    pairs = {
        "weights": [v.document["model"]["sha256"] for v in (a, b)],
        "images": [(v.document["data"]["sha256"], v.document["data"].get("split_folder")) for v in (a, b)],
        "preprocessing": [v.document["data"].get("preprocessing") for v in (a, b)],
        "metric": [v.document["metric"]["name"] for v in (a, b)],
        "attack": [v.document["metric"].get("attack") for v in (a, b)],
        "trigger": [_pasted(v.document["metric"].get("trigger") or {}) for v in (a, b)],
        "corruption": [_corrupted(v.document["metric"].get("corruption") or {}) for v in (a, b)],
        "constants": [v.document["run"].get("ablation") for v in (a, b)],
        "estimator": [v.document["run"].get("estimator") for v in (a, b)],
        "seed": [v.document["run"]["seed"] for v in (a, b)],
        "budget": [v.document["run"].get("budget") for v in (a, b)],
        "evaluations": [v.document["run"].get("evaluations") for v in (a, b)],
        "images per draw": [v.document["run"].get("images_per_draw") for v in (a, b)],
        "precision": [(v.document["run"].get("precision") or {}).get("used", "float32") for v in (a, b)],
        "splits": [v.document["data"].get("splits") for v in (a, b)],
    }
    return [name for name, (one, other) in pairs.items() if one != other]


def _pasted(trigger: Mapping[str, Any]) -> list[Any]:
    """What makes a trigger the same one, whatever its file is called."""
    return [trigger.get(key) for key in ("sha256", "at", "opacity")]


def _corrupted(corruption: Mapping[str, Any]) -> list[Any]:
    """What makes corruptions the same ones."""
    return [corruption.get(key) for key in ("severity", "parameters", "sha256")]


def _warnings(a: Valued, b: Valued, n: int) -> list[str]:
    documents, said = (a.document, b.document), []
    if a.path.resolve() == b.path.resolve():
        said.append("Both sides are the same file.")
    if documents[0]["run"]["seed"] == documents[1]["run"]["seed"]:
        said.append(
            "Both runs have the same seed, so they may share draws: their sampling noise is then correlated, and both "
            "the correlation and its correction are too high. Other seeds (--seed) make the runs independent."
        )
    repairs = [v.called for v in (a, b) if v.document["verb"] == "repair" and np.isnan(v.values).any()]
    if repairs:
        said.append(
            f"{' and '.join(dict.fromkeys(repairs))}: a repair's search looks closely at the end where culprits "
            "are. The order of the other filters is less certain."
        )
    goals = {d["metric"]["goal"] for d in documents}
    if len(goals) > 1:
        said.append(
            "One metric is to be raised and the other to be lowered: a filter that both metrics owe to is among the "
            "culprits of one and the pillars of the other."
        )
    if n < len(a.ids):
        said.append(
            f"{len(a.ids) - n:,} of {len(a.ids):,} filters were not sampled by both runs and are not "
            "compared: mostly those that looked small, so correlation and overlap speak of the rest alone."
        )
    return said
