"""What the experiments share: jobs of the Python API taken apart, curves on report images; the door to the engine.

`import repair_engine as nr` gives whole repairs; what lies below it is imported here and in `charts` alone.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import references
from benchmarks.cases import digests
from benchmarks.engine import MARGIN, Case, Greedy, Job, State, job_of, make_plan, pipeline, searched, silent
from benchmarks.sources import SOURCES
from repair_engine.choosing.controls import leave_one_out, response_norms, weight_norms
from repair_engine.choosing.plan import prefix_predictions
from repair_engine.search.phases import reported
from repair_engine.support.statistics import paired_bootstrap, wilson
from shapley import Estimate, Settings

Say = Callable[[str], None]

SHAPLEY = "Shapley value"
LONG_RUN = "Shapley value, long run"
RANDOM = "random"
RANDOM_ORDERS = 5


@dataclass(frozen=True)
class Options:
    """What the command line gives.

    Attributes:
        network: its name in `SOURCES`.
        budget: evaluations of each estimate.
        images: most report images of a curve.
        out: folder for results.
    """

    network: str
    budget: int
    seed: int
    images: int
    out: Path


@dataclass
class Result:
    """What an experiment found.

    Attributes:
        sections: Markdown, in order.
        plots: file name -> svg.
        figures: the same numbers, JSON-able.
    """

    sections: list[str] = field(default_factory=list)
    plots: dict[str, str] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Values:
    """Estimated values of all filters.

    Attributes:
        best: what they most likely are, [n]: what they are ordered by.
        errors: standard errors of `best`, [n].
        estimate: as the engine reports it.
    """

    best: np.ndarray
    errors: np.ndarray
    estimate: Estimate

    @property
    def reliability(self) -> float:
        """Share of the variance between filters that is not sampling noise, in [0, 1]."""
        spread = float(self.best.var())
        noise = float(np.mean(self.errors[np.isfinite(self.errors)] ** 2))
        # Shrunken values vary less than the true ones by their own uncertainty.
        if self.estimate.best is not None:
            return spread / (spread + noise) if spread else 0.0
        return max(0.0, 1.0 - noise / spread) if spread else 0.0


def opened(name: str, metric: str, options: Options, verb: str = "score", **more: Any) -> AbstractContextManager[Job]:
    """The job of a call `repair_engine.score(…)`, or of another verb, on one of the networks. Raises MissingData."""
    return job_of(verb, *SOURCES[name].open(), metric, budget=options.budget, seed=options.seed, **more)


def search_settings(job: Job) -> Settings:
    """Of the estimator that values all filters."""
    settings = pipeline.phase_settings(job, "search")
    assert settings is not None, "exact values need no sampling; the experiments' networks are larger"
    return settings


def values_of(job: Job) -> Values:
    """Runs the estimator that was asked for over all filters."""
    settings = search_settings(job)
    estimate = reported(pipeline.run_phase(job, settings), settings)
    errors = estimate.std_errors[0] if estimate.best_spread is None else estimate.best_spread
    return Values(np.nan_to_num(estimate.ranked), errors, estimate)


def within(job: Job, **limits: Any) -> Job:
    """The same repair within other limits."""
    request = job.request
    return replace(job, case=replace(job.case, request=replace(request, limits=replace(request.limits, **limits))))


def finished(job: Job, search: State, confirm: State | None) -> Mapping[str, Any]:
    """The document of the repair; its files are not kept."""
    with tempfile.TemporaryDirectory(prefix="experiment-") as folder:
        return pipeline.run_finish(job, search, confirm, Path(folder) / "out", silent)


def long_run(name: str, case: Case) -> tuple[np.ndarray, str] | None:
    """Values [n] of the benchmarks' stored reference and a line on it; None where there is none of these images."""
    path = references.path_of(name)
    if not path.is_file():
        return None
    with np.load(path) as stored:
        header, values = json.loads(str(stored["header"])), stored["values"]
    if case.settings.metric.kind != "accuracy" or header["sources"] != digests(case):
        return None
    minutes = header["seconds"] / 60
    return values, (
        f"{LONG_RUN}: the reference of `python -m benchmarks reference --case {name} --minutes {minutes:.0f}`, "
        f"{header['evaluations']:,} evaluations on the same score images."
    )


def importances(case: Case, values: Values, loo_images: int, seed: int) -> dict[str, np.ndarray]:
    """How much the metric is expected to rest on each filter, by each ranking, [n]; of random ones none is known."""
    rng = np.random.default_rng([seed, 0xE1])
    alone = leave_one_out(case, loo_images, rng, silent) * case.question.objective("score").culprit_sign
    return {
        SHAPLEY: values.best,
        "weight norm": weight_norms(case.subject),
        "response norm": response_norms(case.subject, case.images),
        "leave-one-out": alone,
    }


def orders(importance: Mapping[str, np.ndarray], seed: int, from_top: bool) -> dict[str, list[np.ndarray]]:
    """Orders of removal by each ranking, most (or least) important first; `RANDOM` has several."""
    found = {name: [np.argsort(-v if from_top else v, kind="stable")] for name, v in importance.items()}
    n = len(next(iter(importance.values())))
    rng = np.random.default_rng([seed, 0xE2])
    return found | {RANDOM: [rng.permutation(n) for _ in range(RANDOM_ORDERS)]}


def after_removals(case: Case, pixels: torch.Tensor, order: np.ndarray, depths: Sequence[int]) -> np.ndarray:
    """Predictions int64 [len(depths), N] after the first `depths` (ascending, from 0) filters of an order are gone."""
    assert depths[0] == 0
    removals = [order[a:b] for a, b in pairwise(depths)]
    return prefix_predictions(case.subject.network, pixels, case.images.normalize, removals)


def right_after(case: Case, indices: np.ndarray, order: np.ndarray, depths: Sequence[int]) -> np.ndarray:
    """Whether these images' predictions are right after each depth, bool [len(depths), N]; see `after_removals`."""
    return after_removals(case, pixels_of(case, indices), order, depths) == case.images.labels[indices]


def report_images(case: Case, most: int) -> np.ndarray:
    """Dataset indices of at most `most` report images, evenly spaced: files are in class order."""
    report = case.images.splits.report
    return report[np.unique(np.linspace(0, len(report) - 1, min(most, len(report))).round().astype(np.int64))]


def pixels_of(case: Case, indices: np.ndarray) -> torch.Tensor:
    return case.images.pixels[torch.from_numpy(indices)]


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic)


def ablated_of(document: Mapping[str, Any]) -> str:
    """A repair's filters in their order, and which order it is."""
    order = "stepwise" if (document.get("orders") or {}).get("used") == "stepwise" else "by value"
    names = ", ".join(row["id"] for row in document["culprits"] if row["ablated"])
    return f"{names or 'none'} ({order})"


def share(hits: np.ndarray) -> str:
    """A share with its 95% Wilson interval, in percent."""
    interval = wilson(int(hits.sum()), len(hits))
    return f"{100 * interval.estimate:.1f} [{100 * interval.lower:.1f}, {100 * interval.upper:.1f}]"


def difference(first: np.ndarray, second: np.ndarray, seed: int) -> str:
    """By how much the second share is larger than the first, bool [N] each; points, paired on the images, 95%."""
    n = len(first)
    of = paired_bootstrap(first, second, np.full(n, 1 / n), np.zeros(n, np.int64), seed, 4000)
    return f"{100 * of.estimate:+.1f} [{100 * of.lower:+.1f}, {100 * of.upper:+.1f}]"


def spread(hits: np.ndarray) -> str:
    """Mean (least to most), in percent, of the shares of several orders, bool [orders, N]."""
    among = 100 * hits.mean(axis=1)
    return f"{hits.mean() * 100:.1f} ({among.min():.1f} to {among.max():.1f})"


def grid(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; columns after the first are aligned to the right."""
    lines = ["| " + " | ".join(header) + " |", "|---" + "|---:" * (len(header) - 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)])


def said_of(values: Values) -> str:
    """One line on how values were obtained."""
    of = values.estimate
    return (
        f"Values: `{of.estimator}`, {of.evaluations:,} evaluations, {of.samples.mean():.0f} samples a filter on "
        f"average, depth {of.depth} of {len(values.best)}; about {100 * values.reliability:.0f}% of their variance "
        "between filters is not sampling noise."
    )


def teller() -> Say:
    """Progress on stderr, with the seconds since the beginning."""
    began = time.perf_counter()
    return lambda text: print(f"[{time.perf_counter() - began:6.0f} s] {text}", file=sys.stderr, flush=True)
