"""predictions.csv as `verify` reads it: which images a figure is of, and what the rows make of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from repair_engine.support import tables
from repair_engine.verbs.forgotten_again import forgotten_of


@dataclass(frozen=True)
class Rows:
    """predictions.csv as arrays of words [N].

    Attributes:
        forgotten: which images are of the forget set, bool [N]; None where nothing is to be forgotten.
        group: that is a group, and no class.
    """

    forgotten: np.ndarray | None
    group: bool
    split: np.ndarray
    label: np.ndarray
    subgroup: np.ndarray
    before: np.ndarray
    after: np.ndarray
    confidence_before: np.ndarray
    confidence_after: np.ndarray

    @classmethod
    def of(cls, document: Mapping[str, Any], path: Path) -> Rows:
        rows = tables.read(path)
        names = ("split", "label", "subgroup", "predicted_before", "predicted_after", "confidence_before",
                 "confidence_after")  # fmt: skip
        words = [np.array([row[name] for row in rows], dtype=object) for name in names]
        mask = forgotten_of(document, words[1], words[2])
        return cls(mask, "column" in document["metric"].get("forgetting", {}), *words)

    def retained(self, split: str) -> np.ndarray:
        """The images that accuracy is told of."""
        inside = self.within(split)
        return inside if self.forgotten is None else inside & ~self.forgotten

    def within(self, split: str) -> np.ndarray:
        return np.ones(len(self.split), bool) if split == "all" else self.split == split

    def classed(self, split: str) -> np.ndarray:
        """The images that the table of classes is of: where a group is to be forgotten, all others."""
        return self.retained(split) if self.group else self.within(split)

    def right(self, when: str) -> np.ndarray:
        return getattr(self, when) == self.label

    def confidence(self, when: str) -> np.ndarray:
        return getattr(self, f"confidence_{when}").astype(float)

    def metric(self, name: str, when: str, split: str) -> float:
        """The metric of these images, as README and docs/report.md say what it is."""
        rows, right = self.within(split), self.right(when)
        if name == "accuracy":
            return share_of(right[rows])
        kind, _, of = name.partition(":")
        if kind == "recall":
            return share_of(right[rows & (self.label == of)])
        if self.forgotten is not None:
            return share_of(right[rows & self.forgotten])
        groups = [rows & (self.subgroup == group) for group in sorted(set(self.subgroup[rows]))]
        return float(np.mean([self._mean_recall(right, group) for group in groups]))

    def _mean_recall(self, right: np.ndarray, rows: np.ndarray) -> float:
        return float(np.mean([share_of(right[rows & (self.label == of)]) for of in sorted(set(self.label[rows]))]))


def share_of(right: np.ndarray) -> float:
    return float(np.mean(right)) if len(right) else float("nan")
