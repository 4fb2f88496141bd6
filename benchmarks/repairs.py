"""What each edit of a repair gives beside its rivals: `python -m benchmarks repairs`.

Each case and seed is searched once; every edit starts from the same culprits, is chosen on the same *select* images
within the same limits, and is judged on the same *report* images, which none of them saw.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import backdoor, nulls
from benchmarks.engine import (
    AUTO,
    Case,
    Exam,
    Job,
    Made,
    NotMade,
    State,
    Workshop,
    decide,
    pipeline,
    plan_of,
    rivals,
    silent,
    two_dimensional,
)
from benchmarks.machine import line, machine
from benchmarks.tables import grid
from benchmarks.trials import ATTACKED, BACKDOOR, CATDOG, FASHION, RESNET8, STOCK_TAGS, WRITERS, Trial, sampled

Say = Callable[[str], None]
Row = dict[str, Any]
BUDGET, SEEDS = 200_000, 4
SHIFT, ALL, CHOSEN = "logit shift", "all weights, short", "auto"
EDITS = (*AUTO, CHOSEN, SHIFT, ALL)
_RIVALS = (SHIFT, "head", "biases")  # that `auto` must not be behind

CASES = {
    "stock_tags": STOCK_TAGS, "catdog": CATDOG, "resnet8": RESNET8, "fashion": FASHION, "writers": WRITERS,
    "backdoor": BACKDOOR, "attacked": ATTACKED,
}  # fmt: skip


def repairs(args: argparse.Namespace, say: Say) -> str:
    """The whole table; what is done is written to `args.table` after each run, if there is one."""
    seeds, budget = (nulls.SEEDS, nulls.BUDGET) if args.null else (SEEDS, BUDGET)
    args.seeds, args.budget = args.seeds or seeds, args.budget or budget
    if args.null:
        return nulls.nulls(args, say)
    rows: list[Row] = []
    text = ""
    for seed in range(args.seeds):
        for name in args.case or CASES:
            with tempfile.TemporaryDirectory() as scratch:
                folder = (args.work or Path(scratch)) / f"{name}-{seed}"
                measured = folder / "rows.json"
                if not measured.exists():
                    found = measure(name, CASES[name], seed, args.budget, folder, say)
                    measured.write_text(json.dumps(found))
                rows += json.loads(measured.read_text())
            text = document(rows, args)
            if args.table:
                args.table.write_text(text)
    return text


def measure(name: str, trial: Trial, seed: int, budget: int, folder: Path, say: Say) -> list[Row]:
    """All edits of one case and seed, in the order of `EDITS`.

    Args:
        folder: what was sampled is left there, and taken from there where it is.

    Raises:
        MissingData: the case's files are not here.
    """
    with sampled(trial, seed, budget, folder, say) as found:
        return _rows(name, seed, *found, say, trial is BACKDOOR)


def _rows(
    name: str, seed: int, job: Job, search: State, confirm: State | None, say: Say, judged_outside: bool
) -> list[Row]:
    case = job.case
    ranking, _ = pipeline.ranking_of(job, search, confirm)
    began = time.process_time()
    plan, _, _ = plan_of(case, ranking, job.budget, silent)
    say(f"{name}, seed {seed}: {plan.k} culprits, {time.process_time() - began:.0f} s")
    workshop, exam = Workshop(case, plan, job.budget, silent), Exam.of(case, "report")
    intact = case.subject.checkpoint.tensors
    before = workshop.model.predict(intact, exam.sets)
    made: dict[str, Made | NotMade] = {}
    seconds: dict[str, float] = {}
    for kind in (*AUTO, "all"):
        began = time.process_time()
        made[kind] = workshop.make(kind)
        seconds[kind] = time.process_time() - began
    auto = decide(workshop, "auto").used

    def said(of: Made | NotMade | None) -> rivals.Predicted:
        return workshop.model.predict(of.tensors, exam.sets) if isinstance(of, Made) else before

    by = {kind: said(one) for kind, one in made.items()}
    chosen = said(auto)
    logits = tuple(_logits(workshop, Exam.of(case, part)) for part in ("select", "report"))
    against_ablation = rivals.Judge(exam, before, by["ablate"], case.settings.seed, 0.95)
    against_auto = rivals.Judge(exam, before, chosen, case.settings.seed, 0.95)
    shift = [rivals.logit_shift(workshop, judge, *logits) for judge in (against_ablation, against_auto)]
    rows = []
    for edit in EDITS:
        kind = {CHOSEN: auto.name if auto else "", ALL: "all"}.get(edit, edit)
        predicted = chosen if edit == CHOSEN else by.get(kind, before)
        both = shift if edit == SHIFT else [j.row(edit, [predicted], "") for j in (against_ablation, against_auto)]
        one = made.get(kind)
        tensors = one.tensors if isinstance(one, Made) else intact
        judged = {} if not judged_outside or edit == SHIFT else {"not_seen": backdoor.not_seen(tensors)}
        rows.append(
            {
                "case": name,
                "seed": seed,
                "edit": edit,
                "made": edit == SHIFT or isinstance(one, Made),
                "kind": kind,
                "note": both[0]["note"] if edit == SHIFT else getattr(one, "reason", getattr(one, "note", "")),
                "units": getattr(one, "units", 0),
                "parameters": getattr(one, "parameters", 0),
                "evaluations": getattr(one, "evaluations", 0),
                "seconds": seconds.get(kind, 0.0),
                "metric": both[0]["metric"],
                "accuracy": both[0]["accuracy"],
                "guard": both[0].get("guard"),
                "gain": _improvement(case, both[0]["gain"]),
                "behind_ablation": _improvement(case, both[0]["advantage"]),
                "behind_auto": _improvement(case, both[1]["advantage"]),
                "drops": _drops(case, exam, before, predicted, both[0]),
                **judged,
            }
        )
    return rows


def _improvement(case: Case, change: Row) -> Row:
    """A change of the metric as shown, the larger the better."""
    if not case.question.lowers:
        return change
    return {**change, "value": -change["value"], "lower": -change["upper"], "upper": -change["lower"]}


def _drops(case: Case, exam: Exam, before: rivals.Predicted, after: rivals.Predicted, row: Row) -> float:
    """By how much the nearest limit is exceeded on *report*, in shares; at most 0 where all are kept."""
    sweep = exam.sweep({name: np.stack([before[name], after[name]]) for name in before})
    limits = case.settings.limits
    over = [float(sweep.clean[0] - row["accuracy"]) - limits.max_clean_drop]
    if sweep.guard is not None:
        over.append(float(sweep.guard[0] - row["guard"]) - limits.max_clean_drop)
    if sweep.drops is not None and row["name"] != SHIFT:
        over.append(float(sweep.drops[1]) - limits.max_subgroup_drop)
    return max(over)


def _logits(workshop: Workshop, exam: Exam) -> rivals.Logits:
    """Of the intact model."""
    model = workshop.model
    model.load(workshop.case.subject.checkpoint.tensors)
    with torch.inference_mode():
        return {
            n: torch.cat([two_dimensional(model.module(x)) for x in model.batches(p)]) for n, p in exam.sets.items()
        }


# The table -----------------------------------------------------------------------------------------------


def document(rows: list[Row], args: argparse.Namespace) -> str:
    """Summary, the question of the issue, and every row."""
    cases = list(dict.fromkeys(row["case"] for row in rows))
    chosen = "".join(f" --case {name}" for name in args.case or ())
    command = f"python -m benchmarks repairs{chosen} --seeds {args.seeds} --budget {args.budget}"
    head = ["case", "seed", "edit", "metric", "gain, points", "minus ablation, points", "clean", "guard"]
    head += ["over a limit by", "units", "parameters", "evaluations", "CPU s", "note"]
    parts = [
        "# Edits of a repair beside their rivals",
        f"{line(machine('cpu'))}\n\nMade by `{command}`; [what each edit does](../../docs/edits.md). Budget "
        f"{args.budget:,} evaluations for the search. Points of the metric over the intact network (of an attack's "
        "success: below it) on the report images, which no method saw; intervals are paired, of 95%. Limits: clean "
        f"accuracy 2 points{_others(cases)}, any subgroup 10 points; kept on *select*, measured here.",
        "## Mean gain over the seeds, points; in brackets seeds whose interval is better / worse than ablation's",
        grid(["edit", *cases], _summary(rows, cases)),
        _behind(rows),
        *_not_seen(rows),
        "## Every run",
        grid(head, map(_line, rows)),
    ]
    return "\n\n".join(parts) + "\n"


def _others(cases: list[str]) -> str:
    """The clean drops that are allowed elsewhere, in brackets."""
    drops = {name: CASES[name].max_clean_drop for name in cases}
    said = [
        f"{' and '.join(name for name in cases if drops[name] == drop)}: {100 * drop:.0f}"
        for drop in sorted({*drops.values()} - {Trial.max_clean_drop})
    ]
    return f" ({'; '.join(said)})" if said else ""


def _summary(rows: list[Row], cases: list[str]) -> Iterator[list[str]]:
    for edit in EDITS:
        cells = []
        for case in cases:
            mine = [row for row in rows if (row["case"], row["edit"]) == (case, edit)]
            better = sum(row["behind_ablation"]["upper"] < 0 for row in mine)
            worse = sum(row["behind_ablation"]["lower"] > 0 for row in mine)
            mean = 100 * np.mean([row["gain"]["value"] for row in mine])
            cells.append(f"{mean:+.1f}" + (f" ({better}/{worse})" if edit != "ablate" else ""))
        yield [edit, *cells]


def _behind(rows: list[Row]) -> str:
    compared = [row for row in rows if row["edit"] in _RIVALS]
    behind = [row for row in compared if row["behind_auto"]["upper"] < 0]
    of_all = [100 * row["behind_auto"]["value"] for row in rows if row["edit"] == ALL]
    ahead = [-100 * row["behind_ablation"]["value"] for row in rows if row["edit"] == CHOSEN]
    named = "; ".join(f"{row['case']}, seed {row['seed']}: {row['edit']}" for row in behind) or "none"
    return (
        f"`auto` is significantly behind a shift, the last layer or biases in {len(behind)} of {len(compared)} "
        f"comparisons ({named}). Against all weights it stands {np.mean(of_all):+.1f} points on average, against "
        f"ablation {np.mean(ahead):+.1f}."
    )


def _not_seen(rows: list[Row]) -> list[str]:
    """The backdoor's figures on images that are in none of its files, by plain torch."""
    judged = [row for row in rows if "not_seen" in row]
    if not judged:
        return []
    shares = ("clean", "success", "true_label")
    cells = [
        [str(row["seed"]), row["edit"] + (f" = {row['kind'] or 'none'}" if row["edit"] == CHOSEN else "")]
        + [f"{row['not_seen'][key]:.1%}" for key in shares]
        for row in judged
    ]
    n = judged[0]["not_seen"]["images"]
    intact = backdoor.not_seen(backdoor.intact())
    first = ["", "intact", *(f"{intact[key]:.1%}" for key in shares)]
    head = ["seed", "edit", "clean accuracy", "attack success", "accuracy under the trigger"]
    return [
        f"## The backdoor on {n:,} images that nothing saw, by plain torch",
        "Images of CIFAR-10's test set that are in none of the case's files; success and accuracy under the trigger "
        "without those of the target's class.",
        grid(head, [first, *cells]),
    ]


def _line(row: Row) -> list[str]:
    def points(change: Row, sign: float = 1.0) -> str:
        ends = sorted((sign * change["lower"], sign * change["upper"]))
        value, low, high = (100 * share + 0.0 for share in (sign * change["value"], *ends))  # no negative zeros
        return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"

    is_ablation = row["edit"] == "ablate"
    note = row["note"] if row["made"] else f"as it is: {row['note']}" if row["note"] else "as it is"
    return [
        row["case"],
        str(row["seed"]),
        row["edit"] + (f" = {row['kind'] or 'none'}" if row["edit"] == CHOSEN else ""),
        f"{row['metric']:.1%}",
        points(row["gain"]),
        "" if is_ablation else points(row["behind_ablation"], -1.0),
        f"{row['accuracy']:.1%}",
        "" if row["guard"] is None else f"{row['guard']:.1%}",
        f"{100 * row['drops']:.1f}" if row["drops"] > 1e-9 else "",
        f"{row['units']:,}",
        f"{row['parameters']:,}",
        f"{row['evaluations']:,}",
        f"{row['seconds']:.0f}" if row["seconds"] else "",
        note,
    ]


def add_arguments(verb: argparse.ArgumentParser) -> None:
    which = verb.add_mutually_exclusive_group()
    which.add_argument("--case", action="append", choices=tuple(CASES), help="only this one; may be repeated")
    which.add_argument("--null", action="store_true", help="in their place: coin-flip subgroups, and what is claimed")
    verb.add_argument("--seeds", type=int, help=f"default {SEEDS}; of --null {nulls.SEEDS}")
    verb.add_argument("--budget", type=int, help=f"default {BUDGET}; of --null {nulls.BUDGET}")
    verb.add_argument("--work", type=Path, help="keep there what was sampled and measured, and go on from it")
    verb.add_argument("--table", type=Path, help="write the table there after each run")
