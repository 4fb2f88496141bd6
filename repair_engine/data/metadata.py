"""metadata.csv: one row per image with attributes such as a subgroup."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from repair_engine.errors import BadInput
from repair_engine.support.nfc import normal

MAX_COLUMNS = 200


@dataclass(frozen=True)
class Metadata:
    """Rows in the order of the images.

    Attributes:
        labels: the label column's values, or None.
        attributes: column -> value of each image.
    """

    labels: tuple[str, ...] | None
    attributes: Mapping[str, tuple[str, ...]]


def parse_metadata(data: bytes, file_names: Sequence[str], root: str, outer: str | None = None) -> Metadata:
    """Read the table and line its rows up with the images.

    Args:
        file_names: the images as named in the zip, [N].
        root: common folder that rows may leave out.
        outer: where the table lies, if that is above `root`: it names the images of several splits from there on.

    Raises:
        BadInput: not UTF-8, no file_name column, ragged, duplicate, missing or superfluous rows.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput("metadata.csv is not UTF-8 text.", "Save it as CSV UTF-8.") from error
    outer = root if outer is None else outer
    inside = root.removeprefix(outer)
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        header = [normal(column.strip()) for column in next(reader, [])]
        _check_header(header)
        rows = {}
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                raise BadInput(f"metadata.csv, line {reader.line_num}: {len(row)} cells; the header has {len(header)}.")
            row = [normal(cell) for cell in row]
            name = _image_name(row[header.index("file_name")], outer)
            if not name.startswith(inside):
                continue  # of another split
            name = name.removeprefix(inside)
            if name in rows:
                raise BadInput(f"metadata.csv, line {reader.line_num}: {name} has a row already.")
            rows[name] = [cell.strip() for cell in row]
    except csv.Error as error:
        raise BadInput(f"metadata.csv, line {reader.line_num}: {error}.") from error
    _check_rows(rows, [_image_name(n, root) for n in file_names])
    table = [rows[_image_name(name, root)] for name in file_names]
    columns = {column: tuple(row[i] for row in table) for i, column in enumerate(header)}
    labels = columns.pop("label", None)
    columns.pop("file_name")
    return Metadata(labels, columns)


def _image_name(name: str, root: str) -> str:
    """Relative to the folder of the classes, with slashes."""
    return name.strip().replace("\\", "/").removeprefix("./").removeprefix(root)


def _check_header(header: Sequence[str]) -> None:
    if len(header) == 1 and (mark := next((m for m in (";", "\t") if m in header[0]), None)):
        raise BadInput(
            f"metadata.csv is separated by {'semicolons' if mark == ';' else 'tabs'}, not by commas.",
            "Save it as CSV with commas (spreadsheets in some languages write semicolons).",
        )
    if "file_name" not in header:
        raise BadInput(
            f"metadata.csv has no column file_name; its header is {', '.join(header[:10]) or 'empty'}.",
            "The first line names the columns, separated by commas: file_name,label,subgroup",
        )
    if len(set(header)) != len(header) or "" in header:
        raise BadInput(f"metadata.csv: a column is named twice or not at all: {', '.join(header[:20])}.")
    if len(header) > MAX_COLUMNS:
        raise BadInput(f"metadata.csv has {len(header)} columns; at most {MAX_COLUMNS} are read.")


def _check_rows(rows: Mapping[str, object], names: Sequence[str]) -> None:
    images = set(names)
    without_row = [name for name in names if name not in rows]
    without_image = [name for name in rows if name not in images]
    if without_row:
        raise BadInput(
            f"{len(without_row)} images have no row in metadata.csv, such as {without_row[0]}.",
            "Give every image a row, with file_name as in the zip (class/name.png).",
        )
    if without_image:
        raise BadInput(
            f"{len(without_image)} rows of metadata.csv have no image, such as {without_image[0]}.",
            "Remove the rows or add the images; file_name is as in the zip (class/name.png).",
        )
