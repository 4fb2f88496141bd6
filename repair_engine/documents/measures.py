"""Figures of a report, from predictions before and after: all on images, none on estimates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from repair_engine.case.case import Case
from repair_engine.data import SPLITS
from repair_engine.documents.records import Change, GroupRow, SplitFigures
from repair_engine.question.goals import EQUALIZED_ODDS
from repair_engine.question.objectives import Objective
from repair_engine.question.objectives.metric import accuracy_weights
from repair_engine.studies import calibration, fairness, odds
from repair_engine.support.statistics import REFUSE_BELOW, cell_flag, holm, mcnemar, paired_bootstrap, wilson


def split_figures(case: Case, predicted: np.ndarray, attacked: dict[str, np.ndarray]) -> dict[str, SplitFigures]:
    """Metric and clean accuracy (of images that are to be retained) per split and over all images.

    Args:
        predicted: of all images, int64 [N].
        attacked: split -> predictions of its changed images (metrics of changed images only).
    """
    figures: dict[str, SplitFigures] = {}
    right = predicted == case.images.labels
    for part in (*SPLITS, "all"):
        figures[part] = {"accuracy": float(right[case.question.retained(part)].mean())}
        value = case.question.value(part, predicted, attacked)
        if value is not None:
            figures[part]["metric"] = value
        figures[part] |= case.question.rates(part, attacked)  # type: ignore[typeddict-item]
    return figures


def gain(objective: Objective, before: np.ndarray, after: np.ndarray, seed: int, level: float = 0.95) -> Change:
    """Change of the metric as shown, with its paired interval and McNemar's test.

    Args:
        before, after: predictions of the objective's images, int64 [N].
    """
    hits = before == objective.targets, after == objective.targets
    shown = (~hits[0], ~hits[1]) if objective.complement else hits
    return _change(*shown, objective.weights, objective.cells, seed, level)


def change_of_accuracy(
    right_before: np.ndarray, right_after: np.ndarray, labels: np.ndarray, seed: int, level: float = 0.95
) -> Change:
    """Like `gain`, of plain accuracy, from correctness bool [N]; stratified by class."""
    return _change(right_before, right_after, accuracy_weights(len(labels)), labels, seed, level)


def _change(
    before: np.ndarray, after: np.ndarray, weights: np.ndarray, cells: np.ndarray, seed: int, level: float
) -> Change:
    interval = paired_bootstrap(before, after, weights, cells, seed, level=level)
    return {
        "value": interval.estimate,
        "lower": interval.lower,
        "upper": interval.upper,
        "level": interval.level,
        "method": interval.method,
        "mcnemar": mcnemar(before, after).to_json(),
    }


def group_table(
    names: Sequence[str], right_before: np.ndarray, right_after: np.ndarray, groups: np.ndarray
) -> list[GroupRow]:
    """Recall per group with Wilson intervals, the paired change, McNemar with Holm, and the small-cell flag.

    Args:
        names: name of each group code.
        right_before, right_after: bool [N] on the report images.
        groups: group code [N].
    """
    rows: list[GroupRow] = []
    for code, name in enumerate(names):
        inside = groups == code
        n = int(inside.sum())
        if not n:
            continue
        before, after = wilson(int(right_before[inside].sum()), n), wilson(int(right_after[inside].sum()), n)
        test = mcnemar(right_before[inside], right_after[inside])
        rows.append(
            {
                "name": name,
                "n": n,
                "before": before.estimate,
                "before_interval": [before.lower, before.upper],
                "after": after.estimate,
                "after_interval": [after.lower, after.upper],
                "change": after.estimate - before.estimate,
                "won": test.won,
                "lost": test.lost,
                "p": test.p_value,
                "size": cell_flag(n),
            }
        )
    for row, adjusted in zip(rows, holm([r["p"] for r in rows])):
        row["p_holm"] = adjusted
    return rows


def group_tables(case: Case, before: np.ndarray, after: np.ndarray) -> dict[str, list[GroupRow]]:
    """Tables by subgroup and by class within subgroup (where the metric has columns) and by class, on *report*."""
    indices = case.question.classed("report")
    labels = case.images.labels[indices]
    classes = case.images.class_names
    right_before, right_after = before[indices] == labels, after[indices] == labels
    tables = {"classes": group_table(classes, right_before, right_after, labels)}
    if (groups := case.question.groups("report")) is not None:
        names, codes = np.unique(groups, return_inverse=True)
        tables["subgroups"] = group_table([str(n) for n in names], right_before, right_after, codes)
        cells = [f"{name}: {title}" for name in names for title in classes]
        tables["cells"] = group_table(cells, right_before, right_after, codes * len(classes) + labels)
    return tables


def fairness_of(case: Case, before: np.ndarray, after: np.ndarray) -> fairness.FairnessRecord:
    """See `fairness.describe`, on *report*, with `odds.describe` where that is the goal. The metric has subgroups."""
    indices, settings = case.images.splits.report, case.settings
    labels, groups = case.images.labels[indices], case.question.groups("report") or []
    names, codes = np.unique(groups, return_inverse=True)
    was, now = before[indices], after[indices]
    found = fairness.describe(
        [str(n) for n in names], codes, labels, was == labels, now == labels, settings.seed, settings.level
    )
    if settings.limits.goal == EQUALIZED_ODDS:
        found["equalized_odds"], found["rates"] = odds.describe(
            groups, case.images.class_names, labels, was, now, settings.seed, settings.level
        )
    return found


def calibration_of(case: Case, before: np.ndarray, after: np.ndarray) -> calibration.CalibrationRecord | None:
    """See `calibration.describe`, on *report*, with temperatures fitted on *select*, of what is to be retained; None
    where either is of fewer than 30 images.

    Args:
        before, after: logits of all images, float32 [N, classes].
    """
    report, select = case.question.retained("report"), case.question.retained("select")
    if min(len(report), len(select)) < REFUSE_BELOW:
        return None
    labels, settings = case.images.labels, case.settings
    groups, there = case.question.groups("report"), (labels[select], before[select], after[select])
    return calibration.describe(
        labels[report], before[report], after[report], groups, there, settings.seed, settings.level
    )
