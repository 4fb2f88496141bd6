"""Image sets: reading zips, preprocessing, splits."""

from repair_engine.datasets.archive import check_not_folder
from repair_engine.datasets.inspection import ArchiveInfo, inspect_archive
from repair_engine.datasets.preprocessing import Preprocessing
from repair_engine.datasets.reading import Dataset, read_dataset
from repair_engine.datasets.splits import Holdout, Splits, holdout, split

__all__ = [
    "ArchiveInfo",
    "Dataset",
    "Holdout",
    "Preprocessing",
    "Splits",
    "check_not_folder",
    "holdout",
    "inspect_archive",
    "read_dataset",
    "split",
]
