"""What a search computes in, and why, as one record (see `lowering`).

Only the search runs in it. What is reported of filters (fresh samples), the choice of k, controls, verification and
report are float32 always; `score`, whose values are the search's own, says in which precision they were found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

PRECISIONS = ("float32", "bfloat16")
LEAST_AGREEMENT = 0.98  # of predictions; below, the search stays in float32


class PrecisionRecord(TypedDict):
    """`Precision` in documents."""

    asked: str
    used: str
    agreement: float | None
    predictions: int
    reason: str


@dataclass(frozen=True)
class Precision:
    """What the search computes in.

    Attributes:
        asked, used: names of `PRECISIONS`; they differ where bfloat16 was given up.
        agreement: share of equal predictions of both precisions; None where it was not measured.
        predictions: how many were compared.
        reason: why bfloat16 was given up, else "".
    """

    asked: str
    used: str
    agreement: float | None = None
    predictions: int = 0
    reason: str = ""

    def to_json(self) -> PrecisionRecord:
        return {
            "asked": self.asked,
            "used": self.used,
            "agreement": self.agreement,
            "predictions": self.predictions,
            "reason": self.reason,
        }

    def note(self) -> str:
        """One sentence for people; empty where nothing but float32 was asked for."""
        if self.asked == "float32":
            return ""
        if self.reason:
            return f"The search stays in float32: {self.reason}."
        return (
            f"The search runs in bfloat16: {self.agreement:.2%} of {self.predictions:,} predictions of the intact and "
            f"of damaged networks are those of float32 (at least {LEAST_AGREEMENT:.0%} are asked for)."
        )
