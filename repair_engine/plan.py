"""The plan: every prefix of the ranking is tried on *select*, and the best one within the limits is chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from repair_engine.case import BATCH, Case
from repair_engine.network import Network, Trail, predictions
from repair_engine.request import Limits
from repair_engine.statistics import REFUSE_BELOW

_MEMORY = 2 << 30


@dataclass(frozen=True)
class Step:
    """One prefix of the ranking on *select*.

    Attributes:
        k: filters ablated.
        objective: the metric, as shown.
        clean, guard: accuracy on clean images (guard None without a guard set).
        subgroup_drop: largest loss of recall of any subgroup that gates, None without subgroups.
        feasible: within all limits.
        true_label: share of the attacked images that are predicted as what they are, None without an attack.
    """

    k: int
    objective: float
    clean: float
    guard: float | None
    subgroup_drop: float | None
    feasible: bool
    true_label: float | None = None


@dataclass(frozen=True)
class Plan:
    """Ordered culprits, the curve over all prefixes and the chosen k."""

    players: np.ndarray
    steps: tuple[Step, ...]
    k: int

    @property
    def chosen(self) -> np.ndarray:
        return self.players[: self.k]


def prefix_predictions(
    network: Network,
    pixels: torch.Tensor,
    normalize: Callable[[torch.Tensor], torch.Tensor],
    removals: Sequence[int | np.ndarray],
    tick: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Predictions int64 [m + 1, N] with nothing ablated, then after each of m removals in turn.

    Args:
        removals: the player or players that each step removes in addition.
    """
    out = np.empty((len(removals) + 1, len(pixels)), dtype=np.int64)
    for i in range(0, len(pixels), BATCH):
        trail = Trail(network, normalize(pixels[i : i + BATCH].to(network.device)), _MEMORY)
        coalition = np.ones(network.n_filters, dtype=bool)
        for k in range(len(removals) + 1):
            if k:
                coalition[removals[k - 1]] = False
            out[k, i : i + BATCH] = predictions(trail.logits(coalition)).cpu().numpy()
            if tick:
                tick(len(pixels[i : i + BATCH]))
    return out


def masked_predictions(case: Case, pixels: torch.Tensor, players: np.ndarray) -> np.ndarray:
    """Predictions int64 [N] of the network with `players` ablated."""
    return prefix_predictions(case.network, pixels, case.normalize, [players])[1]


def make_plan(case: Case, players: np.ndarray, progress: Callable[[str, float], None]) -> Plan:
    """Tries every prefix of `players` on *select* (and the guard set's) and chooses k."""
    clean_indices = case.splits.select
    sets = {"clean": case.pixels[torch.from_numpy(clean_indices)]}
    if case.request.metric.kind == "attack-success":
        sets["attacked"] = case.attacked["select"].pixels
    if case.guard is not None and case.guard_parts is not None:
        guard_pixels = torch.from_numpy(np.array(case.guard.images[case.guard_parts.select]))
        sets["guard"] = guard_pixels
    total = sum(len(p) for p in sets.values()) * (len(players) + 1)
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        progress("trying every number of filters on the select images", done / total)

    predicted = {
        name: prefix_predictions(case.network, pixels, case.normalize, list(players), tick)
        for name, pixels in sets.items()
    }
    labels = case.dataset.labels[clean_indices]
    objective = case.objective("select")
    if "attacked" in predicted:
        values = objective.value(predicted["attacked"])
    else:
        position = {int(index): i for i, index in enumerate(clean_indices)}
        rows = [position[int(i)] for i in case.objective_indices("select")]
        values = objective.value(predicted["clean"][:, rows])
    clean = (predicted["clean"] == labels).mean(axis=1)
    guard = None
    if "guard" in predicted and case.guard is not None and case.guard_parts is not None:
        guard = (predicted["guard"] == case.guard.labels[case.guard_parts.select]).mean(axis=1)
    drops = None
    if case.subgroups is not None:
        drops = largest_drops(predicted["clean"] == labels, [case.subgroups[i] for i in clean_indices])
    true = None
    if "attacked" in predicted:
        true = (predicted["attacked"] == case.dataset.labels[case.attacked["select"].indices]).mean(axis=1)
    return choose(players, values, clean, guard, drops, case.request.limits, true is not None, true)


def choose(
    players: np.ndarray,
    values: np.ndarray,
    clean: np.ndarray,
    guard: np.ndarray | None,
    drops: np.ndarray | None,
    limits: Limits,
    lower: bool,
    true_label: np.ndarray | None = None,
) -> Plan:
    """The best feasible prefix; ties go to the fewest filters.

    Args:
        values, clean, guard, drops: of the prefixes 0..m, [m + 1]; `values` are to be lowered if `lower`.
        true_label: likewise, for the record; it does not choose.
    """
    slack = 1e-12  # a drop of exactly the limit is within it, whatever its rounding
    feasible = clean[0] - clean <= limits.max_clean_drop + slack
    if guard is not None:
        feasible &= guard[0] - guard <= limits.max_clean_drop + slack
    if drops is not None:
        feasible &= drops <= limits.max_subgroup_drop + slack
    score = np.where(feasible, -values if lower else values, -np.inf)
    k = int(np.flatnonzero(score >= score.max() - slack)[0])
    steps = tuple(
        Step(
            i,
            float(values[i]),
            float(clean[i]),
            None if guard is None else float(guard[i]),
            None if drops is None else float(drops[i]),
            bool(feasible[i]),
            None if true_label is None else float(true_label[i]),
        )
        for i in range(len(values))
    )
    return Plan(players, steps, k)


def largest_drops(correct: np.ndarray, subgroups: list[str]) -> np.ndarray:
    """Largest loss of accuracy of any subgroup of at least 30 images, against row 0, float64 [m + 1].

    Args:
        correct: bool [m + 1, N].
    """
    drops = np.full(len(correct), -np.inf)
    groups = np.asarray(subgroups)
    for group in np.unique(groups):
        inside = groups == group
        if inside.sum() >= REFUSE_BELOW:
            rates = correct[:, inside].mean(axis=1)
            drops = np.maximum(drops, rates[0] - rates)
    return np.where(np.isinf(drops), 0.0, drops)
