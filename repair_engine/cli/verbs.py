"""The verbs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch

from repair_engine.case.case import Case, prepare
from repair_engine.case.inspection import inspect_network, preprocessing_of
from repair_engine.case.stored_values import objectives_in
from repair_engine.choosing.plan import masked_predictions
from repair_engine.cli import options
from repair_engine.cli.apply import apply
from repair_engine.cli.attack import attack
from repair_engine.cli.compare import compare
from repair_engine.cli.emit import emit
from repair_engine.cli.explain import explain
from repair_engine.cli.parties import CONSTANTS_MERGE, constants, constants_merge, merge
from repair_engine.cli.progress import Bars
from repair_engine.cli.text import evaluate_text, inspect_text, players_text, repair_text, score_text
from repair_engine.data import read_dataset
from repair_engine.documents import measures
from repair_engine.documents import repair as documents
from repair_engine.errors import BadInput
from repair_engine.models import formats
from repair_engine.models.classes import class_names
from repair_engine.search.forecast import Foresight
from repair_engine.settings import EvaluateHere, Inspect, RepairHere, ScoreHere
from repair_engine.support.outputs import check_folder, claimed, results
from repair_engine.support.scratch import scratch
from repair_engine.verbs import pipeline
from repair_engine.verbs.scoring import scored

NO_REPAIR = 5


def inspect(here: Inspect, to: TextIO) -> int:
    """Sites, filters, and which convolutions are not players and why."""
    architecture, weights_file, folder = options.architecture_of(here)
    checkpoint = formats.read(weights_file, architecture, here.weights)
    preprocessing = preprocessing_of(checkpoint, options.preprocessing_of(here, architecture, folder))
    dataset = size = None
    if here.data:
        dataset = read_dataset(
            here.data, class_names(checkpoint.architecture, here.classes), preprocessing, split=here.split_folder
        )
        size = dataset.images.shape[2:]
    document = inspect_network(checkpoint, preprocessing, size, units=here.units)
    if dataset is not None:
        counts = np.bincount(dataset.labels, minlength=len(dataset.class_names))
        document["data"] = {
            "images": len(dataset),
            "classes": {name: int(c) for name, c in zip(dataset.class_names, counts)},
            "columns": {name: sorted(set(values))[:50] for name, values in dataset.attributes.items()},
            "column_sizes": {name: len(set(values)) for name, values in dataset.attributes.items()},
            "warnings": list(dataset.warnings),
            "notes": list(dataset.notes),
        }
    emit(here, to, document, inspect_text)
    return 0


def score(here: ScoreHere, to: TextIO) -> int:
    """Values of all filters."""
    request, bars = options.request_of(here), Bars(here.json)
    out = Path(here.out) if here.out else None
    with claimed(out), scratch("score") as folder:
        job = pipeline.prepare_job(
            request, folder, bars.stage, repair=False, captured=lambda n: _say((players_text(n),))
        )
        _say(job.notes)
        settings = pipeline.phase_settings(job, "search", repair=False)
        state, forecast = None, None
        tick = bars.counting("enumerating" if settings is None else "sampling", job.budget)
        if settings is not None:
            foresight = Foresight(settings, lambda text: _say((text,)))
            state = pipeline.run_phase(job, settings, tick, repair=False, foresight=foresight)
            forecast = None if foresight.first is None else foresight.first.to_json()
        found = scored(job, state, forecast, tick)
        bars.close()
        if out is not None:
            with results(out) as made:
                found.write(made)
    document = found.document
    emit(here, to, document, score_text)
    return 0


def repair(here: RepairHere, to: TextIO) -> int:
    """Search, confirm, plan, write back, report."""
    request, bars, out = options.request_of(here), Bars(here.json), Path(here.out)
    if here.values:
        values = None if request.by_hand else here.values
        request = replace(request, also=_others(here.values, str(request.metric)), values=values)
    with claimed(out, "repair.json"), scratch("repair") as folder:
        check_folder(out, [path for path in (request.model, request.data, request.guard, here.values) if path])
        job = pipeline.prepare_job(request, folder, bars.stage, captured=lambda n: _say((players_text(n),)))
        _say(job.notes)
        search = confirm = None
        settings = pipeline.phase_settings(job, "search")
        if settings is not None:
            foresight = Foresight(settings, lambda text: _say((text,)))
            search = pipeline.run_phase(job, settings, bars.counting("searching", settings.budget), foresight=foresight)
            again = pipeline.phase_settings(job, "confirm", search)
        else:
            again = pipeline.phase_settings(job, "confirm")  # of what was chosen or valued before
        if again is not None:
            stage = "valuing the filters" if request.by_hand else "confirming"
            confirm = pipeline.run_phase(job, again, bars.counting(stage, again.budget))
        document = pipeline.run_finish(job, search, confirm, out, bars.stage)
    return _repaired(here, to, document, bars)


def _repaired(here: RepairHere, to: TextIO, document: dict[str, Any], bars: Bars) -> int:
    bars.close()
    document["out"] = here.out
    emit(here, to, document, repair_text)
    return 0 if document["outcome"] == "repaired" else NO_REPAIR


def _others(values: str, metric: str) -> tuple[str, ...]:
    """The stored objectives beside the metric: they had a part in the splits. Raises BadInput."""
    names = objectives_in(values)
    if metric not in names:
        raise BadInput(f"--values {values} has no values of {metric}.", f"It has: {', '.join(names)}.")
    return tuple(name for name in names if name != metric)


def evaluate(here: EvaluateHere, to: TextIO) -> int:
    """The metric on each split and on all images; with --ablate, before and after."""
    request, bars = options.request_of(here), Bars(here.json)
    with scratch("evaluate") as folder:
        case = prepare(request, folder, bars.stage)
        document: dict[str, Any] = {
            "schema": documents.SCHEMA,
            "verb": "evaluate",
            "metric": documents.describe_metric(case),
            "model": documents.describe_model(case),
            "data": documents.describe_data(case),
            "figures": _figures(case, np.empty(0, np.int64)),
            "warnings": list(case.warnings),
            "versions": documents.versions(),
        }
        if here.ablate:
            players = np.array(list(dict.fromkeys(case.network.player(i) for i in here.ablate)), dtype=np.int64)
            document["ablated"] = [
                {
                    "id": case.network.filter_id(int(p)),
                    "constant": case.network.constant(int(p)),
                    "constant_from": documents.constant_from(case, int(p)),
                }
                for p in players
            ]
            document["figures_ablated"] = _figures(case, players)
        bars.close()
    emit(here, to, document, evaluate_text)
    return 0


def _figures(case: Case, players: np.ndarray) -> dict[str, Any]:
    """Metric and accuracy per split, by the masked network with `players` ablated."""

    def predict(pixels: torch.Tensor) -> np.ndarray:
        return masked_predictions(case, pixels, players)

    attacked = {part: predict(a.pixels) for part, a in case.attacked.items()}
    return measures.split_figures(case, predict(case.pixels), attacked)


def _full(case: Case) -> np.ndarray:
    return np.ones((1, case.network.n_filters), dtype=bool)


def _say(notes: tuple[str, ...]) -> None:
    for note in notes:
        print(note, file=sys.stderr)


VERBS: dict[str, Callable[[Any, TextIO], int]] = {
    "inspect": inspect,
    "score": score,
    "explain": explain,
    "compare": compare,
    "repair": repair,
    "evaluate": evaluate,
    "attack": attack,
    "apply": apply,
    "constants": constants,
    CONSTANTS_MERGE: constants_merge,
    "merge": merge,
}
