"""What the experiments share: where the data is, the engine's phases in one call, curves on report images."""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import cases, references
from benchmarks.cases import DATA, MissingData, Source
from repair_engine.case.case import Case
from repair_engine.choosing.controls import leave_one_out, response_norms, weight_norms
from repair_engine.choosing.plan import prefix_predictions
from repair_engine.models.architectures import Architecture
from repair_engine.models.preprocessing import Preprocessing
from repair_engine.question.objectives import Metric
from repair_engine.question.request import RepairRequest
from repair_engine.question.verb import Verb
from repair_engine.search.phases import reported
from repair_engine.support.outputs import sha256
from repair_engine.support.process import prepare_process
from repair_engine.support.progress import silent
from repair_engine.support.statistics import wilson
from repair_engine.verbs import pipeline
from repair_engine.verbs.pipeline import Job
from shapley import Estimate, State

prepare_process()

Say = Callable[[str], None]

SHAPLEY = "Shapley value"
LONG_RUN = "Shapley value, long run"
RANDOM = "random"
RANDOM_ORDERS = 5

_FASHION = Architecture("net", 10, register={"net": "architectures:SmallCNN"})
_CATDOG = Architecture("net", 2, register={"net": "architectures:ResNet8"})
# SqueezeNet at half the side: three times as fast, and right on 43% of the images in place of 60%.
SMALL = Preprocessing(resize=128, crop=128, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
SOURCES: dict[str, Source] = {
    **{name: cases.SOURCES[name] for name in ("resnet8", "resnet20", "squeezenet1_0")},
    "squeezenet1_0-128px": replace(cases.SOURCES["squeezenet1_0"], preprocessing=SMALL),
    "catdog": Source(
        DATA / "catdog_breeds", "resnet8_catdog.safetensors", "images_2250.zip", _CATDOG, None, None, DATA
    ),
    "fashion": Source(DATA / "fashion_mnist", "fashion_cnn.safetensors", "images_5000.zip", _FASHION, None, None, DATA),
}


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


def source(name: str) -> Source:
    """Where a network and its images are. Raises MissingData naming the file that is not there."""
    found = SOURCES[name]
    for file in (found.model, found.data, found.classes):
        if file is not None and not (found.folder / file).is_file():
            raise MissingData(
                f"This experiment needs {found.folder / file}, which does not exist: the real networks and images are "
                f"read from {DATA} and are no part of the project."
            )
    if found.imports is not None and str(found.imports) not in sys.path:
        sys.path.insert(0, str(found.imports))
    return found


def request_for(name: str, metric: str, options: Options, **more: Any) -> RepairRequest:
    """A request on one of the networks, as a user of the command line makes it. Raises MissingData."""
    files = source(name)
    wanted: dict[str, Any] = {
        "classes": str(files.folder / files.classes) if files.classes else None,
        "preprocessing": files.preprocessing,
        "budget": options.budget,
        "seed": options.seed,
        **more,
    }
    return RepairRequest(
        model=str(files.folder / files.model),
        data=str(files.folder / files.data),
        architecture=files.architecture,
        metric=Metric.parse(metric),
        **wanted,
    )


@contextmanager
def opened(request: RepairRequest) -> Iterator[Job]:
    """The prepared job of a request: all of its budget goes into values of all filters."""
    with tempfile.TemporaryDirectory(prefix="experiment-") as folder:
        yield pipeline.prepare_job(replace(request, purpose=Verb.SCORE), Path(folder), silent)


def values_of(job: Job) -> Values:
    """Runs the estimator that the request names over all filters."""
    settings = pipeline.phase_settings(job, "search")
    assert settings is not None, "exact values need no sampling; the experiments' networks are larger"
    estimate = reported(pipeline.run_phase(job, settings), settings)
    best = estimate.values[0] if estimate.best is None else estimate.best
    errors = estimate.std_errors[0] if estimate.best_spread is None else estimate.best_spread
    return Values(np.nan_to_num(best), errors, estimate)


def searched(job: Job) -> tuple[State, State | None]:
    """The states of a repair's search and of its confirmation, if it has one."""
    settings = pipeline.phase_settings(job, "search")
    assert settings is not None, "exact values need no sampling; the experiments' networks are larger"
    search = pipeline.run_phase(job, settings)
    again = pipeline.phase_settings(job, "confirm", search)
    return search, None if again is None else pipeline.run_phase(job, again)


def long_run(name: str, case: Case) -> tuple[np.ndarray, str] | None:
    """Values [n] of the benchmarks' stored reference and a line on it; None where there is none of these images."""
    path = references.path_of(name)
    if not path.is_file():
        return None
    with np.load(path) as stored:
        header, values = json.loads(str(stored["header"])), stored["values"]
    targets, score = case.question.objective("score").targets, case.images.splits.score
    digests = {
        "model": sha256(Path(case.sources.model)),
        "data": sha256(Path(case.sources.data)),
        "score": hashlib.sha256(score.astype(np.int64).tobytes() + targets.tobytes()).hexdigest(),
    }
    if case.settings.metric.kind != "accuracy" or header["sources"] != digests:
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
