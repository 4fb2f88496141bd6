"""Numbers and errors as people read them: shares, counts, sizes, a first line. Imports nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def percent(value: float, digits: int = 1, sign: bool = False) -> str:
    """A share as a percentage, with a real minus sign."""
    return decimal(100 * value, digits, sign) + "%"


def points(share: float) -> str:
    """A difference of shares in percentage points, signed."""
    return decimal(100 * share, 1, sign=True)


def level_of(change: Mapping[str, Any]) -> str:
    """That of the interval of a change, such as 95%."""
    return f"{100 * change.get('level', 0.95):.10g}%"


def decimal(value: float, digits: int = 4, sign: bool = False) -> str:
    """`value` with a real minus sign, and no sign on what is shown as zero."""
    plain = f"{abs(value):.{digits}f}"
    if not any(c in "123456789" for c in plain):
        return plain
    return ("−" if value < 0 else "+" if sign else "") + plain


def digits_for(values: Sequence[float]) -> int:
    """Decimals that show the largest of the values with three significant digits."""
    largest = max((abs(v) for v in values), default=0.0)
    return 4 if largest <= 0 else min(max(2 - math.floor(math.log10(largest)), 3), 8)


def count(n: int, one: str, many: str | None = None) -> str:
    """How many of what, such as "1 filter" or "2,944 filters"."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def length(value: float, norm: str) -> str:
    """A length as ℓ∞ is usually written, in parts of 255, or as it is."""
    return f"{value * 255:.4g}/255" if norm == "linf" else f"{value:.4g}"


def byte_size(number: int) -> str:
    """Bytes, such as "1.5 GiB" or "640 MiB"."""
    return f"{number / (1 << 30):.2g} GiB" if number >= 1 << 30 else f"{number >> 20} MiB"


def first_few(names: Sequence[str], most: int, n: int | None = None, joint: str = ", ") -> str:
    """The first names, such as "a, b and 7 more".

    Args:
        n: how many there are, where `names` are the first of them.
    """
    left = (len(names) if n is None else n) - len(names[:most])
    return joint.join(names[:most]) + (f" and {left:,} more" if left else "")


def first_line(error: object, most: int = 300) -> str:
    """The first line of what an error says, at most so many characters of it; of a silent one its kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:most]


def last_line(said: str) -> str:
    """What a process that failed said last."""
    return (said.strip().splitlines() or ["no message"])[-1][:500]


_KINDS = {"filter": ("filter", "filters"), "hidden": ("hidden unit", "hidden units"), "head": ("head", "heads")}


def kinds_said(counts: Mapping[str, int]) -> str:
    """Kind of unit -> how many: "768 filters, 36,864 hidden units and 144 heads"."""
    said = [f"{count:,} {_KINDS[kind][count != 1]}" for kind, count in counts.items()]
    return f"{', '.join(said[:-1])} and {said[-1]}" if len(said) > 1 else said[0]
