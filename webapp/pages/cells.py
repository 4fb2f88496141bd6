"""A dataset at a glance: for each class, and each value of a column within it, the count and the first images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from django.core.paginator import Page, Paginator
from django.http import QueryDict
from django.utils.http import urlencode

from repair_engine.pages.rendering import printable
from webapp.pages.gallery import EMPTY, Tile, tile
from webapp.pages.image_sets import COLUMN, Images

CLASSES = 8  # of a page
MOST_VALUES = 12  # of a column, in columns of the page
FIRST = 6  # images of a cell


@dataclass(frozen=True)
class Cell:
    words: str
    count: int
    query: str
    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Row:
    name: str
    count: int
    query: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Cells:
    """Attributes:
    by: the column's key in the address, or "" for classes alone.
    columns: key -> name of those that can be chosen.
    """

    page: Page
    rows: Sequence[Row]
    by: str
    columns: dict[str, str]


def cells(images: Images, asked: QueryDict) -> Cells:
    """Nothing that is asked can be wrong: what is not understood is left out."""
    columns = {
        key: words
        for key, (words, column) in images.columns.items()
        if key.startswith(COLUMN) and len(column.values) <= MOST_VALUES
    }
    by = asked.get("by", next(iter(columns), ""))
    by = by if by in columns else ""
    _, classes = images.columns["class"]
    page = Paginator(range(len(classes.values)), CLASSES).get_page(asked.get("page"))
    return Cells(page, [_row(images, code, by) for code in page], by, columns)


def _row(images: Images, code: int, by: str) -> Row:
    _, classes = images.columns["class"]
    inside = np.flatnonzero(classes.codes == code)
    key = classes.values[code] or EMPTY
    if by:
        _, column = images.columns[by]
        parts = [(value, inside[column.codes[inside] == i]) for i, value in enumerate(column.values)]
        found = [_cell(images, value or EMPTY, part, {"class": key, by: value or EMPTY}) for value, part in parts]
    else:
        found = [_cell(images, "", inside, {"class": key}, 3 * FIRST)]
    return Row(printable(key), len(inside), "?" + urlencode({"class": key}), found)


def _cell(images: Images, words: str, part: np.ndarray, asked: dict[str, str], first: int = FIRST) -> Cell:
    return Cell(printable(words), len(part), "?" + urlencode(asked), [tile(images, int(i)) for i in part[:first]])
