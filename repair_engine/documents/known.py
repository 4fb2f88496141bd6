"""Which filters' values are known at all: an interval that spans everything a value can be says nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_MOST = 1.0  # a value lies between -1 and 1, whatever the metric
_SLACK = 1e-9


def is_known(value: float | None, lower: float | None, upper: float | None) -> bool:
    """It was sampled, and its interval leaves something out. One without an interval is taken at its word."""
    if value is None:
        return False
    return lower is None or upper is None or lower > -_MOST + _SLACK or upper < _MOST - _SLACK


def row_known(row: Mapping[str, Any], prefix: str = "") -> bool:
    """`is_known` of a row of a document, by its keys with a prefix."""
    return is_known(*(row.get(f"{prefix}{key}") for key in ("value", "lower", "upper")))


def unknown_words(samples: int, value: float | None) -> str:
    """What stands in the place of a value that is not known."""
    if value is None:
        return "not sampled"
    return f"not known ({samples:,} sample{'s' * (samples != 1)})"


def not_known_said(rows: Sequence[Mapping[str, Any]]) -> str:
    """One sentence about those rows whose values are not known; empty where there are none."""
    n = sum(row["value"] is not None and not row_known(row) for row in rows)
    if not n:
        return ""
    which = f"{n:,} sampled filter{'s have' if n > 1 else ' has'}"
    return f"{which} an interval from −1 to 1: nothing is known of {'their values' if n > 1 else 'its value'} yet."
