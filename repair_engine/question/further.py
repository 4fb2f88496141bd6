"""Further objectives of a run: valued on the same evaluations as the metric, at the price of one.

Every objective is linear in the outcomes of the same images, so one more is one more row of weights (DESIGN: weights
[M, N]). What they need in common is images drawn so that each of them stays unbiased: cells of class × the values of
all columns that any of them asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from repair_engine.data import Dataset
from repair_engine.data.columns import columns_of, combinations
from repair_engine.errors import BadInput
from repair_engine.question.forgetting import forget_set
from repair_engine.question.objectives import Metric, metric_weights
from repair_engine.question.objectives.metric import subgroup_weights

MOST_BYTES = 2 << 30  # of the values, their spreads and what blocks pass on
_ARRAYS = 8  # float64 [M, n] that are held at a time: state, round, block and draw
_MOST_VALUES = 50  # of a column whose subgroups "subgroups" lists; more are identities, not subgroups


@dataclass(frozen=True)
class FurtherObjective:
    """One objective beside the metric.

    Attributes:
        name: a metric's, or `subgroup:COLUMN=VALUE`, the mean recall over the classes of one subgroup.
        columns: of metadata.csv that it asks for.
    """

    name: str
    columns: tuple[str, ...] = ()

    def weights(self, dataset: Dataset, indices: np.ndarray) -> np.ndarray:
        """Over the images `indices` of the set, float64 [N], summing to 1.

        Raises:
            BadInput: there is no image of the class or subgroup among them.
        """
        labels = dataset.labels[indices]
        if self.name.startswith("subgroup:"):
            value = self.name.partition("=")[2]
            inside = np.flatnonzero(np.asarray(dataset.column(self.columns[0]))[indices] == value)
            if not len(inside):
                raise BadInput(f"--also {self.name}: the score split has no image of it.", "Leave it out.")
            weights = np.zeros(len(labels))
            weights[inside] = subgroup_weights(labels[inside], [value] * len(inside))
            return weights
        metric = Metric.parse(self.name)
        groups = [subgroup_names(dataset, self.columns)[i] for i in indices] if self.columns else None
        return metric_weights(metric, labels, groups, dataset.class_names)


def subgroup_names(dataset: Dataset, columns: Sequence[str]) -> tuple[str, ...]:
    """Each image's combination of the columns' values, [N]."""
    return combinations([dataset.column(name, 2) for name in columns])


def further_objectives(metric: Metric, asked: Sequence[str], dataset: Dataset) -> tuple[FurtherObjective, ...]:
    """What `--also` asks for, each once, without the metric itself.

    Raises:
        BadInput: an unknown metric, class, column or value; or a metric whose images are others.
    """
    if not asked:
        return ()
    _check_shared(metric)
    found: dict[str, FurtherObjective] = {}
    for text in asked:
        for one in _expanded(text, dataset):
            found.setdefault(one.name, one)
    found.pop(str(metric), None)
    return tuple(found.values())


def all_columns(metric: Metric, others: Sequence[FurtherObjective], dataset: Dataset) -> tuple[str, ...]:
    """Columns that any of them asks for, in the set's order: what splits and batches are stratified by."""
    named = {name for one in others for name in one.columns}
    if metric.kind == "subgroup-recall":
        named |= set(columns_of(metric.argument, dataset.attributes))
    if metric.forgets and (column := forget_set(metric, dataset).column) is not None:
        named.add(column)
    return tuple(name for name in dataset.attributes if name in named)


def check_size(objectives: int, filters: int) -> None:
    """Raises BadInput where the values of so many objectives do not fit into `MOST_BYTES`."""
    if objectives * filters * 8 * _ARRAYS > MOST_BYTES:
        most = MOST_BYTES // (8 * _ARRAYS * filters)
        raise BadInput(
            f"--also: {objectives:,} objectives of {filters:,} filters take more than {MOST_BYTES >> 30} GiB; at most "
            f"{most:,} fit.",
            "Name the classes and subgroups that matter, or value them in several runs.",
        )


def _check_shared(metric: Metric) -> None:
    if metric.apart:
        raise BadInput(f"--also: {metric} is valued on images of its own, which no other metric shares.")


def _expanded(text: str, dataset: Dataset) -> list[FurtherObjective]:
    if text == "classes":
        present = np.unique(dataset.labels)
        return [FurtherObjective(f"recall:{dataset.class_names[c]}") for c in present]
    if text == "subgroups":
        found = []
        for column, values in dataset.attributes.items():
            levels = sorted(set(values))
            if 2 <= len(levels) <= _MOST_VALUES:
                found.append(FurtherObjective(f"subgroup-recall:{column}", (column,)))
                found += [FurtherObjective(f"subgroup:{column}={value}", (column,)) for value in levels]
        if not found:
            raise BadInput("--also subgroups: the image set has no column with 2 to 50 different values.")
        return found
    if text == "all":
        columns = any(2 <= len(set(values)) <= _MOST_VALUES for values in dataset.attributes.values())
        return [
            FurtherObjective("accuracy"),
            *_expanded("classes", dataset),
            *(_expanded("subgroups", dataset) if columns else []),
        ]
    if text.startswith("subgroup:"):
        column, equals, value = text.removeprefix("subgroup:").partition("=")
        values = dataset.column(column, 2)
        if not equals or value not in values:
            known = ", ".join(sorted(set(values))[:20])
            raise BadInput(f"--also {text}: it is subgroup:COLUMN=VALUE.", f"The values of {column} are: {known}.")
        return [FurtherObjective(text, (column,))]
    metric = Metric.parse(text)
    _check_shared(metric)
    if metric.kind == "recall":
        metric.class_index(dataset.class_names)
    if metric.kind == "subgroup-recall":
        columns_asked = columns_of(metric.argument, dataset.attributes)
        subgroup_names(dataset, columns_asked)
        return [FurtherObjective(text, columns_asked)]
    return [FurtherObjective(text)]
