"""Whole verbs in one process, from a request to its result: what the command line and the Python API call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch

from repair_engine.case.case import Case
from repair_engine.case.inspection import InspectRecord, inspect_network
from repair_engine.case.preparing import FROM_FILES, Given, prepare
from repair_engine.case.stored_values import objectives_in, stored_as
from repair_engine.choosing.plan import masked_predictions
from repair_engine.data import Dataset
from repair_engine.documents import measures
from repair_engine.documents import repair as documents
from repair_engine.documents.explain import ExplainRecord
from repair_engine.documents.objectives import ScoreRecord
from repair_engine.documents.records import EvaluateRecord, RepairRecord, SplitFigures
from repair_engine.errors import BadInput
from repair_engine.models.formats import Checkpoint
from repair_engine.models.preprocessing import Preprocessing
from repair_engine.network import Network
from repair_engine.question.request import RepairRequest
from repair_engine.question.verb import Verb
from repair_engine.search.forecast import Foresight
from repair_engine.support.progress import Progress, Teller, silent
from repair_engine.support.words import kinds_said
from repair_engine.verbs import pipeline
from repair_engine.verbs.scoring import Scored, scored
from shapley import State

_NAMED = 8  # layers that share a reason


def score(request: RepairRequest, folder: Path, teller: Teller, given: Given = FROM_FILES) -> Scored:
    """Values of all filters.

    Args:
        folder: for work; nothing there is kept.
        given: the model and images that need not be read.

    Raises:
        BadInput: anything about the model, the images or the options that cannot be used.
    """
    request = replace(request, purpose=Verb.SCORE)
    job = pipeline.prepare_job(request, folder, teller.stage, captured=lambda n: _players(n, teller), given=given)
    teller.say(*job.notes)
    settings = pipeline.phase_settings(job, "search")
    state, forecast = None, None
    tick = teller.counting("enumerating" if settings is None else "sampling", job.budget)
    if settings is not None:
        foresight = Foresight(settings, teller.say)
        state = pipeline.run_phase(job, settings, tick, foresight=foresight)
        forecast = None if foresight.first is None else foresight.first.to_json()
    return scored(job, state, forecast, tick)


def repair(request: RepairRequest, folder: Path, out: Path, teller: Teller, given: Given = FROM_FILES) -> RepairRecord:
    """The culprits ablated: checkpoint and report into `out`; the report document (`finish.finish`). See `score`.

    Raises:
        BadInput: see `score`.
        VerificationFailed: the written checkpoint does not reproduce the measured predictions.
    """
    if request.values:
        others = _others(request.values, str(request.metric))
        request = replace(request, also=others, values=None if request.by_hand else request.values)
    job = pipeline.prepare_job(request, folder, teller.stage, captured=lambda n: _players(n, teller), given=given)
    teller.say(*job.notes)
    search, confirm = phases(job, teller, foretell=True)
    return cast(RepairRecord, pipeline.run_finish(job, search, confirm, out, teller.stage))


def explain(
    request: RepairRequest, folder: Path, out: Path, teller: Teller, given: Given = FROM_FILES
) -> ExplainRecord:
    """Values, removal curves and pictures into `out`; the document (`explain.finish`). See `score`.

    Args:
        request: with `explain` set (`RepairRequest.to_explain`).
    """
    job = pipeline.prepare_job(request, folder, teller.stage, given=given)
    teller.say(players_text(job.case.subject.network), *job.notes)
    search, confirm = phases(job, teller)
    return cast(ExplainRecord, pipeline.run_finish(job, search, confirm, out, teller.stage))


def finish(
    job: pipeline.Job, search: State | None, confirm: State | None, out: Path, progress: Progress = silent
) -> RepairRecord | ExplainRecord | ScoreRecord:
    """From the final states of a job's phases to its verb's files in `out`; the document.

    Raises:
        BadInput, VerificationFailed: see `score` and `repair`.
    """
    if job.request.purpose is Verb.SCORE:
        found = scored(job, search)
        found.write(out)
        return found.document
    return pipeline.run_finish(job, search, confirm, out, progress)


def evaluate(
    request: RepairRequest, ablate: Sequence[str], folder: Path, teller: Teller, given: Given = FROM_FILES
) -> EvaluateRecord:
    """The metric on each split and on all images, and again with the filters `ablate` ablated. See `score`."""
    case = prepare(request, folder, teller.stage, given=given)
    document: EvaluateRecord = {
        "schema": documents.SCHEMA,
        "verb": "evaluate",
        "metric": case.question.describe(),
        "model": documents.describe_model(case),
        "data": documents.describe_data(case),
        "figures": _figures(case, np.empty(0, np.int64)),
        "warnings": list(case.warnings),
        "versions": documents.versions(),
    }
    if ablate:
        players = np.array([*dict.fromkeys(case.subject.network.players(ablate).tolist())], dtype=np.int64)
        document["ablated"] = [
            {
                "id": case.subject.network.filter_id(int(p)),
                "constant": case.subject.network.constant(int(p)),
                "constant_from": case.subject.constant_from(int(p)),
            }
            for p in players
        ]
        document["figures_ablated"] = _figures(case, players)
    return document


def inspect(
    checkpoint: Checkpoint,
    preprocessing: Preprocessing | None,
    dataset: Dataset | None,
    device: str = "cpu",
    size: tuple[int, ...] | None = None,
    units: str = "all",
) -> InspectRecord:
    """Sites, units, and which layers are not players and why; and of the images their classes and columns.

    Args:
        size: height and width of images, where neither the images nor the preprocessing tell.

    Raises:
        BadInput: see `inspect_network`.
    """
    size = size if dataset is None else dataset.images.shape[2:]
    document = inspect_network(checkpoint, preprocessing, size, device, units)
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
    return document


def players_text(network: Network) -> str:
    """Before a run: what can be ablated, and what cannot be repaired exactly, by reason and by name."""
    counts = {k: sum(s.channels for s in network.sites if s.kind == k) for k in network.coverage.kinds}
    said = (
        f"{kinds_said(counts)} at {len(network.sites)} sites are players ({network.coverage.share:.0%} of the "
        "parameters)"
    )
    others = network.not_players
    if not others:
        return said + ("; every convolution's filters are." if list(counts) == ["filter"] else "; every layer's are.")
    by_reason: dict[str, list[str]] = {}
    for one in others:
        by_reason.setdefault(one.reason, []).append(f"{one.name} ({one.channels})")
    layers = "convolution" if {one.kind for one in others} == {"filter"} else "layer"
    lines = [f"{said}; {len(others)} {layers}{'s have' if len(others) > 1 else ' has'} none (channels in brackets):"]
    for reason, names in by_reason.items():
        more = f" and {len(names) - _NAMED} more (inspect lists all)" if len(names) > _NAMED else ""
        lines.append(f"  {', '.join(names[:_NAMED])}{more}: {reason}")
    return "\n".join(lines)


def _players(network: Network, teller: Teller) -> None:
    teller.say(players_text(network))


def phases(job: pipeline.Job, teller: Teller, foretell: bool = False) -> tuple[State | None, State | None]:
    """The final states of search and confirm; None where there is nothing to do."""
    search = confirm = None
    settings = pipeline.phase_settings(job, "search")
    if settings is not None:
        foresight = Foresight(settings, teller.say) if foretell else None
        tick = teller.counting("searching", settings.budget)
        search = pipeline.run_phase(job, settings, tick, foresight=foresight)
    again = pipeline.phase_settings(job, "confirm", search)
    if again is not None:
        stage = "valuing the filters" if job.request.by_hand else "confirming"
        confirm = pipeline.run_phase(job, again, teller.counting(stage, again.budget))
    return search, confirm


def _others(values: str, metric: str) -> tuple[str, ...]:
    """The stored objectives beside the metric: they had a part in the splits. Raises BadInput."""
    names, metric = objectives_in(values), stored_as(metric, objectives_in(values))
    if metric not in names:
        raise BadInput(f"--values {values} has no values of {metric}.", f"It has: {', '.join(names)}.")
    return tuple(name for name in names if name != metric)


def _figures(case: Case, players: np.ndarray) -> dict[str, SplitFigures]:
    """Metric and accuracy per split, by the masked network with `players` ablated."""

    def predict(pixels: torch.Tensor) -> np.ndarray:
        return masked_predictions(case, pixels, players)

    attacked = {part: predict(a.pixels) for part, a in case.question.attacked.items()}
    return measures.split_figures(case, predict(case.images.pixels), attacked)
