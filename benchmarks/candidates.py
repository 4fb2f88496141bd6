"""Where candidates for a repair come from, at equal cost: `python -m benchmarks candidates --work DIR`.

Each source ranks the units for the same evaluations on the same *score* images; the number of culprits is chosen on the
same *select* images within the same limits, and judged on the same *report* images: in the order of the ranking, and as
a repair does, in that order or in the stepwise one over the source's candidates, whichever *select* prefers.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from benchmarks.engine import (
    Case,
    Job,
    NeuronGame,
    Plan,
    make_plan,
    masked_predictions,
    paired_bootstrap,
    pipeline,
    plan_of,
    silent,
)
from benchmarks.machine import line, machine
from benchmarks.tables import grid
from benchmarks.trials import CATDOG, RESNET8, STOCK_TAGS, Trial, sampled

Say = Callable[[str], None]
CASES = {"catdog": CATDOG, "stock_tags": STOCK_TAGS, "resnet8": RESNET8}
SEEDS, BUDGET = 2, 100_000
MOST, LOOKED_AT = 20, 80  # longest list that is tried in its own order; candidates of a stepwise one
BACKWARD, IMAGES = 3, 64  # evaluations that an image forward and backward counts; images of a step
_RATE, _PRICE = 0.05, 0.5  # of the gates
_STREAM = 0xCA4D
VALUE, REPAIR = "by value", "as a repair"
SHAPLEY, BOTH, ALL, RANDOM = "Shapley values", "Shapley values and gradients", "all but random", "random units"
PRODUCT = "the product: Shapley values and gradients, then gates"


def candidates(args: argparse.Namespace, say: Say) -> str:
    """The table; what is measured is kept in `args.work`, and taken from there where it is."""
    rows: list[dict[str, Any]] = []
    text = ""
    for seed in range(args.seeds):
        for name in args.case or CASES:
            folder = args.work / f"{name}-{seed}"
            folder.mkdir(parents=True, exist_ok=True)
            kept = folder / "rows.json"
            if not kept.exists():
                began = time.process_time()
                kept.write_text(json.dumps(measure(name, CASES[name], seed, folder, say), indent=1))
                say(f"{name}, seed {seed}: {time.process_time() - began:.0f} s")
            rows += json.loads(kept.read_text())
            text = document(rows, args)
            if args.table:
                args.table.write_text(text)
    return text


def measure(name: str, trial: Trial, seed: int, folder: Path, say: Say) -> list[dict[str, Any]]:
    """Two rows a source: in its own order, and as a repair from its candidates."""
    with sampled(trial, seed, BUDGET, folder, say) as (job, search, confirm):
        ranking, spent = pipeline.ranking_of(job, search, confirm)
        found, sign = ranking.found, job.game.objective.culprit_sign
        with np.errstate(invalid="ignore"):
            certainty = np.nan_to_num(sign * found.values[0] / found.std_errors[0], nan=-np.inf, posinf=-np.inf)
        rng = np.random.default_rng([_STREAM, seed])
        made = {
            "leave-one-out, intact": leave_one_out(job.game, spent, rng),
            "gradients, intact": gradients(job.game, spent, 0, rng),
            "gradients, damaged": gradients(job.game, spent, found.depth or 1, rng),
        }
        orders = {SHAPLEY: ranking.players, "their certainty": _first(certainty)}
        orders |= {source: _first(sign * values) for source, values in made.items()}
        orders["learned gates"] = _first(1 - gates(job, spent, rng))
        orders[RANDOM] = rng.permutation(job.game.n_players)[:LOOKED_AT]
        rows = []
        for source, players in orders.items():
            plan = make_plan(job.case, players[:MOST], silent)
            rows.append(_row(name, seed, source, VALUE, job.case, plan))
        sets: dict[str, np.ndarray | None] = {source: np.unique(players) for source, players in orders.items()}
        sets[BOTH] = None
        sets[ALL] = np.unique(np.concatenate([players for source, players in orders.items() if source != RANDOM]))
        sets[PRODUCT] = None
        for source, candidates in sets.items():
            by_value = replace(ranking, players=orders.get(source, ranking.players)[:MOST])
            plan = plan_of(job.case, by_value, BUDGET, silent, candidates, source == PRODUCT)[0]
            rows.append(_row(name, seed, source, REPAIR, job.case, plan))
            say(f"{name}, seed {seed}: {source} {rows[-1]['gain']:+.3f}")
        return rows


def _first(culpable: np.ndarray) -> np.ndarray:
    """Units that seem to do harm, the worst first."""
    order = np.argsort(-culpable, kind="stable")
    return order[culpable[order] > 0][:LOOKED_AT]


def leave_one_out(game: NeuronGame, budget: int, rng: np.random.Generator) -> np.ndarray:
    """What each unit's presence in the intact network is worth, by the targets' probability, [n]."""
    game = game.resized(max(4, budget // (game.n_players + 1)))
    whole = np.ones((1, game.n_players), dtype=bool)
    return game.smooth_differences(whole, np.arange(game.n_players), game.draw_batch(rng), lambda _: None)[1]


def gradients(game: NeuronGame, budget: int, depth: int, rng: np.random.Generator) -> np.ndarray:
    """The same to first order, of networks with 0 to `depth` random units ablated, another for each image, [n]."""
    game = game.resized(IMAGES)
    n, total, draws = game.n_players, np.zeros(game.n_players), max(1, budget // (BACKWARD * game.batch_size))
    for _ in range(draws):
        batch = game.draw_batch(rng)
        coalitions = np.ones((len(batch.indices), n), dtype=bool)
        for row in coalitions:
            row[rng.choice(n, rng.integers(0, depth + 1), replace=False)] = False
        total += game.guesses([(coalitions, batch)], lambda _: None)[0, 0]
    return total / draws


def gates(job: Job, budget: int, rng: np.random.Generator) -> np.ndarray:
    """Masks in [0, 1] of all units that lower the loss of the metric's images, [n]; each closed gate has a price."""
    game = job.game.resized(IMAGES)
    network = game.network
    masks = torch.ones(game.n_players, requires_grad=True)
    descent = torch.optim.Adam([masks], lr=_RATE)
    for _ in range(max(1, budget // (BACKWARD * game.batch_size))):
        batch = game.draw_batch(rng)
        targets = torch.from_numpy(game.objective.targets[batch.indices])
        weights = torch.from_numpy(batch.weights[0]).float()
        losses = cross_entropy(network.soft_logits(game.images(batch.indices), masks), targets, reduction="none")
        loss = (losses * weights).sum() + _PRICE * (1 - masks).mean()
        (masks.grad,) = torch.autograd.grad(loss, (masks,))
        descent.step()
        with torch.no_grad():
            masks.clamp_(0, 1)
    return masks.detach().double().numpy()


def _row(name: str, seed: int, source: str, order: str, case: Case, plan: Plan) -> dict[str, Any]:
    objective, pixels = case.question.objective("report"), case.images.rows("report")
    rows = case.question.rows("report")
    before, after = (masked_predictions(case, pixels, players)[rows] for players in (plan.players[:0], plan.chosen))
    hits = [predicted == objective.targets for predicted in (before, after)]
    change = paired_bootstrap(hits[0], hits[1], objective.weights, objective.cells, case.settings.seed)
    return {
        "case": name, "seed": seed, "source": source, "order": order, "candidates": len(plan.players), "k": plan.k,
        "select": float(plan.scores[plan.k] - plan.scores[0]) if plan.scores is not None else 0.0,
        "gain": change.estimate, "lower": change.lower, "upper": change.upper,
    }  # fmt: skip


# The table -----------------------------------------------------------------------------------------------


def document(rows: list[dict[str, Any]], args: argparse.Namespace) -> str:
    """Mean gains by source and case in both orders, and every run."""
    chosen = "".join(f" --case {name}" for name in args.case or ())
    cases, sources = (list(dict.fromkeys(row[key] for row in rows)) for key in ("case", "source"))

    def mean(source: str, order: str, case: str | None) -> str:
        found = [
            row for row in rows if (row["source"], row["order"]) == (source, order) and case in (None, row["case"])
        ]
        return f"{100 * np.mean([row['gain'] for row in found]):+.1f}" if found else ""

    def means(order: str) -> str:
        return grid(
            ["source", *cases, "all"],
            [[source, *(mean(source, order, case) for case in (*cases, None))] for source in sources
             if mean(source, order, None)],
        )  # fmt: skip

    def shown(row: dict[str, Any]) -> list[str]:
        points = [f"{100 * row[key]:+.1f}" for key in ("select", "gain", "lower", "upper")]
        return [row["case"], str(row["seed"]), row["source"], row["order"], str(row["candidates"]), str(row["k"]),
                points[0], f"{points[1]} [{points[2]}, {points[3]}]"]  # fmt: skip

    return "\n\n".join(
        [
            "# Where candidates for a repair come from, at equal cost",
            line(machine("cpu")),
            f"Made by `python -m benchmarks candidates{chosen} --seeds {args.seeds} --work DIR`. Each source "
            f"has the evaluations that a search with a budget of {BUDGET:,} spent (an image forward and backward "
            f"counts {BACKWARD}). By ablation alone, within the limits of [repairs.md](repairs.md). Points of the "
            "metric over the intact network on the report images, means over the seeds.",
            f"## As a repair: the better on *select* of the source's order and the stepwise one over its {LOOKED_AT}",
            means(REPAIR),
            f"## At most {MOST} in the source's own order",
            means(VALUE),
            "## Every run",
            grid(["case", "seed", "source", "order", "tried", "ablated", "on select", "on report"], map(shown, rows)),
        ]
    ) + "\n"  # fmt: skip


def add_arguments(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--case", action="append", choices=tuple(CASES), help="only this one; may be repeated")
    verb.add_argument("--seeds", type=int, default=SEEDS)
    verb.add_argument("--work", type=Path, required=True, help="keep there what was measured, and go on from it")
    verb.add_argument("--table", type=Path, help="write the table there")
