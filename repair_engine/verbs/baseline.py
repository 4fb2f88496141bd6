"""A look at a model before a run: what it recognises, and what a search can find in how much time on this machine.

No image is looked at on which a repair of seed 0 would be reported (`data.before`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch

from repair_engine.case.preparing import Given, prepare, read_images, read_model
from repair_engine.data import Dataset
from repair_engine.data.before import outside_reports
from repair_engine.documents.baseline import BaselineRecord, LookedAt, baseline_document
from repair_engine.models.classes import class_names
from repair_engine.models.formats import Checkpoint
from repair_engine.network import check_finite, predictions
from repair_engine.question.request import RepairRequest
from repair_engine.search import calibrate
from repair_engine.search.game import NeuronGame
from repair_engine.search.phases import BATCH_SIZES, affordable
from repair_engine.settings.answer import EFFORTS
from repair_engine.support.memory import give_back
from repair_engine.support.progress import Progress
from repair_engine.verbs import budgets
from shapley import BudgetTooSmall, foresee, merge_round, next_round, run_block, start

MOST_IMAGES = 2_000  # that are decoded
LEAST_IMAGES = 300  # that are predicted, however slow the machine
TOP_K = 20  # of which it is said how many a search can expect to find
_SECONDS = 20.0  # of predicting
_PROBE_SECONDS = 0.5  # of each kind of work
_PILOT_SECONDS = 10.0  # of sampling
_FAR = 30  # times what was sampled: beyond that nothing is foreseen
_AT_ONCE = 32  # images
_SLOW = 200  # images a second


class EffortRecord(TypedDict):
    """What a run of so many minutes can find; `overlap`: share of the true lowest `top_k`, between two; None: not
    foreseen."""

    effort: str
    minutes: float
    budget: int
    overlap: list[float] | None


class SpeedRecord(TypedDict):
    """How fast units are valued here, for accuracy."""

    units: int
    top_k: int
    evaluations_per_second: float
    device: str
    threads: int
    efforts: list[EffortRecord]


def baseline(
    request: RepairRequest, folder: Path, progress: Progress, told: Callable[[BaselineRecord], None]
) -> SpeedRecord:
    """Look at a model on images: the figures are `told` as soon as they are known, the speed is what comes back.

    Args:
        request: a repair for accuracy, seed 0.
        folder: for work; nothing there is kept.

    Raises:
        BadInput: anything about the model or the images that cannot be used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = read_model(request, folder, progress)
    names = class_names(checkpoint.architecture, request.classes)
    picked = _Picked(request.seed)
    began = time.perf_counter()
    dataset = read_images(request, checkpoint, names, folder / "pixels", progress, picked)
    order = picked.order(dataset)
    reading = (time.perf_counter() - began) / len(dataset)
    began = time.perf_counter()
    predicted, confidence = _predict(request, checkpoint, dataset, order, progress)
    slow = time.perf_counter() - began > len(predicted) / _SLOW
    used = order[: len(predicted)]
    seen = _only(dataset, used)
    images: LookedAt = {"total": picked.total, "free": picked.free, "used": len(used), "seed": request.seed}
    warnings = [*dataset.warnings, *dataset.notes]
    told(baseline_document(seen.labels, predicted, confidence, seen.attributes, seen.class_names, images, warnings))
    return _speed(request, checkpoint, seen, folder, progress, picked.total, reading, slow)


class _Picked:
    """Of many images those that are decoded; of few all, for then their pixels say which belong together."""

    def __init__(self, seed: int) -> None:
        self.seed, self.total, self.free = seed, 0, 0

    def __call__(
        self, labels: np.ndarray, attributes: Mapping[str, Sequence[str]], digests: Sequence[str]
    ) -> np.ndarray:
        self.total = len(labels)
        if self.total <= MOST_IMAGES:
            return np.arange(self.total)
        found = outside_reports(labels, attributes, digests, self.seed)
        self.free = len(found)
        return found[:MOST_IMAGES]

    def order(self, dataset: Dataset) -> np.ndarray:
        """Of the decoded images those that may be looked at, in an order of which every beginning is stratified."""
        if self.free:
            return np.arange(len(dataset))
        found = outside_reports(dataset.labels, dataset.attributes, dataset.pixel_hashes, self.seed)
        self.free = len(found)
        return found


def _predict(
    request: RepairRequest, checkpoint: Checkpoint, dataset: Dataset, order: np.ndarray, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """Predicted classes, int64, and their probabilities, of as many images as the time allows, in the given order.

    Raises BadInput where logits are not finite.
    """
    module = checkpoint.module().to(request.device)
    classes, sure = [], []
    began = time.perf_counter()
    for i in range(0, len(order), _AT_ONCE):
        if i >= LEAST_IMAGES and time.perf_counter() - began > _SECONDS:
            break
        pixels = torch.from_numpy(np.asarray(dataset.images[order[i : i + _AT_ONCE]]))
        with torch.inference_mode():
            logits = module(dataset.preprocessing.normalize(pixels.to(request.device))).float().cpu()
        logits = logits.unsqueeze(1) if logits.dim() == 1 else logits
        check_finite(logits)
        two = torch.cat([-logits / 2, logits / 2], 1) if logits.shape[1] == 1 else logits
        classes.append(predictions(logits))
        sure.append(torch.softmax(two, 1).amax(1))
        progress("predicting", (i + len(pixels)) / len(order))
    return torch.cat(classes).numpy(), torch.cat(sure).double().numpy()


def _only(dataset: Dataset, indices: np.ndarray) -> Dataset:
    return replace(
        dataset,
        file_names=tuple(dataset.file_names[i] for i in indices),
        labels=dataset.labels[indices],
        attributes={name: tuple(values[i] for i in indices) for name, values in dataset.attributes.items()},
        images=dataset.images[indices],
        pixel_hashes=tuple(dataset.pixel_hashes[i] for i in indices),
    )


def _speed(
    request: RepairRequest,
    checkpoint: Checkpoint,
    seen: Dataset,
    folder: Path,
    progress: Progress,
    total: int,
    reading: float,
    slow: bool,
) -> SpeedRecord:
    """
    Args:
        seen: the images that were looked at.
        total: images of a run.
        reading: seconds that one takes to be read.
        slow: so is the network; less of it is run at once.
    """
    began = time.perf_counter()
    case = prepare(request, folder, progress, given=Given(checkpoint, seen))
    give_back()
    larger = total / len(seen)
    spent = larger * (time.perf_counter() - began) + total * reading
    progress("measuring the speed of this machine", 0.0)
    game = case.game(BATCH_SIZES[-1 if slow else 0])
    rates = calibrate.measure(game, request.seed, _PROBE_SECONDS)
    found = [
        (effort, minutes, max(calibrate.LEAST, budgets.chosen(case, rates, spent, 60 * minutes, larger)))
        for effort, minutes in EFFORTS.items()
    ]
    search = [request.purpose.search_share(budget) for *_, budget in found]
    overlaps = _overlaps(request, game, int(_PILOT_SECONDS * rates.toggle), search, progress)
    return {
        "units": game.n_players,
        "top_k": TOP_K,
        "evaluations_per_second": rates.toggle,
        "device": request.device,
        "threads": torch.get_num_threads(),
        "efforts": [
            {"effort": effort, "minutes": minutes, "budget": budget, "overlap": overlap}
            for (effort, minutes, budget), overlap in zip(found, overlaps, strict=True)
        ],
    }


def _overlaps(
    request: RepairRequest, game: NeuronGame, pilot: int, search: Sequence[int], progress: Progress
) -> Sequence[list[float] | None]:
    """What searches of so many evaluations can expect, foreseen from a short one of `pilot` evaluations.

    Nothing where these are too few to tell anything.
    """
    nothing: list[list[float] | None] = [None] * len(search)
    if pilot < calibrate.LEAST:
        return nothing
    game, settings = affordable(request, game.resized, pilot)
    if settings is None or not settings.guesses:
        return nothing
    state, done = start(settings), 0

    def tick(evaluations: int) -> None:
        nonlocal done
        done += evaluations
        progress("sampling, to foresee what a search can find", done / settings.budget)

    try:
        while tasks := next_round(state, settings):
            state = merge_round(state, settings, [run_block(game, settings, state, task, tick) for task in tasks])
    except BudgetTooSmall:
        return nothing
    give_back()
    asked = replace(settings, top_k=min(TOP_K, settings.top_k))
    found = foresee(state, asked, search) or nothing
    near = [budget <= _FAR * state.evaluations for budget in search]
    return [list(ends) if ends and close else None for ends, close in zip(found, near, strict=True)]
