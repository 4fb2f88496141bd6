"""What a model recognises before anything is done to it: figures of labelled images, and what they suggest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np

from repair_engine.case.warnings import chance_warning
from repair_engine.data.before import small_columns
from repair_engine.data.columns import argument_of
from repair_engine.studies.calibration import Reliability, reliability
from repair_engine.support.statistics import REFUSE_BELOW, IntervalRecord, cell_flag, holm, wilson
from repair_engine.support.words import count, percent

MOST_ROWS = 200  # of a table
MOST_CONFUSED = 20
MOST_CLASSES = 20  # whose confusion matrix is shown whole
NAMED = 5  # slices
ALPHA = 0.05  # of all slices together


class Slice(TypedDict):
    """Images of a class, of a value of a column ("" where all are meant), or of both, and how many are recognised."""

    name: str
    class_name: str
    column: str
    value: str
    n: int
    right: int
    recall: float
    lower: float
    upper: float
    size: str


class ColumnRows(TypedDict):
    """By the values of a column: recall, the mean over the classes that each has; and by class within each."""

    column: str
    values: list[Slice]
    means: dict[str, float]
    cells: list[Slice]


class Confused(TypedDict):
    """Images of one class taken for another; `of`: images of the class."""

    label: str
    predicted: str
    n: int
    of: int


class Suggestion(TypedDict):
    """A metric that a repair may raise, and why."""

    metric: str
    why: str


class LookedAt(TypedDict):
    """Images: in all, free to be looked at before a run, and looked at; `seed` of the splits whose reports are not."""

    total: int
    free: int
    used: int
    seed: int


class BaselineRecord(TypedDict):
    """See the module's text. `matrix`: labels × predictions, [] of many classes."""

    images: LookedAt
    accuracy: IntervalRecord
    classes: list[Slice]
    columns: list[ColumnRows]
    matrix: list[list[int]]
    class_names: list[str]
    confused: list[Confused]
    calibration: Reliability
    worst: list[Slice]
    said: str
    suggestions: list[Suggestion]
    warnings: list[str]


def baseline_document(
    labels: np.ndarray,
    predicted: np.ndarray,
    confidence: np.ndarray,
    attributes: Mapping[str, Sequence[str]],
    class_names: Sequence[str],
    images: LookedAt,
    warnings: Sequence[str] = (),
) -> BaselineRecord:
    """Figures of some images; JSON-able.

    Args:
        labels, predicted: class indices, int64 [N].
        confidence: the predicted class's probability, [N].
        attributes: column -> value of each image, [N].
    """
    right = predicted == labels
    accuracy = wilson(int(right.sum()), len(right))
    classes = [
        _slice(class_names[c], right[labels == c], class_name=class_names[c]) for c in np.unique(labels).tolist()
    ]
    columns = [_column(name, np.asarray(attributes[name]), labels, right, class_names)
               for name in small_columns(attributes)]  # fmt: skip

    def members(row: Slice) -> bytes:
        inside = labels == list(class_names).index(row["class_name"])
        if row["column"]:
            inside &= np.asarray(attributes[row["column"]]) == row["value"]
        return inside.tobytes()

    slices = {members(row): row for row in [*(r for one in reversed(columns) for r in one["cells"]), *classes]}
    worst = _worst([*slices.values()], accuracy.estimate)  # the same images under two names count once
    shown = _shown(labels, predicted)
    matrix = [] if len(shown) > MOST_CLASSES else _matrix(labels, predicted, shown)
    return {
        "images": images,
        "accuracy": {
            "value": accuracy.estimate, "lower": accuracy.lower, "upper": accuracy.upper, "level": accuracy.level,
        },
        "classes": classes[:MOST_ROWS],
        "columns": columns,
        "matrix": matrix,
        "class_names": [class_names[c] for c in shown] if matrix else [],
        "confused": _confused(labels, predicted, class_names),
        "calibration": reliability(confidence, right),
        "worst": worst[:NAMED],
        "said": _said(worst, accuracy.estimate),
        "suggestions": _suggestions(classes, columns, worst, accuracy.estimate),
        "warnings": [*warnings, *chance_warning(accuracy.estimate, len(class_names))],
    }  # fmt: skip


def _slice(name: str, right: np.ndarray, class_name: str = "", column: str = "", value: str = "") -> Slice:
    found = wilson(int(right.sum()), len(right))
    return {
        "name": name, "class_name": class_name, "column": column, "value": value, "n": len(right),
        "right": int(right.sum()), "recall": found.estimate, "lower": found.lower, "upper": found.upper,
        "size": cell_flag(len(right)),
    }  # fmt: skip


def _column(
    name: str, values: np.ndarray, labels: np.ndarray, right: np.ndarray, class_names: Sequence[str]
) -> ColumnRows:
    rows: list[Slice] = []
    cells: list[Slice] = []
    means: dict[str, float] = {}
    for value in np.unique(values).tolist():
        inside = values == value
        rows.append(_slice(value or "(empty)", right[inside], column=name, value=value))
        present = np.unique(labels[inside]).tolist()
        means[value] = float(np.mean([right[inside & (labels == c)].mean() for c in present]))
        for c in present:
            title = f"{class_names[c]} / {value or '(empty)'}"
            cells.append(_slice(title, right[inside & (labels == c)], class_names[c], name, value))
    cells.sort(key=lambda row: (row["recall"], -row["n"]))
    return {"column": name, "values": rows, "means": means, "cells": cells[:MOST_ROWS]}


def _worst(slices: Sequence[Slice], accuracy: float) -> list[Slice]:
    """Slices that are recognised less often than all images are: exact binomial tests, with Holm's adjustment.

    Those of too few images to decide anything are left out. Ordered by the upper end of their interval.
    """
    from scipy.stats import binomtest

    tested = [row for row in slices if row["n"] >= REFUSE_BELOW]
    p = holm([float(binomtest(row["right"], row["n"], accuracy, "less").pvalue) for row in tested])
    found = [row for row, adjusted in zip(tested, p, strict=True) if adjusted < ALPHA]
    return sorted(found, key=lambda row: row["upper"])


def _said(worst: Sequence[Slice], accuracy: float) -> str:
    if not worst:
        return (
            f"No class or subgroup of {REFUSE_BELOW} images or more is shown to be recognised less often than all are "
            f"({percent(accuracy)})."
        )
    named = "; ".join(f"{row['name']}: {percent(row['recall'], 0)} of {row['n']:,}" for row in worst[:3])
    more = f"; and {len(worst) - 3} more" if len(worst) > 3 else ""
    return f"Recognised least: {named}{more}."


def _suggestions(
    classes: Sequence[Slice], columns: Sequence[ColumnRows], worst: Sequence[Slice], accuracy: float
) -> list[Suggestion]:
    """Where something stands out, what would raise it; accuracy always."""
    found: list[Suggestion] = []
    failed = {row["column"] for row in worst if row["column"]}
    gaps = {one["column"]: max(one["means"].values()) - min(one["means"].values()) for one in columns}
    for one in sorted(columns, key=lambda one: -gaps[one["column"]]):
        if one["column"] in failed:
            means = one["means"]
            low, high = min(means, key=lambda v: means[v]), max(means, key=lambda v: means[v])
            why = f"recall is {percent(means[low], 0)} for {low or '(empty)'}, {percent(means[high], 0)} for "
            column = argument_of([one["column"]])
            found.append({"metric": f"subgroup-recall:{column}", "why": f"{why}{high or '(empty)'}"})
            break
    for row in worst:
        if not row["column"]:
            why = f"{percent(row['recall'], 0)} of {count(row['n'], 'image')} are recognised"
            found.append({"metric": f"recall:{row['class_name']}", "why": why})
            break
    return [*found, {"metric": "accuracy", "why": f"{percent(accuracy)} of all images are recognised"}]


def _shown(labels: np.ndarray, predicted: np.ndarray) -> list[int]:
    return sorted({*np.unique(labels).tolist(), *np.unique(predicted).tolist()})


def _matrix(labels: np.ndarray, predicted: np.ndarray, shown: Sequence[int]) -> list[list[int]]:
    return [[int(((labels == row) & (predicted == column)).sum()) for column in shown] for row in shown]


def _confused(labels: np.ndarray, predicted: np.ndarray, class_names: Sequence[str]) -> list[Confused]:
    wrong = labels != predicted
    pairs, counts = np.unique(np.stack([labels[wrong], predicted[wrong]]), axis=1, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_CONFUSED]
    return [
        {
            "label": class_names[int(pairs[0, i])],
            "predicted": class_names[int(pairs[1, i])],
            "n": int(counts[i]),
            "of": int((labels == pairs[0, i]).sum()),
        }
        for i in order
    ]
