"""Claims where there is nothing to claim: `python -m benchmarks repairs --null`.

Subgroups by the toss of a coin, on images of the very kind that the network was trained for: no subgroup is treated
worse than another. Each seed draws its own images, coins and splits; each repair is judged as the product judges it,
and its true change is measured on all images that the run did not see.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy.stats import beta

from benchmarks.engine import (
    Exam,
    Made,
    Workshop,
    decide,
    job_of,
    not_shown,
    paired_bootstrap,
    pipeline,
    plan_of,
    rivals,
    searched,
    silent,
)
from benchmarks.machine import line, machine
from benchmarks.references import commit
from benchmarks.sources import SOURCES
from benchmarks.tables import grid

Row = dict[str, Any]
SOURCE, SIZES, EDITS = "resnet8", (600, 2000), ("ablate", "auto")
SEEDS, BUDGET = 40, 20_000
_ALLOWED = 0.05  # share of claims
_STREAM = 0x0C0171


def nulls(args: argparse.Namespace, say: Callable[[str], None]) -> str:
    """The table of all runs; what is done is kept in `args.work` and written to `args.table` after each run."""
    model, images = SOURCES[SOURCE].open()
    rows: list[Row] = []
    for seed in range(args.seeds):
        for size in SIZES:
            kept = args.work / f"null-{size}-{seed}.json" if args.work else None
            if kept is not None and kept.exists():
                rows += json.loads(kept.read_text())
                continue
            found = measure(model, images.dataset, size, seed, args.budget)
            said = ", ".join(f"{row['edit']} {'claimed' if row['claimed'] else 'not claimed'}" for row in found)
            say(f"{size} images, seed {seed}: {said}")
            rows += found
            if kept is not None:
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(json.dumps(found, indent=1))
            if args.table:
                args.table.write_text(document(rows, args.budget))
    return document(rows, args.budget)


def measure(model: Any, dataset: Any, size: int, seed: int, budget: int) -> list[Row]:
    """One search, and a row of each edit that starts from it.

    Args:
        dataset: of which `size` images are drawn; the rest judge what was claimed.
    """
    rng = np.random.default_rng([_STREAM, size, seed])
    drawn = np.zeros(len(dataset.labels), bool)
    drawn[rng.permutation(len(drawn))[:size]] = True
    coin = rng.integers(0, 2, size).astype(str)
    shown = dataset.preprocessing
    about = {"columns": {"coin": coin}, "classes": list(dataset.class_names), "mean": shown.mean, "std": shown.std}
    pair = dataset.images[drawn], dataset.labels[drawn]
    with job_of("repair", model, pair, "subgroup-recall:coin", seed=seed, budget=budget, **about) as job:
        case = job.case
        ranking, _ = pipeline.ranking_of(job, *searched(job))
        plan, _, _ = plan_of(case, ranking, job.budget, silent)
        workshop, exam = Workshop(case, plan, job.budget, silent), Exam.of(case, "report")
        intact = case.subject.checkpoint.tensors
        before = workshop.model.predict(intact, exam.sets)
        judge = rivals.Judge(exam, before, before, case.settings.seed, case.settings.level)
        unseen = {"clean": workshop.case.images.pixels.new_tensor(dataset.images[~drawn])}
        truly = workshop.model.predict(intact, unseen)["clean"]
        rows = []
        for edit in EDITS:
            made = workshop.make(edit) if edit == "ablate" else decide(workshop, edit).used
            row: Row = {"size": size, "seed": seed, "edit": edit, "commit": commit()}
            row |= {"kind": "", "claimed": False, "gain": None, "unseen": None}
            if isinstance(made, Made):
                gain = judge.row(edit, [workshop.model.predict(made.tensors, exam.sets)], "")["gain"]
                after = workshop.model.predict(made.tensors, unseen)["clean"]
                row |= {
                    "kind": made.name,
                    "claimed": not not_shown({"gain": gain, "metric": {"goal": exam.objective.goal}}),
                    "gain": {key: gain[key] for key in ("value", "lower", "upper")},
                    "unseen": _change(dataset.labels[~drawn], truly, after, seed),
                }
            rows.append(row)
        return rows


def _change(labels: np.ndarray, before: np.ndarray, after: np.ndarray, seed: int) -> dict[str, float]:
    """Of the mean recall of the classes, which is what coin-flip subgroups' recall is on many images; paired."""
    weights = 1.0 / (np.bincount(labels)[labels] * len(np.unique(labels)))
    found = paired_bootstrap(before == labels, after == labels, weights, labels, seed)
    return {"value": found.estimate, "lower": found.lower, "upper": found.upper}


# The table -----------------------------------------------------------------------------------------------


def document(rows: list[Row], budget: int) -> str:
    """Claims by size and edit with their intervals, and each run that changed the model."""
    seeds = 1 + max(row["seed"] for row in rows)
    head = ["images", "edit", "runs", "model changed", "claimed", "share", "95% interval", "of these, better unseen",
            "mean change unseen, points"]  # fmt: skip
    claims = sum(row["claimed"] for row in rows)
    low, high = clopper_pearson(claims, len(rows))
    share = f"{claims / len(rows):.1%}, 95% interval {low:.1%} to {high:.1%} as if all were independent"
    return "\n\n".join(
        [
            "# Repairs claimed where there is nothing to repair",
            line(machine("cpu") | {"commit": ", ".join(dict.fromkeys(row["commit"] for row in rows))}),
            f"Made by `python -m benchmarks repairs --null --seeds {seeds} --budget {budget}`; "
            "[what each edit does](../../docs/edits.md). Images of CIFAR-10's test set, "
            f"ResNet-8; subgroups by the toss of a coin, metric `subgroup-recall:coin`; {budget:,} evaluations for the "
            "search, all else as it is by default. Claimed: the product says “repaired”, by the 95% interval of the "
            "paired change on the report images. Unseen: all images that the run did not draw, on which “better” needs "
            "a 95% interval above 0. Intervals of shares: Clopper and Pearson; seeds share some images, which they do "
            "not know of.",
            grid(head, _summary(rows)),
            f"Claimed in all: {claims} of {len(rows)} ({share}; both edits of a seed share its images); at most "
            f"{_ALLOWED:.0%} are allowed.",
            "## Runs that changed the model",
            grid(
                ["images", "seed", "edit", "claimed", "change on report, points", "unseen, points"],
                (_line(row) for row in rows if row["kind"]),
            ),
        ]
    ) + "\n"  # fmt: skip


def _summary(rows: list[Row]) -> Iterator[list[str]]:
    for size in SIZES:
        for edit in EDITS:
            mine = [row for row in rows if (row["size"], row["edit"]) == (size, edit)]
            if not mine:
                continue
            claimed = [row for row in mine if row["claimed"]]
            low, high = clopper_pearson(len(claimed), len(mine))
            unseen = [row["unseen"]["value"] if row["unseen"] else 0.0 for row in mine]
            yield [
                f"{size:,}",
                edit,
                str(len(mine)),
                str(sum(bool(row["kind"]) for row in mine)),
                str(len(claimed)),
                f"{len(claimed) / len(mine):.1%}",
                f"{low:.1%} to {high:.1%}",
                str(sum(row["unseen"]["lower"] > 0 for row in claimed)),
                f"{100 * np.mean(unseen):+.2f}",
            ]


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a share (Clopper & Pearson 1934)."""
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(beta.ppf(tail, successes, n - successes + 1))
    high = 1.0 if successes == n else float(beta.ppf(1 - tail, successes + 1, n - successes))
    return low, high


def _line(row: Row) -> list[str]:
    def points(change: dict[str, float]) -> str:
        return f"{100 * change['value']:+.1f} [{100 * change['lower']:+.1f}, {100 * change['upper']:+.1f}]"

    edit = row["edit"] if row["edit"] == row["kind"] else f"{row['edit']} = {row['kind']}"
    claimed = "yes" if row["claimed"] else ""
    return [f"{row['size']:,}", str(row["seed"]), edit, claimed, points(row["gain"]), points(row["unseen"])]
