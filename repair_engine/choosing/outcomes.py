"""What was predicted of the select images after each removal, kept so that all of it can be looked at again.

The file needs no network to be read, and no torch: pages and the web process take every figure of *select* from it.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from repair_engine.choosing.selection import Sweep
from repair_engine.errors import BadInput
from repair_engine.settings import Limits
from repair_engine.support.statistics import REFUSE_BELOW

FILE = "choice.npz"
# Orders of removal.
VALUE, STEPWISE, MARGIN, BY_HAND = "value", "stepwise", "stepwise with a margin", "by hand"
CERTAINTY, GATES, AMONG_GATES = "certainty", "gates", "stepwise among gates"
MARGIN_AMONG_GATES = "stepwise among gates with a margin"
_SCHEMA = 1


@dataclass(frozen=True)
class Judges:
    """The images that a choice is judged by: *select*, and the guard set's.

    Attributes:
        classes: names of the classes.
        labels: of the select images, int64 [N].
        subgroups: names of the subgroups that gate, () without.
        groups: which subgroup each select image is of, int64 [N]; empty without.
        rows: the select images that the metric is taken over, int64 [n]; None: adversarial ones, which stand apart.
        targets, weights: of the metric's images, int64 and float64 [n] (`question.objectives.Objective`).
        true: labels of the adversarial images, int64 [n]; None without an attack.
        guard: labels of the guard set's select images, int64 [G]; None without one.
        complement: the metric is 1 − Σ wᵢ·[targetᵢ is predicted].
        lower: the metric is to be lowered.
        wanted: the class that a trigger gives, of each image with it, int64 [n]; None without one.
        retained: the select images that clean accuracy counts, int64; None: all.
    """

    classes: tuple[str, ...]
    labels: np.ndarray
    subgroups: tuple[str, ...]
    groups: np.ndarray
    rows: np.ndarray | None
    targets: np.ndarray
    weights: np.ndarray
    true: np.ndarray | None
    guard: np.ndarray | None
    complement: bool
    lower: bool
    wanted: np.ndarray | None = None
    retained: np.ndarray | None = None


@dataclass(frozen=True)
class Walk:
    """One order of removal: predicted classes with nothing ablated, then after each of m removals in turn.

    Attributes:
        order: one of those above.
        players: in the order of their removal, int64 [m].
        clean, attacked, guard: int64 [m + 1, N], [m + 1, n] and [m + 1, G]; None where there are no such images.
    """

    order: str
    players: np.ndarray
    clean: np.ndarray
    attacked: np.ndarray | None = None
    guard: np.ndarray | None = None

    @property
    def predicted(self) -> dict[str, np.ndarray]:
        """Set of images -> predictions, of those that there are."""
        sets = {"clean": self.clean, "attacked": self.attacked, "guard": self.guard}
        return {name: found for name, found in sets.items() if found is not None}

    def asked(self, judges: Judges) -> np.ndarray:
        """Predictions of the metric's images, [m + 1, n]."""
        if judges.rows is None:
            assert self.attacked is not None
            return self.attacked
        return self.clean[:, judges.rows]


@dataclass(frozen=True)
class Figures:
    """Of each prefix of a walk, [m + 1]; None where there are no such images.

    Attributes:
        metric: as shown.
        clean, guard: accuracy on clean images (that are to be retained) and on the guard set.
        drop: largest loss of recall of any subgroup that gates.
        true_label: share of the adversarial images that are predicted as what they are.
        success: share of the images with a trigger that it gives its class.
        won, lost: of the same clean images, those newly right and newly wrong, against the intact network.
        classes, subgroups: right ones of each, int64 [m + 1, C] and [m + 1, S].
    """

    metric: np.ndarray
    clean: np.ndarray
    guard: np.ndarray | None
    drop: np.ndarray | None
    true_label: np.ndarray | None
    success: np.ndarray | None
    won: np.ndarray
    lost: np.ndarray
    classes: np.ndarray
    subgroups: np.ndarray

    def within(self, limits: Limits) -> np.ndarray:
        """Which prefixes keep all limits, bool [m + 1]."""
        return Sweep(self.metric, self.clean, self.guard, self.drop, lower=False).feasible(limits)


def figures(judges: Judges, walk: Walk) -> Figures:
    """All figures of a walk's prefixes."""
    right = walk.clean == judges.labels
    hits = (walk.asked(judges) == judges.targets) @ judges.weights
    groups = [judges.subgroups[code] for code in judges.groups]
    kept = right if judges.retained is None else right[:, judges.retained]
    return Figures(
        metric=1.0 - hits if judges.complement else hits,
        clean=kept.mean(axis=1),
        guard=None if walk.guard is None or judges.guard is None else (walk.guard == judges.guard).mean(axis=1),
        drop=largest_drops(right, groups) if groups else None,
        true_label=_share(walk.attacked, judges.true),
        success=_share(walk.attacked, judges.wanted),
        won=(kept & ~kept[0]).sum(axis=1),
        lost=(~kept & kept[0]).sum(axis=1),
        classes=_right_of(right, judges.labels, len(judges.classes)),
        subgroups=_right_of(right, judges.groups, len(judges.subgroups)),
    )


def largest_drops(correct: np.ndarray, subgroups: Sequence[str]) -> np.ndarray:
    """Largest loss of accuracy of any subgroup of at least 30 images, against row 0, float64 [m + 1].

    Args:
        correct: bool [m + 1, N].
    """
    drops = np.full(len(correct), -np.inf)
    groups = np.asarray(subgroups)
    for group in np.unique(groups):
        inside = groups == group
        if inside.sum() >= REFUSE_BELOW:
            rates = correct[:, inside].mean(axis=1)
            drops = np.maximum(drops, rates[0] - rates)
    return np.where(np.isinf(drops), 0.0, drops)


def _share(predicted: np.ndarray | None, classes: np.ndarray | None) -> np.ndarray | None:
    return None if predicted is None or classes is None else (predicted == classes).mean(axis=1)


def _right_of(right: np.ndarray, codes: np.ndarray, kinds: int) -> np.ndarray:
    if not kinds:
        return np.zeros((len(right), 0), np.int64)
    return np.stack([np.bincount(codes[row], minlength=kinds) for row in right])


@dataclass(frozen=True)
class Choice:
    """Everything that a choice of filters may be looked at by, as the file holds it.

    Attributes:
        walks: the order that was used first.
        units: ids of each walk's filters in the order of removal.
    """

    judges: Judges
    limits: Limits
    walks: tuple[Walk, ...]
    units: tuple[tuple[str, ...], ...]

    def write(self, path: Path) -> None:
        judges = self.judges
        head = {
            "schema": _SCHEMA,
            "limits": asdict(self.limits),
            "classes": judges.classes,
            "subgroups": judges.subgroups,
            "complement": judges.complement,
            "lower": judges.lower,
            "walks": [{"order": walk.order, "units": ids} for walk, ids in zip(self.walks, self.units, strict=True)],
        }
        arrays = {name: getattr(judges, name) for name in _OF_IMAGES}
        for i, walk in enumerate(self.walks):
            arrays |= {f"{name}_{i}": getattr(walk, name) for name in ("players", *_PREDICTED)}
        kept = {name: _small(array) for name, array in arrays.items() if array is not None}
        np.savez_compressed(path, head=np.array(json.dumps(head)), **kept)  # type: ignore[arg-type]

    @classmethod
    def read(cls, path: Path) -> Choice:
        """Raises BadInput: it is no such file, or damaged."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            head: dict[str, Any] = json.loads(str(arrays.pop("head")))
            if head["schema"] != _SCHEMA:
                raise ValueError(f"schema {head['schema']}")
            whole = {name: a.astype(np.int64) if a.dtype.kind in "iu" else a for name, a in arrays.items()}
            judges = Judges(
                classes=tuple(head["classes"]),
                subgroups=tuple(head["subgroups"]),
                complement=head["complement"],
                lower=head["lower"],
                **{name: whole.get(name) for name in _OF_IMAGES},  # type: ignore[arg-type]
            )
            walks = tuple(
                Walk(row["order"], whole[f"players_{i}"], *(whole.get(f"{name}_{i}") for name in _PREDICTED))  # type: ignore[arg-type]
                for i, row in enumerate(head["walks"])
            )
            return cls(judges, Limits(**head["limits"]), walks, tuple(tuple(row["units"]) for row in head["walks"]))
        except (OSError, ValueError, KeyError, TypeError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise BadInput(f"{path.name} is no file of a choice of filters: {error}.") from None


_OF_IMAGES = ("labels", "groups", "rows", "targets", "weights", "true", "guard", "wanted", "retained")
_PREDICTED = ("clean", "attacked", "guard")


def _small(array: np.ndarray) -> np.ndarray:
    """Whole numbers in as few bytes as hold them; predictions as what changes from prefix to prefix compress well."""
    return array if array.dtype.kind == "f" else array.astype(np.min_scalar_type(int(array.max(initial=0))))
