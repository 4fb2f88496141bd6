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
from pathlib import Path

import numpy as np
import torch

from benchmarks.engine import (
    AGAIN_SHARE,
    MARGIN,
    Case,
    Greedy,
    fewest_of_the_best,
    make_plan,
    masked_predictions,
    pipeline,
    prepare_process,
    silent,
)
from benchmarks.trials import CATDOG, RESNET8, STOCK_TAGS, TAG, Trial, sampled

TRIALS = (STOCK_TAGS, CATDOG, RESNET8, TAG)
BUDGET = 400_000


def runs(work: Path, seeds: int) -> Iterator[tuple[Trial, int, Path]]:
    """Trials seed by seed, so that what is there early covers all cases."""
    for seed in range(seeds):
        for trial in TRIALS:
            yield trial, seed, work / f"{trial.name.replace(', ', '-').replace(' ', '-')}-{seed}"


def sample(work: Path, seeds: int) -> None:
    """Samples each run once; leaves the states in its folder."""
    for trial, seed, folder in runs(work, seeds):
        with sampled(trial, seed, BUDGET, folder, _say):
            pass


def compare(work: Path, seeds: int) -> None:
    """For each run and order: k on *select*, and the metric on select and report before and after."""
    head = "| case | seed | order | k | select before → after | report before → after | clean on report | used, why |"
    print(head + "\n|---|---:|---|---:|---|---|---|---|", flush=True)
    for trial, seed, folder in runs(work, seeds):
        if not (folder / "search.bin").exists():
            continue
        began = time.perf_counter()
        with sampled(trial, seed, BUDGET, folder, _say) as (job, search, confirm):
            ranking, _ = pipeline.ranking_of(job, search, confirm)
            value = make_plan(job.case, ranking.players, silent)
            greedy = Greedy.of(job.case, ranking, job.budget, silent)
            assert greedy is not None
            plans, found = [("by value", value)], greedy.order()
            plans.append(("stepwise", make_plan(job.case, found.players, silent)))
            if found.tightest < MARGIN:  # as `orders.plan_of` does
                found = greedy.order(MARGIN, int(AGAIN_SHARE * job.budget))
                plans.append(("stepwise, with a margin", make_plan(job.case, found.players, silent)))
            chosen, why = fewest_of_the_best([plan for _, plan in plans])
            for i, (name, plan) in enumerate(plans):
                before, after = (_report(job.case, p) for p in (np.empty(0, np.int64), plan.chosen))
                select = [plan.steps[k].objective for k in (0, plan.k)]
                print(
                    f"| {trial.name} | {seed} | {name} | {plan.k} | {select[0]:.1%} → {select[1]:.1%} | "
                    f"{before[0]:.1%} → {after[0]:.1%} | {before[1]:.1%} → {after[1]:.1%} | "
                    f"{why if i == chosen else ''} |",
                    flush=True,
                )
        _say(f"{trial.name}, seed {seed}: {time.perf_counter() - began:.0f} s, {found}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


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
    prepare_process()
    torch.set_num_threads(1)
    {"sample": sample, "compare": compare}[args.what](args.work, args.seeds)


if __name__ == "__main__":
    main()
