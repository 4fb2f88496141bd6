"""The verbs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from repair_engine.case.explain_settings import Explain
from repair_engine.case.inspection import default_preprocessing
from repair_engine.cli import options
from repair_engine.cli.apply import apply
from repair_engine.cli.attack import attack
from repair_engine.cli.compare import compare
from repair_engine.cli.emit import emit
from repair_engine.cli.parties import CONSTANTS_MERGE, constants, constants_merge, merge
from repair_engine.data import read_dataset
from repair_engine.models import formats
from repair_engine.models.classes import class_names
from repair_engine.pages.text import evaluate_text, explain_text, inspect_text, repair_text, score_text
from repair_engine.support.bars import Bars
from repair_engine.support.outputs import check_folder, claimed, results
from repair_engine.support.scratch import scratch
from repair_engine.verbs import running

NO_REPAIR = 5


def inspect(args: argparse.Namespace) -> int:
    """Sites, filters, and which convolutions are not players and why."""
    architecture = options.architecture_of(args)  # first: it finds the weights where --model is a folder
    checkpoint = formats.read(args.model, architecture, args.weights)
    preprocessing, _ = default_preprocessing(options.preprocessing_of(args), checkpoint)
    dataset = None
    if args.data:
        dataset = read_dataset(
            args.data, class_names(checkpoint.architecture, args.classes), preprocessing, split=args.split_folder
        )
    document = running.inspect(checkpoint, preprocessing, dataset)
    emit(args, document, inspect_text)
    return 0


def score(args: argparse.Namespace) -> int:
    """Values of all filters."""
    request, bars = options.request_of(args), Bars(args.json)
    out = Path(args.out) if args.out else None
    with claimed(out), scratch("score") as folder:
        found = running.score(request, folder, bars)
        bars.close()
        if out is not None:
            with results(out) as made:
                found.write(made)
    emit(args, found.document, score_text)
    return 0


def explain(args: argparse.Namespace) -> int:
    """Values of all filters, removal curves of every ranking, pictures of filters."""
    asked = Explain(args.remove, args.random_draws, args.curve_images, args.pictures, args.visualize)
    request, bars, out = options.request_of(args).to_explain(asked), Bars(args.json), Path(args.out)
    with claimed(out, "explain.json"), scratch("explain") as folder:
        with results(out) as made:
            document = running.explain(request, folder, made, bars)
        bars.close()
    emit(args, {**document, "out": str(out)}, explain_text)
    return 0


def repair(args: argparse.Namespace) -> int:
    """Search, confirm, plan, write back, report."""
    bars, out = Bars(args.json), Path(args.out)
    request = replace(options.request_of(args), values=args.values or None)
    with claimed(out, "repair.json"), scratch("repair") as folder:
        check_folder(out, [path for path in (request.model, request.data, request.guard, args.values) if path])
        document = running.repair(request, folder, out, bars)
    bars.close()
    emit(args, {**document, "out": args.out}, repair_text)
    return 0 if document["outcome"] == "repaired" else NO_REPAIR


def evaluate(args: argparse.Namespace) -> int:
    """The metric on each split and on all images; with --ablate, before and after."""
    request, bars = options.request_of(args), Bars(args.json)
    ids = [part.strip() for part in (args.ablate or "").split(",") if part.strip()]
    with scratch("evaluate") as folder:
        document = running.evaluate(request, ids, folder, bars)
        bars.close()
    emit(args, document, evaluate_text)
    return 0


VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
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
