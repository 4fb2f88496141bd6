"""Subgroups from one or several attribute columns: the combinations of their values that occur."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from collections.abc import Collection, Sequence
from typing import Literal

from repair_engine.errors import BadInput

_JOINT = " & "
_SHOWN = 6


def columns_of(argument: str, known: Collection[str]) -> tuple[str, ...]:
    """The columns that `subgroup-recall:ARGUMENT` names, at least one.

    The whole argument where a column is called that; else its parts between commas, of which one that has a comma
    or a quote in itself stands in double quotes, as in a CSV file.

    Args:
        known: the columns that there are; one that is not among them is returned all the same.

    Raises:
        BadInput: a name is empty or stands there twice, or a quote is not closed.
    """
    if argument in known:
        return (argument,)
    try:
        (parts,) = csv.reader(io.StringIO(argument, newline=""), skipinitialspace=True, strict=True)
    except (csv.Error, ValueError):
        raise BadInput(
            f"subgroup-recall:{argument} does not name columns.",
            'Give COLUMN, or COL1,COL2; quote a "name, like this".',
        ) from None
    names = tuple(part.strip() for part in parts)
    if not all(names):
        raise BadInput(f"subgroup-recall:{argument} has an empty column name.", "Give COLUMN, or COL1,COL2.")
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise BadInput(f"subgroup-recall:{argument} names the column {twice[0]!r} twice.", "Give each column once.")
    return names


def argument_of(columns: Sequence[str], known: Collection[str] = ()) -> str:
    """What stands behind `subgroup-recall:` for these of the `known` columns; the inverse of `columns_of`."""
    if len(columns) == 1:
        return columns[0]
    plain = _row(columns, csv.QUOTE_MINIMAL)
    return _row(columns, csv.QUOTE_ALL) if plain in known else plain


def _row(columns: Sequence[str], quoting: Literal[0, 1]) -> str:
    out = io.StringIO()
    csv.writer(out, quoting=quoting, lineterminator="").writerow(columns)
    return out.getvalue()


def combinations(columns: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Each image's subgroup, [N], such as "female & dark"; one column's values are given as they are.

    Different combinations have different names: where several columns are combined, a value that is empty or has an
    ampersand or a quote in it is written in quotes.

    Args:
        columns: the values of each column, [columns][N].
    """
    if len(columns) == 1:
        return tuple(columns[0])
    return tuple(_JOINT.join(_plain(value) for value in values) for values in zip(*columns, strict=True))


def absent_combinations(columns: Sequence[Sequence[str]]) -> tuple[int, list[str]]:
    """How many combinations of the columns' values have no image, and the names of the first few."""
    present = set(zip(*columns, strict=True))
    levels = [sorted(set(values)) for values in columns]
    possible = math.prod(len(level) for level in levels)
    named: list[str] = []
    for values in itertools.product(*levels):
        if len(named) >= min(_SHOWN, possible - len(present)):
            break
        if values not in present:
            named.append(_JOINT.join(_plain(value) for value in values))
    return possible - len(present), named


def _plain(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if not value or any(c in value for c in '&"') else value
