"""Does re-scoring after each removal (greedy forward selection) find better repairs than the order by value?

    OMP_NUM_THREADS=1 python -m benchmarks.stepwise sample  --work /tmp/stepwise      # values, once: ~5 minutes a run
    OMP_NUM_THREADS=1 python -m benchmarks.stepwise compare --work /tmp/stepwise      # prints stepwise.md's table

Every row is one case with one seed of splits and sampling. All orders get the same values, the same *score* images,
the same limits and the same choice of k on *select*; what they reach is read off the *report* images.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.cases import DATA, SOURCES, Source
from repair_engine.case.case import Case
from repair_engine.choosing.plan import better, make_plan, masked_predictions
from repair_engine.choosing.stepwise import AGAIN_SHARE, MARGIN, Greedy
from repair_engine.models.architectures import Architecture
from repair_engine.question.objectives import Metric
from repair_engine.question.request import Limits, RepairRequest
from repair_engine.verbs import pipeline
from shapley import State

CATDOG = Source(
    DATA / "catdog_breeds",
    "resnet8_catdog.safetensors",
    "images_2250.zip",
    Architecture("net", 2, register={"net": "architectures:ResNet8"}),
    imports=DATA,
)


@dataclass(frozen=True)
class Trial:
    """A repair to be made: files, metric, clean-drop limit and budget."""

    name: str
    source: Source
    metric: str
    clean_drop: float = 0.02
    budget: int = 400_000


TRIALS = (
    Trial("stock_tags, subgroup", SOURCES["stock_tags"], "subgroup-recall:subgroup"),
    Trial("catdog, breeds", CATDOG, "subgroup-recall:subgroup", 0.05),
    Trial("resnet8, recall of cat", SOURCES["resnet8"], "recall:cat", 0.05),
    Trial("stock_tags, tag", SOURCES["stock_tags"], "subgroup-recall:tag"),
)


def request_of(trial: Trial, seed: int) -> RepairRequest:
    source = trial.source
    if source.imports is not None and str(source.imports) not in sys.path:
        sys.path.insert(0, str(source.imports))
    return RepairRequest(
        model=str(source.folder / source.model),
        data=str(source.folder / source.data),
        architecture=source.architecture,
        metric=Metric.parse(trial.metric),
        classes=str(source.folder / source.classes) if source.classes else None,
        preprocessing=source.preprocessing,
        limits=Limits(max_clean_drop=trial.clean_drop),
        budget=trial.budget,
        seed=seed,
    )


def runs(work: Path, seeds: int) -> Iterator[tuple[Trial, int, Path]]:
    """Trials seed by seed, so that what is there early covers all cases."""
    for seed in range(seeds):
        for trial in TRIALS:
            yield trial, seed, work / f"{trial.name.replace(', ', '-').replace(' ', '-')}-{seed}"


def sample(work: Path, seeds: int) -> None:
    """Prepares and samples each run once; leaves search.bin and confirm.bin in its folder."""
    for trial, seed, folder in runs(work, seeds):
        if (folder / "done").exists():
            continue
        began = time.perf_counter()
        job = pipeline.prepare_job(request_of(trial, seed), folder)
        settings = pipeline.phase_settings(job, "search")
        assert settings is not None
        search = pipeline.run_phase(job, settings)
        (folder / "search.bin").write_bytes(search.to_bytes())
        again = pipeline.phase_settings(job, "confirm", search)
        if again is not None:
            (folder / "confirm.bin").write_bytes(pipeline.run_phase(job, again).to_bytes())
        (folder / "done").touch()
        print(f"{trial.name}, seed {seed}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)


def compare(work: Path, seeds: int) -> None:
    """For each run and order: k on *select*, and the metric on select and report before and after."""
    head = "| case | seed | order | k | select before → after | report before → after | clean on report | used, why |"
    print(head + "\n|---|---:|---|---:|---|---|---|---|", flush=True)
    for trial, seed, folder in runs(work, seeds):
        if not (folder / "done").exists():
            continue
        request_of(trial, seed)  # for the import path of the architecture
        job = pipeline.open_job(folder)
        search = State.from_bytes((folder / "search.bin").read_bytes())
        file = folder / "confirm.bin"
        confirm = State.from_bytes(file.read_bytes()) if file.exists() else None
        began = time.perf_counter()
        ranking, _ = pipeline.ranking_of(job, search, confirm)
        value = make_plan(job.case, ranking.players, lambda *_: None)
        greedy = Greedy.of(job.case, ranking, job.budget, lambda *_: None)
        assert greedy is not None
        plans, found = [("by value", value, "")], greedy.order()
        lower = job.request.metric.culprit_sign > 0
        other = make_plan(job.case, found.players, lambda *_: None)
        plans.append(("stepwise", other, better(value, other, lower)))
        if not plans[-1][2] and found.tightest < MARGIN:  # as `orders.plan_of` does
            found = greedy.order(MARGIN, int(AGAIN_SHARE * job.budget))
            other = make_plan(job.case, found.players, lambda *_: None)
            plans.append(("stepwise, with a margin", other, better(value, other, lower)))
        why = plans[-1][2]
        for i, (name, plan, _) in enumerate(plans):
            before, after = (_report(job.case, p) for p in (np.empty(0, np.int64), plan.chosen))
            select = [plan.steps[k].objective for k in (0, plan.k)]
            used = i == (len(plans) - 1 if why else 0)
            print(
                f"| {trial.name} | {seed} | {name} | {plan.k} | {select[0]:.1%} → {select[1]:.1%} | "
                f"{before[0]:.1%} → {after[0]:.1%} | {before[1]:.1%} → {after[1]:.1%} | "
                f"{(why or 'not beaten') if used else ''} |",
                flush=True,
            )
        print(f"{trial.name}, seed {seed}: {time.perf_counter() - began:.0f} s, {found}", file=sys.stderr, flush=True)


def _report(case: Case, players: np.ndarray) -> tuple[float, float]:
    """Metric and accuracy on *report* with `players` ablated."""
    indices = case.images.splits.report
    predicted = np.zeros(len(case.images), dtype=np.int64)
    predicted[indices] = masked_predictions(case, case.images.rows("report"), players)
    metric = case.question.objective("report").value(predicted[case.question.indices("report")])
    return float(metric), float((predicted == case.images.labels)[indices].mean())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("sample", "compare"))
    parser.add_argument("--work", type=Path, required=True, help="a folder for the samples")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    {"sample": sample, "compare": compare}[args.what](args.work, args.seeds)


if __name__ == "__main__":
    main()
