"""Which edit a repair makes: the one that is asked for, or by *select* the smallest that is as good as the best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from repair_engine.edits.kinds import CONTROLS, KINDS
from repair_engine.edits.workshop import SHARE, Made, NotMade, Workshop

AUTO = tuple(name for name in KINDS if name != "all")


def tuning_share(asked: str) -> float:
    """Of the budget, what the edit that is asked for and the controls may spend in addition, at most."""
    kinds = {*CONTROLS, *(AUTO if asked == "auto" else (asked,))}
    return SHARE * sum(bool(KINDS[name].tunes) for name in kinds)


@dataclass(frozen=True)
class Decision:
    """What was tried, and what is to be written.

    Attributes:
        asked: an edit's name, or "auto".
        used: None: the model is best left as it is.
        rows: of all that was tried, JSON-able, with figures on *select*.
        evaluations: spent on all of it.
    """

    asked: str
    used: Made | None
    rows: list[dict[str, Any]]
    evaluations: int

    def describe(self) -> dict[str, Any]:
        return {
            "asked": self.asked,
            "used": self.used.name if self.used else None,
            "units": self.used.units if self.used else 0,
            "parameters": self.used.parameters if self.used else 0,
            "evaluations": self.evaluations,
            "rows": self.rows,
        }


def decide(workshop: Workshop, asked: str) -> Decision:
    """Makes the edit that is asked for; of "auto" all, and takes the smallest within one standard error of the best.

    The standard error is that of the paired difference of what is chosen by on resamples of the select images.
    Smaller: fewer units touched, then fewer parameters. To leave the model as it is stands among them. Where something
    is to be forgotten "auto" tries none that refits the last layer, which hides it and would win by that.
    """
    limits, forgets = workshop.case.settings.limits, workshop.case.settings.metric.forgets
    names = AUTO if asked == "auto" else (asked,)
    hiding = {name for name in names if forgets and asked == "auto" and KINDS[name].tunes == "head"}
    found = [NotMade(name, _HIDES) if name in hiding else workshop.make(name) for name in names]
    made = [one for one in found if isinstance(one, Made)]
    sweep, draws = workshop.sweep(made)
    sizes = [(0, 0), *((one.units, one.parameters) for one in made)]
    if asked == "auto":
        chosen, errors = smallest(sweep.score, draws.score, sweep.feasible(limits), sizes)
    else:
        chosen, errors = len(made), np.zeros(len(sizes))
    rows: list[dict[str, Any]] = []
    for one in found:
        if isinstance(one, NotMade):
            rows.append({"edit": one.name, "evaluations": one.evaluations, "not_made": one.reason})
            continue
        i = 1 + made.index(one)
        change = draws.values[:, i] - draws.values[:, 0]
        rows.append(
            {
                "edit": one.name,
                "select": float(sweep.values[i]),
                "gain": float(sweep.values[i] - sweep.values[0]),
                "standard_error": float(change.std(ddof=1)),
                "behind_best": None if asked != "auto" else float(errors[i]),
                "clean": float(sweep.clean[i]),
                "guard": None if sweep.guard is None else float(sweep.guard[i]),
                "subgroup_drop": None if sweep.drops is None else float(sweep.drops[i]),
                "goal": None if sweep.goal is None else abs(float(sweep.goal[i])),  # less is better: negated
                "culprits": len(one.players),
                "units": one.units,
                "parameters": one.parameters,
                "evaluations": one.evaluations,
                "note": one.note,
                "used": i == chosen,
            }
        )
    return Decision(asked, made[chosen - 1] if chosen else None, rows, sum(row["evaluations"] for row in rows))


_HIDES = "another last layer hides what is to be forgotten and leaves it in the features; ask for it by name"


def smallest(
    values: np.ndarray, draws: np.ndarray, feasible: np.ndarray, sizes: list[tuple[int, int]]
) -> tuple[int, np.ndarray]:
    """The smallest of several candidates whose score is within one standard error of the best one's.

    Args:
        values: what is chosen by, the larger the better, [m]; draws: on resamples of the images, [R, m].
        feasible: which keep the limits, bool [m].
        sizes: units, then parameters.

    Returns:
        Its place, and by how many standard errors of the paired difference each lies behind the best, [m].
    """
    score = np.where(feasible, values, -np.inf)
    best = int(score.argmax())
    error = (draws - draws[:, [best]]).std(axis=0, ddof=1)
    behind = np.where(feasible, np.abs(values - values[best]), np.inf)
    places = [i for i in range(len(values)) if behind[i] <= error[i] + 1e-12]
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.where(behind == 0, 0.0, behind / error)
    return min(places, key=lambda i: (sizes[i], i)), errors
