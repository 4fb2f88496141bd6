"""Thumbnails of an image set in one file, read by offset: showing one costs the same among a hundred thousand.

    magic, where the records begin, how many images | the pictures, WebP | a record per image | JSON: names and columns

The file is made in a worker (`repair_engine.data.thumbnails`) and read by who shows it, who decodes no picture.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

MAGIC = b"NRTHUMB1"
SMALL, LARGE = 128, 256  # pixels of the longer side, at most
VIEWS = ("clean", "adversarial", "difference")  # pictures of each image, where an attack's are kept
_HEAD = struct.Struct("<8sQI")
_RECORD = struct.Struct("<QIIII")  # first byte; bytes of the small picture, of the large one behind it; width, height


@dataclass(frozen=True)
class Column:
    """A value per image, by number.

    Attributes:
        values: the different values, sorted.
        codes: which of them each image has, int32 [N].
    """

    values: tuple[str, ...]
    codes: np.ndarray

    @classmethod
    def of(cls, values: Sequence[str]) -> Column:
        different = tuple(sorted(set(values)))
        number = {value: i for i, value in enumerate(different)}
        return cls(different, np.fromiter((number[value] for value in values), np.int32, len(values)))

    def at(self, i: int) -> str:
        return self.values[self.codes[i]]


@dataclass(frozen=True)
class Pack:
    """What is known of the images, without the pictures.

    Attributes:
        names: as in the zip, sorted, [N].
        labels: class folder of each image, or its label in metadata.csv.
        columns: attribute column of metadata.csv -> its values.
        sizes: width and height of the original, uint32 [N, 2]; 0 of an image that cannot be shown.
        why: number of an image that cannot be shown -> why.
        about: what is said of them together; JSON.
    """

    names: tuple[str, ...]
    labels: Column
    columns: Mapping[str, Column]
    sizes: np.ndarray
    why: Mapping[int, str]
    about: Mapping[str, Any]


class Writer:
    """Writes a pack, image by image in the order of the names."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._at = file, _HEAD.size
        self._records: list[bytes] = []
        self._why: dict[int, str] = {}
        file.write(bytes(_HEAD.size))

    @property
    def count(self) -> int:
        return len(self._records)

    def add(self, small: bytes, large: bytes, width: int, height: int) -> None:
        """`large` is empty where the small picture has all there is to see."""
        self._records.append(_RECORD.pack(self._at, len(small), len(large), width, height))
        self._file.write(small + large)
        self._at += len(small) + len(large)

    def missing(self, why: str) -> None:
        self._why[self.count] = why
        self._records.append(_RECORD.pack(self._at, 0, 0, 0, 0))

    def close(
        self,
        names: Sequence[str],
        labels: Sequence[str],
        columns: Mapping[str, Sequence[str]],
        about: Mapping[str, Any] | None = None,
    ) -> None:
        assert len(names) == self.count
        for record in self._records:
            self._file.write(record)
        table = {"names": list(names), "labels": _listed(labels), "why": self._why, "about": about or {}}
        table["columns"] = {name: _listed(values) for name, values in columns.items()}
        self._file.write(json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode())
        self._file.seek(0)
        self._file.write(_HEAD.pack(MAGIC, self._at, self.count))


def read(path: Path) -> Pack:
    """Everything but the pictures."""
    with path.open("rb") as file:
        start, count = _head(file)
        file.seek(start)
        records = np.frombuffer(file.read(count * _RECORD.size), np.uint8).reshape(count, _RECORD.size)
        table = json.loads(file.read())
    return Pack(
        tuple(table["names"]),
        _column(table["labels"]),
        {name: _column(values) for name, values in table["columns"].items()},
        np.ascontiguousarray(records[:, -8:]).view("<u4"),
        {int(i): why for i, why in table["why"].items()},
        table.get("about", {}),
    )


def picture(path: Path, i: int, large: bool) -> bytes | None:
    """A WebP picture. None: there is no such image, or it cannot be shown."""
    with path.open("rb") as file:
        start, count = _head(file)
        if not 0 <= i < count:
            return None
        first, small, more, _, _ = _RECORD.unpack(os.pread(file.fileno(), _RECORD.size, start + i * _RECORD.size))
        if large and more:
            return os.pread(file.fileno(), more, first + small)
        return os.pread(file.fileno(), small, first) if small else None


def _head(file: BinaryIO) -> tuple[int, int]:
    magic, start, count = _HEAD.unpack(file.read(_HEAD.size))
    if magic != MAGIC:
        raise ValueError("not a file of thumbnails")
    return start, count


def _listed(values: Sequence[str]) -> dict[str, list]:
    column = Column.of(values)
    return {"values": list(column.values), "codes": column.codes.tolist()}


def _column(listed: Mapping[str, list]) -> Column:
    return Column(tuple(listed["values"]), np.array(listed["codes"], np.int32))
