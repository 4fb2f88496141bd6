"""Labelled image sets: reading zips, splitting, columns."""

from repair_engine.data.images import Guard, Images
from repair_engine.data.inspection import ArchiveInfo, inspect_archive
from repair_engine.data.reading import Dataset, read_dataset
from repair_engine.data.splits import SPLITS, Holdout, Splits, holdout, split

__all__ = [
    "SPLITS",
    "ArchiveInfo",
    "Dataset",
    "Guard",
    "Holdout",
    "Images",
    "Splits",
    "holdout",
    "inspect_archive",
    "read_dataset",
    "split",
]
