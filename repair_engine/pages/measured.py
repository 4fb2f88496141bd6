"""What the templates `measured.html` and `files.html` need beside the document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from repair_engine.pages.repair_wording import ABLATIONS, ESTIMATORS, STOPPED, processor
from repair_engine.support.precision import Precision
from repair_engine.support.words import kinds_said

_USES = {  # of the select and the report images, by verb
    "repair": ("choice of k", "the figures above"),
    "explain": ("the logit shift", "the curves"),
    "score": ("not used here", "not used here"),
}
# What the page says of a run in words of its own; whatever else a run holds stands below it under its own name.
_RUN_SHOWN = frozenset(
    (
        *("estimator", "afresh", "screen", "expected_overlap", "ablation", "constants", "constants_from"),
        *("images_per_draw", "precision", "budget", "budget_was", "evaluations", "rounds", "stopped", "depth"),
        *("seed", "device", "threads", "instruction_set", "seconds", "interval", "reported_values", "estimand"),
        "certificate",
    )
)


def precision(run: Mapping[str, Any]) -> str:
    """What the search computed in, where anything but float32 was asked for."""
    said = run.get("precision") or {}
    return "" if said.get("asked", "float32") == "float32" else Precision(**said).note()


def players(model: Mapping[str, Any]) -> str:
    """How many units of which kinds; results from before there were kinds have filters alone."""
    kinds = model.get("kinds") or {"filter": {"units": model["filters"]}}
    return kinds_said({kind: row["units"] for kind, row in kinds.items()})


def plain(value: object) -> str:
    """A setting of the preprocessing."""
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return " ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


MEASURED: dict[str, Any] = {
    "ABLATIONS": ABLATIONS,
    "ESTIMATORS": ESTIMATORS,
    "STOPPED": STOPPED,
    "USES": _USES,
    "RUN_SHOWN": _RUN_SHOWN,
    "processor": processor,
    "precision": precision,
    "plain": plain,
    "players": players,
}
