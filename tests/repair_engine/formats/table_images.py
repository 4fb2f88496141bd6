"""Image sets: layouts, names, labels."""

from __future__ import annotations

from pathlib import Path

from repair_engine.classes import ClassNames
from repair_engine.datasets import Preprocessing, read_dataset
from tests.repair_engine.formats.rows import Row
from tests.repair_engine.image_sets import make_zip, two_classes


def _folders(folder: Path) -> str:
    data = read_dataset(make_zip(folder / "images.zip", two_classes()), ClassNames(2), Preprocessing())
    return " ".join((*data.warnings, *data.notes))


ROWS = [Row("`class/name.png`, one folder per class (ImageFolder)", _folders)]
