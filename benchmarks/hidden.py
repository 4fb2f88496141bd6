"""A backdoor whose trigger is not known: `python -m benchmarks hidden --work DIR`.

Triggers are reconstructed from clean images of a backdoored network and of clean ones, as `--metric hidden-trigger`
does it; of the backdoored one the repair is judged with the real trigger, by plain torch, on images that nothing saw.
Beside it stands adversarial neuron pruning (ANP, arXiv 2110.14430), made of the same units on the same clean images.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import cross_entropy

from benchmarks import backdoor
from benchmarks.engine import (
    Case,
    Made,
    Network,
    Workshop,
    apply_edits,
    case_of,
    make_plan,
    pipeline,
    plan_of,
    reconstruct,
    silent,
    suspicion_said,
)
from benchmarks.machine import line, machine
from benchmarks.sources import SOURCES
from benchmarks.tables import grid
from benchmarks.trials import BACKDOOR, sampled

Say = Callable[[str], None]
CLEAN = ("resnet8", "fashion")  # networks that nobody tampered with
SEEDS, BUDGET = 2, 60_000
EDITS = ("ablate", "ablate+head")
_EPSILONS, _STEPS, _IMAGES, _RATE, _MOMENTUM, _SHARE = (0.1,), 60, 64, 0.2, 0.9, 0.2  # of ANP
_FIRST = 20  # units that are ablated whatever they cost
_NAD = ["NAD (arXiv 2101.05930), as published for this network", "", "", "82.1%", "3.6%", ""]


def hidden(args: argparse.Namespace, say: Say) -> str:
    """The table; each scan, search and repair is kept in `args.work`, and taken from there where it is."""
    args.work.mkdir(parents=True, exist_ok=True)
    scans: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    text = ""
    for name, seed in [*(("backdoor", seed) for seed in range(args.seeds)), *((name, 0) for name in CLEAN)]:
        scans.append(_kept(args.work / f"scan-{name}-{seed}.json", say, _scan, name, seed, args.work))
    steps: list[tuple[str, Callable[..., Any], tuple[Any, ...]]]
    steps = [(f"repair-{seed}", _repaired, (seed, args.work, say)) for seed in range(args.seeds)]
    steps += [(f"anp-{epsilon}", _pruned, (epsilon,)) for epsilon in _EPSILONS]
    for what, make, given in steps:
        rows += _kept(args.work / f"{what}.json", say, make, *given)
        text = document(scans, rows, args)
        if args.table:
            args.table.write_text(text)
    return text


def _kept(file: Path, say: Say, make: Callable[..., Any], *given: Any) -> Any:
    if not file.exists():
        began = time.process_time()
        file.write_text(json.dumps(make(*given), indent=1))
        say(f"{file.stem}: {time.process_time() - began:.0f} s")
    return json.loads(file.read_text())


def _scan(name: str, seed: int, work: Path) -> dict[str, Any]:
    """What is reconstructed; the pattern with its cover is left as an image beside."""
    with case_of("evaluate", *SOURCES[name].open(), "accuracy", seed=seed) as case:
        module = case.subject.checkpoint.module().to(case.subject.device)
        rows, room = case.images.splits.score, case.subject.room.backward
        found = reconstruct(module, case.images.dataset, rows, None, seed, case.subject.device, room, silent)
        pixels = found.patch.pixels.transpose(1, 2, 0)
        if name == "backdoor":
            colours = np.dstack([pixels, np.rint(found.patch.cover * 255).astype(np.uint8)])
            Image.fromarray(colours, "RGBA").save(work / f"scan-{name}-{seed}.png")
        said = suspicion_said(found.name, found.record, int(np.prod(pixels.shape[:2])))
        return {"network": name, "seed": seed, "class": found.name, "said": said, **found.record}


def _repaired(seed: int, work: Path, say: Say) -> list[dict[str, Any]]:
    """The repair for the reconstructed trigger: by Shapley values, within the default limits."""
    patch = Image.open(work / f"scan-backdoor-{seed}.png")
    trial = replace(BACKDOOR, name="hidden", trigger=patch, metric=f"trigger-success:{_named(work, seed)}")
    with sampled(trial, seed, BUDGET, work / f"search-{seed}", say) as (job, search, confirm):
        ranking, _ = pipeline.ranking_of(job, search, confirm)
        plan, _, _ = plan_of(job.case, ranking, job.budget, silent)
        workshop = Workshop(job.case, plan, job.budget, silent)
        rows = []
        for edit in EDITS:
            made = workshop.make(edit)
            tensors, units = (made.tensors, made.units) if isinstance(made, Made) else (backdoor.intact(), 0)
            rows.append(_row(f"reconstructed trigger, Shapley values, {edit}", seed, tensors, units))
        return rows


def _named(work: Path, seed: int) -> str:
    return str(json.loads((work / f"scan-backdoor-{seed}.json").read_text())["class"])


def _row(name: str, seed: int, tensors: Mapping[str, torch.Tensor], units: int) -> dict[str, Any]:
    return {"name": name, "seed": seed, "units": units, **backdoor.not_seen(tensors)}


# Adversarial neuron pruning ------------------------------------------------------------------------------


def _pruned(epsilon: float) -> list[dict[str, Any]]:
    """Units by their mask after ANP, the most sensitive first: as many as keep the clean limit on *select*."""
    with case_of("repair", *SOURCES["backdoor"].open(), "accuracy", seed=0) as case:
        order = np.argsort(anp_masks(case, epsilon), kind="stable")[: case.settings.limits.max_filters]
        within = max(step.k for step in make_plan(case, order, silent).steps if step.feasible)
        rows = []
        for k, which in ((within, "as many as keep the limit"), (_FIRST, f"its first {_FIRST}")):
            edits = [edit for player in order[:k] for edit in case.subject.edits(int(player))]
            tensors = apply_edits(case.subject.checkpoint.tensors, edits)
            rows.append(_row(f"ANP, ε = {epsilon:g}: {which}", 0, tensors, k))
        return rows


def anp_masks(case: Case, epsilon: float) -> np.ndarray:
    """Masks in [0, 1] of all units, float64 [n]: those that stay useful while an adversary scales units by up to ε.

    ANP's min-max over the units' own masks, which here fade a unit to its mean and not to zero.
    """
    network, labels = case.subject.network, torch.from_numpy(case.question.labels("score"))
    rows = case.images.rows("score")
    rng, n = np.random.default_rng(case.settings.seed), network.n_filters
    masks, moment = torch.ones(n), torch.zeros(n)
    for _ in range(_STEPS):
        picked = torch.from_numpy(np.sort(rng.choice(len(labels), _IMAGES, replace=False)))
        images, targets = case.images.normalize(rows[picked]), labels[picked]
        noise = torch.from_numpy(rng.uniform(-epsilon, epsilon, n)).float()
        (slope,) = _slopes(network, images, targets, masks, noise, of_noise=True)
        noise = epsilon * slope.sign()
        plain, attacked = (_slopes(network, images, targets, masks, by)[0] for by in (torch.zeros(n), noise))
        moment = _MOMENTUM * moment + _SHARE * plain + (1 - _SHARE) * attacked
        masks = (masks - _RATE * moment).clamp(0, 1)
    return masks.double().numpy()


def _slopes(
    network: Network, images: torch.Tensor, targets: torch.Tensor, masks: torch.Tensor, noise: torch.Tensor,
    of_noise: bool = False,
) -> tuple[torch.Tensor, ...]:  # fmt: skip
    """Of the loss with masks · (1 + noise), by the masks or by the noise."""
    masks, noise = masks.clone().requires_grad_(True), noise.clone().requires_grad_(True)
    loss = cross_entropy(network.soft_logits(images, masks * (1 + noise)), targets)
    return torch.autograd.grad(loss, noise if of_noise else masks)


# The table -----------------------------------------------------------------------------------------------


def document(scans: list[dict[str, Any]], rows: list[dict[str, Any]], args: argparse.Namespace) -> str:
    """Scans of all networks, and what repairs give under the real trigger."""
    n = rows[0]["images"]
    intact = _row("intact", 0, backdoor.intact(), 0)
    head = ["repair", "seed", "units", "clean accuracy", "attack success", "accuracy under the trigger"]
    return "\n\n".join(
        [
            "# A backdoor whose trigger is not known",
            line(machine("cpu")),
            f"Made by `python -m benchmarks hidden --seeds {args.seeds} --work DIR`; [what it is]"
            "(../../docs/backdoors.md). No repair here saw an image with the real trigger. Sizes are in pixels of "
            "a reconstructed trigger's cover; p: how often alike classes have one that lies so far below the others.",
            "## Triggers reconstructed from clean images",
            grid(["network", "seed", "smallest: class", "its size", "median of the others", "success", "p", "claimed"],
                 map(_scanned, scans)),
            f"## The backdoored network on {n:,} images that nothing saw, by plain torch",
            "With the real trigger; success and accuracy under it without images of the target's class. Limits: clean "
            "accuracy 2 points on *select*.",
            grid(head, [_line(intact), *map(_line, rows), _NAD]),
        ]
    ) + "\n"  # fmt: skip


def _scanned(scan: dict[str, Any]) -> list[str]:
    first, *others = sorted(scan["classes"], key=lambda one: one["class"] != scan["class"])
    middle = np.median([one["size"] for one in others])
    p = "" if scan["p"] is None else f"{scan['p']:.3f}"
    return [scan["network"], str(scan["seed"]), scan["class"], f"{first['size']:.1f}", f"{middle:.1f}",
            f"{first['success']:.0%}", p, "yes" if scan["stands_out"] else "no"]  # fmt: skip


def _line(row: dict[str, Any]) -> list[str]:
    shares = [f"{row[key]:.1%}" for key in ("clean", "success", "true_label")]
    return [row["name"], str(row["seed"]), f"{row['units']:,}", *shares]


def add_arguments(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--seeds", type=int, default=SEEDS, help="of the backdoored network")
    verb.add_argument("--work", type=Path, required=True, help="keep there what was measured, and go on from it")
    verb.add_argument("--table", type=Path, help="write the table there")
