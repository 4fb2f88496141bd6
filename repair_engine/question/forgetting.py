"""What is to be forgotten: the images of a class or of a group, the forget set. All others are the retain set.

The terms are those of machine unlearning. The metric is accuracy on the forget set, to be lowered; limits hold on the
retain set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NotRequired, TypedDict

import numpy as np

from repair_engine.data import SPLITS, Dataset, Holdout
from repair_engine.data.images import Images
from repair_engine.errors import BadInput
from repair_engine.question.objectives import Metric
from repair_engine.support.statistics import REFUSE_BELOW
from repair_engine.support.words import first_few

_SHOWN = 20
_MEMBERS = ("retain", "forget")  # by whether an image is of the forget set


class ForgetRecord(TypedDict):
    """In documents: the class, or the column with its value; of each part how many images are of which set.

    `chance`: part -> see `chance_level`.
    """

    images: dict[str, dict[str, int]]
    chance: dict[str, float]
    of_class: NotRequired[str]
    column: NotRequired[str]
    value: NotRequired[str]


@dataclass(frozen=True)
class ForgetSet:
    """Which images are to be forgotten.

    Attributes:
        mask: of a set's images, bool [N].
        column: the group's; None: it is a class.
        value: the class's name, or the group's value of the column.
    """

    mask: np.ndarray
    column: str | None
    value: str

    @property
    def text(self) -> str:
        """The class or the group, for people."""
        return f"class {self.value}" if self.column is None else f"{self.column} = {self.value}"

    @property
    def members(self) -> tuple[str, ...]:
        """The set that each image is of, by name, [N]."""
        return tuple(_MEMBERS[one] for one in self.mask.astype(int))


def forget_set(metric: Metric, dataset: Dataset) -> ForgetSet:
    """The images that `forget:CLASS` or `forget:COLUMN=VALUE` names.

    A class whose name has an equals sign in it is a class, unless a column has such a value, too.

    Raises:
        BadInput: there is no such class, column or value; or it is both a class and a group.
    """
    name, classes = metric.argument, dataset.class_names
    named = [(name[:i], name[i + 1 :]) for i, letter in enumerate(name) if letter == "="]
    columns = [pair for pair in named if pair[0] in dataset.attributes]
    groups = [pair for pair in columns if pair[1] in dataset.attributes[pair[0]]]
    if name in classes:
        if groups:
            raise BadInput(
                f"--metric {metric}: {name!r} is a class, and {groups[0][1]!r} is a value of the column "
                f"{groups[0][0]!r}.",
                "Rename the column.",
                "metric",
            )
        return ForgetSet(dataset.labels == classes.index(name), None, name)
    if len(groups) > 1:
        said = " and ".join(f"{value!r} of {column!r}" for column, value in groups)
        raise BadInput(f"--metric {metric} may be {said}.", "Rename a column.", "metric")
    if groups:
        ((column, value),) = groups
        return ForgetSet(np.asarray(dataset.attributes[column]) == value, column, value)
    if columns:
        column, value = columns[0]
        values = sorted(set(dataset.attributes[column]))
        near = get_close_matches(value, values, n=3)
        meant = f"Is {' or '.join(near)} meant? " if near else ""
        raise BadInput(
            f"--metric {metric}: no image has {value!r} as its {column}.",
            f"{meant}The values of {column} are: {first_few(values, _SHOWN)}.",
            "metric",
        )
    if named:
        known = ", ".join(dataset.attributes) or "none (no metadata.csv)"
        raise BadInput(
            f"--metric {metric}: there is no class {name!r}, and no column {named[0][0]!r}.",
            f"The columns are: {known}. The classes are: {first_few(list(classes), _SHOWN)}.",
            "metric",
        )
    metric.class_index(classes)  # raises
    raise AssertionError("a class that is there was not found")


def strata_of(metric: Metric, dataset: Dataset) -> tuple[str, ...] | None:
    """What the splits are stratified by beside the class, [N]: a group's images; None where that is nothing."""
    if not metric.forgets:
        return None
    found = forget_set(metric, dataset)
    return None if found.column is None else found.members


def check_sizes(metric: Metric, images: Images) -> None:
    """Raises BadInput where a split has too few images of either set for anything to be said of it."""
    found = forget_set(metric, images.dataset)
    if found.mask.all():
        raise BadInput(
            f"--metric {metric}: all {len(found.mask):,} images are to be forgotten; there is nothing to retain.",
            "Limits and the report need images of others, too.",
            "metric",
        )
    for part in SPLITS:
        inside = found.mask[images.indices(part)]
        for which, n in (("forget", int(inside.sum())), ("retain", int((~inside).sum()))):
            if n < REFUSE_BELOW:
                raise BadInput(
                    f"--metric {metric}: the {which} set has {n} images in the {part} split; {REFUSE_BELOW} are the "
                    "least that should decide anything.",
                    f"The splits are a half, a quarter and a quarter of the images: about {4 * REFUSE_BELOW} of each "
                    "set are needed.",
                    "metric",
                )


def chance_level(labels: np.ndarray, mask: np.ndarray) -> float:
    """Accuracy on the forget set of guesses that know nothing of it: drawn by the retain set's class frequencies.

    0 where a class is forgotten, which no image of the retain set has. Of a group it is what is left when the network
    is no better on it than such guesses; below, it would have to know the images to be wrong so often.

    Args:
        labels: class indices, int64 [N].
        mask: which images are of the forget set, bool [N].
    """
    classes = int(labels.max(initial=0)) + 1
    shares = np.bincount(labels[~mask], minlength=classes) / max(int((~mask).sum()), 1)
    return float(shares[labels[mask]].mean()) if mask.any() else 0.0


def without_forgotten(metric: Metric, guard: Dataset, main: Dataset, parts: Holdout) -> Holdout:
    """A guard set's parts without the images of the forget set; of a column that it lacks, with a warning.

    Raises:
        BadInput: a part has no other images.
    """
    of = forget_set(metric, main)
    if of.column is None:
        mask = guard.labels == main.class_names.index(of.value)
    elif of.column in guard.attributes:
        mask = np.asarray(guard.attributes[of.column]) == of.value
    else:
        said = f"it has no column {of.column!r}: images of {of.text} may be among those that must be retained."
        return Holdout(parts.select, parts.report, parts.excluded, (*parts.warnings, said))
    kept = {name: getattr(parts, name)[~mask[getattr(parts, name)]] for name in ("select", "report")}
    if lacking := [name for name, rows in kept.items() if not len(rows)]:
        raise BadInput(
            f"The guard set's {' and '.join(lacking)} part has no images but those of {of.text}, which are to be "
            "forgotten.",
            "Give one with images of others, or none.",
            "guard",
        )
    left = np.setdiff1d(np.concatenate([parts.select, parts.report]), np.concatenate([*kept.values()]))
    notes = [f"{len(left):,} images of {of.text} are to be forgotten and were left out."] if len(left) else []
    excluded = np.union1d(parts.excluded, left)
    return Holdout(kept["select"], kept["report"], excluded, (*parts.warnings, *notes))


def check_known(metric: Metric, accuracy: float, chance: float, images: int) -> None:
    """Raises BadInput where the intact network knows nothing of the forget set.

    Args:
        accuracy, chance: on the score images of the forget set, of which there are `images`.
    """
    if accuracy > chance:
        return
    raise BadInput(
        f"--metric {metric}: there is nothing to forget. The intact model is right on {accuracy:.1%} of "
        f"{images:,} score images of the forget set; guesses by the retain set's classes are on {chance:.1%}.",
        "Where that is a surprise, look at the order of the classes and at the preprocessing.",
        "metric",
    )


def forget_record(found: ForgetSet, labels: np.ndarray, indices: Mapping[str, np.ndarray]) -> ForgetRecord:
    """See `ForgetRecord`.

    Args:
        labels: of all images.
        indices: part -> of its images.
    """
    record: ForgetRecord = {
        "images": {
            part: {"forget": int(found.mask[rows].sum()), "retain": int((~found.mask[rows]).sum())}
            for part, rows in indices.items()
        },
        "chance": {part: chance_level(labels[rows], found.mask[rows]) for part, rows in indices.items()},
    }
    if found.column is None:
        record["of_class"] = found.value
    else:
        record |= {"column": found.column, "value": found.value}
    return record
