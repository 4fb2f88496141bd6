"""One gate: what a figure of a report must be. Read by `documents.gates`, which says what each name means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from repair_engine.settings.fields import MISSING, Settings, option


@dataclass(frozen=True, kw_only=True)
class Gate(Settings):
    """min and max are themselves allowed."""

    metric: str = option(
        MISSING,
        "metric (the run's own), accuracy, recall:CLASS, subgroup:NAME, worst-subgroup, subgroup-gap, equalized-odds "
        "(of a repair with this goal); or the dotted name of a number in the report, such as "
        "verification.different_predictions.",
        length=500,
    )
    split: Literal["report", "select", "score", "all", "guard"] = option(
        "report", "On which images. The search saw score, the choice saw select; guard is the second image set."
    )
    change: bool = option(False, "The change from before to after, not the figure after.")
    bound: Literal["value", "lower", "upper"] = option(
        "value", "Judge this end of the figure's interval; refused where the report has none."
    )
    min: float | None = option(None, "At least; shares are of 1.")
    max: float | None = option(None, "At most.")
    min_n: int | None = option(None, "Images that the figure must rest on; fewer are insufficient.", low=1)
    on_insufficient: Literal["fail", "pass", "skip"] = option(
        "fail", "What follows from too few images, or from a figure that the report leaves out for want of them."
    )

    def rules(self) -> None:
        if self.min is None and self.max is None:
            raise self.wrong("min", f"The gate on {self.metric} says neither min nor max.", "Give one, or both.")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise self.wrong("min", f"The gate on {self.metric} has min {self.min:g} above max {self.max:g}.")

    @property
    def text(self) -> str:
        """Such as `change of accuracy on report, lower bound ≥ -0.01`."""
        of = "change of " if self.change else ""
        on = "" if "." in self.metric and ":" not in self.metric else f" on {self.split}"
        bound = "" if self.bound == "value" else f", {self.bound} bound"
        limits = [f"{sign} {limit:g}" for sign, limit in (("≥", self.min), ("≤", self.max)) if limit is not None]
        images = f", n ≥ {self.min_n}" if self.min_n else ""
        return f"{of}{self.metric}{on}{bound} {' and '.join(limits)}{images}"
