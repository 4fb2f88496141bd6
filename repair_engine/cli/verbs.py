"""The verbs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from repair_engine.case.inspection import default_preprocessing
from repair_engine.cli import options
from repair_engine.cli.apply import apply
from repair_engine.cli.attack import attack
from repair_engine.cli.compare import compare
from repair_engine.cli.emit import emit
from repair_engine.cli.gate import gate
from repair_engine.cli.parties import CONSTANTS_MERGE, constants, constants_merge, merge
from repair_engine.cli.verify import verify
from repair_engine.pages.text import evaluate_text, explain_text, inspect_text, repair_text, score_text
from repair_engine.settings import EvaluateHere, ExplainHere, Inspect, RepairHere, ScoreHere
from repair_engine.support.bars import Bars
from repair_engine.support.outputs import check_folder, claimed, results
from repair_engine.support.scratch import scratch
from repair_engine.verbs import opening, running
from repair_engine.verbs.tracking import Tracking

NO_REPAIR = 5


def inspect(here: Inspect, to: TextIO) -> int:
    """Sites, filters, and which convolutions are not players and why."""
    model = opening.open_model(here)
    preprocessing, _ = default_preprocessing(model.preprocessing, model.checkpoint)
    dataset = None
    if here.data:
        dataset = opening.images_of_zip(here.data, model, split_folder=here.split_folder).dataset
    document = running.inspect(model.checkpoint, preprocessing, dataset, units=here.units)
    emit(here, to, document, inspect_text)
    return 0


def score(here: ScoreHere, to: TextIO) -> int:
    """Values of all filters."""
    request, bars = options.request_of(here), Bars(here.json)
    out = Path(here.out) if here.out else None
    with claimed(out), scratch("score") as folder:
        found = running.score(request, folder, bars)
        bars.close()
        if out is not None:
            with results(out) as made:
                found.write(made)
    emit(here, to, found.document, score_text)
    return 0


def explain(here: ExplainHere, to: TextIO) -> int:
    """Values of all filters, removal curves of every ranking, pictures of filters."""
    request, bars, out = options.request_of(here), Bars(here.json), Path(here.out)
    with claimed(out, "explain.json"), scratch("explain") as folder:
        with results(out) as made:
            document = running.explain(request, folder, made, bars)
        bars.close()
    document["out"] = str(out)
    emit(here, to, document, explain_text)
    return 0


def repair(here: RepairHere, to: TextIO) -> int:
    """Search, confirm, plan, write back, report."""
    request, bars, out = options.request_of(here), Bars(here.json), Path(here.out)
    tracking = Tracking.at(here.mlflow) if here.mlflow else None  # before the work, not after it
    with claimed(out, "repair.json"), scratch("repair") as folder:
        check_folder(
            out, [path for path in (request.model, request.data, request.guard, request.triggered, here.values) if path]
        )
        document = running.repair(request, folder, out, bars)
    bars.close()
    if tracking is not None:
        try:
            tracking.log(out.resolve().name, here.to_record(), document, out)
        except Exception as error:  # the repair is written: that must not be lost with an address
            print(f"The repair is in {out}, and not in MLflow: {error}", file=sys.stderr)
    document["out"] = here.out
    emit(here, to, document, repair_text)
    return 0 if document["outcome"] == "repaired" else NO_REPAIR


def evaluate(here: EvaluateHere, to: TextIO) -> int:
    """The metric on each split and on all images; with --ablate, before and after."""
    request, bars = options.request_of(here), Bars(here.json)
    with scratch("evaluate") as folder:
        document = running.evaluate(request, here.ablate, folder, bars)
        bars.close()
    emit(here, to, document, evaluate_text)
    return 0


VERBS: dict[str, Callable[[Any, TextIO], int]] = {
    "inspect": inspect,
    "score": score,
    "explain": explain,
    "compare": compare,
    "gate": gate,
    "repair": repair,
    "evaluate": evaluate,
    "attack": attack,
    "apply": apply,
    "verify": verify,
    "constants": constants,
    CONSTANTS_MERGE: constants_merge,
    "merge": merge,
}
