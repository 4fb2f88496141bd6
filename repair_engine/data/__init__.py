"""Labelled image sets: reading, splitting, columns. What is named here needs no torch; `images` and `pixels` do."""

from repair_engine.data.inspection import ArchiveInfo, inspect_archive
from repair_engine.data.reading import Dataset, read_dataset
from repair_engine.data.splits import SPLITS, Holdout, Splits, holdout, split

__all__ = [
    "SPLITS",
    "ArchiveInfo",
    "Dataset",
    "Holdout",
    "Splits",
    "holdout",
    "inspect_archive",
    "read_dataset",
    "split",
]
