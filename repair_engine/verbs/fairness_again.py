"""What a report says of subgroups beside one another, derived a second time from the rows of predictions.csv.

By plain counts, of the names in the file: nothing is shared with what wrote the report.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

ENOUGH = 30  # images, as docs/report.md says
Told = tuple[str, float | None, float]  # what, as the report says it, as it comes again


def fairness_again(
    document: Mapping[str, Any], labels: np.ndarray, groups: np.ndarray, predicted: Mapping[str, np.ndarray]
) -> Iterator[Told]:
    """Every figure of `fairness` before and after, with what comes again; none where the metric has no subgroups.

    Args:
        document: report.json.
        labels, groups: of the report images, words [N].
        predicted: "before" and "after" -> predicted classes, words [N].
    """
    if (told := document.get("fairness")) is None:
        return
    labels, groups = labels.astype(str), groups.astype(str)
    predicted = {when: classes.astype(str) for when, classes in predicted.items()}
    names = sorted(set(groups))
    large = [name for name in names if int((groups == name).sum()) >= ENOUGH]
    for when, classes in predicted.items():
        recalls = {name: _recall(labels, classes, groups == name) for name in names}
        for row in told["rows"]:
            yield f"mean recall of {row['name']} {when}", row[when], recalls[row["name"]]
        if told["worst"] is not None:
            counted = [recalls[name] for name in large]
            yield f"recall of the worst subgroup {when}", told["worst"][when]["recall"], min(counted)
            yield f"gap between the subgroups {when}", told["gap"][when], max(counted) - min(counted)
        rates = {(row["of"], row["subgroup"]): row for row in told.get("rates") or ()}
        for (of, name), row in rates.items():
            for kind, own in (("true", True), ("false", False)):
                share, n = _rate(labels, classes, groups == name, of, own)
                cell = row[kind]
                yield f"images of the {kind} positive rate of {of} in {name}", cell["n"], n
                yield f"{kind} positive rate of {of} in {name} {when}", cell[when], share
        if told.get("equalized_odds") is not None:
            derived = _odds(labels, classes, groups, names)
            yield f"equalized odds difference {when}", told["equalized_odds"][when]["difference"], derived
    for key, of in (("worst", "recall"), ("gap", ""), ("equalized_odds", "difference")):
        if (found := told.get(key)) is not None:
            ends = [found[when][of] if of else found[when] for when in ("before", "after")]
            yield f"change of {key.replace('_', ' ')}", found["change"]["value"], ends[1] - ends[0]


def _recall(labels: np.ndarray, classes: np.ndarray, inside: np.ndarray) -> float:
    """Mean over a subgroup's classes."""
    return float(np.mean([np.mean(classes[inside & (labels == of)] == of) for of in sorted(set(labels[inside]))]))


def _rate(labels: np.ndarray, classes: np.ndarray, inside: np.ndarray, of: str, own: bool) -> tuple[float, int]:
    """The share of a subgroup's images of a class (or of the others) that are predicted as it, and their number."""
    some = classes[inside & ((labels == of) if own else (labels != of))]
    return (float(np.mean(some == of)) if len(some) else float("nan")), len(some)


def _odds(labels: np.ndarray, classes: np.ndarray, groups: np.ndarray, names: Sequence[str]) -> float:
    """The largest difference between subgroups in a rate of at least `ENOUGH` images."""
    largest = 0.0
    for of in sorted(set(labels) | set(classes)):
        for own in (True, False):
            found = [_rate(labels, classes, groups == name, of, own) for name in names]
            shares = [share for share, n in found if n >= ENOUGH]
            if len(shares) > 1:
                largest = max(largest, max(shares) - min(shares))
    return largest
