"""explain.json as a dictionary. Its keys are part of the product's interface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import NotRequired, TypedDict

import numpy as np

from repair_engine.case.case import Case
from repair_engine.choosing.controls import RESPONSE_IMAGES
from repair_engine.documents import repair as documents
from repair_engine.documents.records import FilterRow, Valued
from repair_engine.documents.spread import BlockRow, KindRow, LayerRow, blocks, kinds, layers
from repair_engine.search.records import RunRecord
from repair_engine.studies.arrays import HistogramRecord, histogram
from repair_engine.studies.explain_curves import (
    AdvantageRow,
    Curve,
    CurveImages,
    CurveRow,
    FirstRemoved,
    advantages,
    first_removed,
    of_all,
)
from repair_engine.studies.names import ALONE, ENDS, LEAVE_ONE_OUT, RANDOM, RESPONSES, SHAPLEY, WEIGHTS
from repair_engine.studies.noise import noise_of, noise_warning
from repair_engine.studies.pictures import PictureRow
from repair_engine.studies.rankings import Rankings
from repair_engine.studies.shift import ShiftRecord
from shapley import Estimate


class ExplainRow(FilterRow):
    """One filter: found by the search, by fresh samples where there are any, and by every ranking."""

    fresh_value: float | None
    fresh_lower: float | None
    fresh_upper: float | None
    fresh_std_error: float | None
    fresh_samples: int | None
    rank: int
    ranked_by: float | None
    weight_norm: float
    response_norm: float
    leave_one_out: float


class ImagesUsed(TypedDict):
    """Report images; `of` so many of the metric's."""

    metric: int
    accuracy: int
    of: int | None


class RemovalRecord(TypedDict):
    images: ImagesUsed
    loo_images: int
    ranked_on: dict[str, int]
    first_removed: list[FirstRemoved]
    rows: list[CurveRow]
    kinds: list[CurveRow]
    advantages: list[AdvantageRow]
    logit_shift: NotRequired[ShiftRecord]


class ExplainRecord(Valued):
    """explain.json."""

    created: str
    asked: dict[str, int | None]
    k: int
    filters: list[ExplainRow]
    noise: dict[str, float | None]
    histogram: HistogramRecord
    layers: list[LayerRow]
    kinds: list[KindRow]
    blocks: list[BlockRow]
    curves: RemovalRecord
    files: dict[str, dict[str, str]]
    pictures: NotRequired[list[PictureRow]]
    out: NotRequired[str]


def explain_document(
    case: Case,
    found: Estimate,
    fresh: Estimate | None,
    rankings: Rankings,
    curves: Sequence[Curve],
    images: CurveImages,
    run: RunRecord,
) -> ExplainRecord:
    """The document without its logit shift, pictures and files.

    Args:
        found, fresh: of the two phases (`found` twice where values are exact).
        images: on which the curves were measured.
        run: `documents.describe_run`.
    """
    resampling = case.settings.seed, case.settings.level
    asked = case.settings.explain
    assert asked is not None
    confirmed = fresh if fresh is not found else None
    order = rankings.order(SHAPLEY)
    rank = np.empty(len(order), dtype=int)
    rank[order] = np.arange(1, len(order) + 1)
    filters = [_row(case, p, found, confirmed, rankings, int(rank[p])) for p in range(len(order))]
    k = min(case.settings.top_k, len(order) // 2) or 1
    noise = noise_of(found.values[0], found.std_errors[0])
    scores = rankings.scores[SHAPLEY]
    warnings = list(case.warnings)
    if said := noise_warning(noise):
        warnings.append(said)
    return {
        "schema": documents.SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "verb": "explain",
        "metric": case.question.describe(),
        "model": documents.describe_model(case),
        "data": documents.describe_data(case),
        "run": run,
        "asked": asdict(asked) | {"top_k": case.settings.top_k},
        "k": k,
        "filters": filters,
        "noise": {key: None if value != value else value for key, value in asdict(noise).items()},
        "histogram": histogram(scores),
        "layers": layers(case, order, k),
        "kinds": kinds(case, order, k, scores),
        "blocks": blocks(case, order, k),
        "curves": {
            "images": {"metric": len(images.asked), "accuracy": len(images.clean),
                       "of": None if case.question.attacked else len(case.question.objective("report"))},
            "loo_images": rankings.loo_images,
            "ranked_on": ranked_on(case, found, confirmed, rankings, run["images_per_draw"]),
            "first_removed": first_removed(curves, images, max(1, min(10, len(order) // 2)), *resampling),
            "rows": curve_rows(of_all(curves)),
            "kinds": curve_rows([c for c in curves if c.ranking in ALONE.values()]),
            "advantages": advantages(curves, images, *resampling),
        },
        "warnings": warnings,
        "versions": documents.versions(),
        "files": {},
    }  # fmt: skip


def _row(case: Case, player: int, found: Estimate, fresh: Estimate | None, rankings: Rankings, rank: int) -> ExplainRow:
    again = documents.filter_row(case, player, fresh) if fresh is not None and fresh.samples[player] else None
    score = float(rankings.scores[SHAPLEY][player])
    return {
        **documents.filter_row(case, player, found),
        "fresh_value": again and again["value"],
        "fresh_lower": again and again["lower"],
        "fresh_upper": again and again["upper"],
        "fresh_std_error": again and again["std_error"],
        "fresh_samples": again and again["samples"],
        "rank": rank,
        "ranked_by": None if np.isnan(score) else score,
        "weight_norm": float(rankings.scores[WEIGHTS][player]),
        "response_norm": float(rankings.scores[RESPONSES][player]),
        "leave_one_out": float(rankings.scores[LEAVE_ONE_OUT][player]),
    }


def ranked_on(
    case: Case, found: Estimate, fresh: Estimate | None, rankings: Rankings, batch_size: int
) -> dict[str, int]:
    """How many score images each ranking saw, at most; of Shapley values, the median sampled filter."""
    images = len(case.question.objective("score"))
    samples = found.samples + (0 if fresh is None else fresh.samples)
    draws = int(np.median(samples[samples > 0])) if (samples > 0).any() else 0
    sampled = images if found.estimator == "exact" else min(images, draws * batch_size)
    return {SHAPLEY: sampled, WEIGHTS: 0, RESPONSES: min(RESPONSE_IMAGES, len(case.images.splits.score)),
            LEAVE_ONE_OUT: rankings.loo_images, RANDOM: 0}  # fmt: skip


def curve_rows(curves: Sequence[Curve]) -> list[CurveRow]:
    """One row per end and ranking; the random orders as their mean and range."""
    rows = []
    for end in ENDS:
        here = [c for c in curves if c.end == end]
        for name in dict.fromkeys(c.ranking for c in here):
            mine = [c for c in here if c.ranking == name]
            metric, accuracy = np.stack([c.metric for c in mine]), np.stack([c.accuracy for c in mine])
            row: CurveRow = {
                "end": end,
                "ranking": name,
                "ks": mine[0].ks.tolist(),
                "metric": metric.mean(axis=0).tolist(),
                "accuracy": accuracy.mean(axis=0).tolist(),
            }
            if name == RANDOM:
                row |= {
                    "draws": len(mine),
                    "metric_range": [metric.min(axis=0).tolist(), metric.max(axis=0).tolist()],
                    "accuracy_range": [accuracy.min(axis=0).tolist(), accuracy.max(axis=0).tolist()],
                }
            rows.append(row)
    return rows
