"""CSV files for people and programs: written and read in one place, so that no cell is taken for a formula.

Spreadsheets run a cell that begins with `=`, `+`, `-` or `@`; names of folders, files, columns and layers come from
whoever made the images and the model. In cells of text, an apostrophe goes before such a beginning: at the start of the
cell, and after a comma, semicolon, bar, tab or line break in it, at which a spreadsheet of another locale cuts. `read`
takes exactly these apostrophes away: every text comes back as it was. Numbers are written as they are.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

# Also the full-width forms, which some locales take for the same, and control characters: some are dropped on import,
# and what follows them becomes the beginning.
_RISKY = "=+\\-@＝＋－＠\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028\u2029\ufeff"
_AHEAD = f"(?=['\"\\s]*[{_RISKY}])"
_PLAIN = re.compile(rf"(^|[,;|\t\r\n]){_AHEAD}")
_MARKED = re.compile(rf"(^|[,;|\t\r\n])'{_AHEAD}")


class Figure(str):
    """A number in the digits that it is to be written with."""

    __slots__ = ()


class Rows:
    """Writes rows whose texts are harmless."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        # csv quotes the characters of its line's end: with a bare "\n", a carriage return in a name would cut the row.
        self._rows = csv.writer(self, lineterminator="\r\n")

    def write(self, line: str) -> None:
        """What csv.writer calls, once per row."""
        self._file.write(line.removesuffix("\r\n") + "\n")

    def writerow(self, row: Iterable[object]) -> None:
        self._rows.writerow([harmless(x) if isinstance(x, str) and not isinstance(x, Figure) else x for x in row])


def harmless(text: str) -> str:
    """The text as no spreadsheet runs it."""
    return _PLAIN.sub(r"\1'", text)


def original(cell: str) -> str:
    """The inverse of `harmless`."""
    return _MARKED.sub(r"\1", cell) if "'" in cell else cell


@contextmanager
def writing(path: Path, header: Sequence[str]) -> Iterator[Rows]:
    """A new CSV file in UTF-8, one line per row; numbers and `Figure`s stay as they are."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = Rows(file)
        rows.writerow(header)
        yield rows


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a file of `writing`, by column, with the texts as they were. Raises ValueError: a row of another
    length than the header."""
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = [[original(cell) for cell in row] for row in csv.reader(file)] or [[]]
    return [dict(zip(header, row, strict=True)) for row in rows if row]
