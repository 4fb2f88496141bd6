"""One party's estimate as a file: values and what a merge must check, without images or their names."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from repair_engine.case.case import Case
from repair_engine.documents import repair as documents
from repair_engine.documents.records import some_of
from repair_engine.errors import BadInput
from repair_engine.question.question import MetricRecord
from repair_engine.search.records import IntervalWords, RunRecord
from repair_engine.support.statistics import finite
from shapley import Estimate, Settings
from shapley.estimates import scale_of

FILE = "estimate.json"
_KIND = "neuron-repair estimate"
_MAX_BYTES = 64 << 20
_MADE_BY = f"`score --out DIR` leaves {FILE} in DIR; give the folders, or these files."
MODEL_KEYS = ("sha256", "architecture", "num_classes", "options", "registered", "config_sha256")
_BEYOND = 1e6
_RECORDS = ("model", "metric", "preprocessing", "data", "constants", "truncation", "run")
_WALKS = ("tmab", "monte_carlo")


class CellRecord(TypedDict("CellRecord", {"class": str})):
    """How many images of the objective a class (within a subgroup) has."""

    subgroup: str | None
    images: int


class PartyRun(TypedDict):
    """What a merge needs of `RunRecord`, and of the sampling's settings."""

    estimator: str
    evaluations: int
    budget: int
    images_per_draw: int
    seed: int
    interval: IntervalWords
    precision: str
    adaptive: bool
    scale: float
    resolution: float
    value_range: float


class EstimateRecord(TypedDict):
    """estimate.json; `model` by `MODEL_KEYS`."""

    kind: str
    schema: int
    model: dict[str, Any]
    filters: list[str]
    classes: list[str]
    metric: MetricRecord
    preprocessing: dict[str, Any]
    data: dict[str, str | int]
    cells: list[CellRecord]
    constants: dict[str, object]
    truncation: dict[str, str | int | None]
    run: PartyRun
    value_of_all: float
    values: list[float | None]
    std_errors: list[float | None]
    samples: list[int]
    versions: dict[str, str]


@dataclass(frozen=True)
class PartyEstimate:
    """What one party found.

    Attributes:
        name: what it is called: its folder.
        values, std_errors: float64 [n]; NaN where there is none.
        samples: int64 [n].
        document: the file (see `estimate_document`).
    """

    name: str
    values: np.ndarray
    std_errors: np.ndarray
    samples: np.ndarray
    document: EstimateRecord

    @property
    def filters(self) -> tuple[str, ...]:
        return tuple(self.document["filters"])

    @property
    def run(self) -> PartyRun:
        return self.document["run"]

    @property
    def exact(self) -> bool:
        return self.run["estimator"] == "exact"

    @property
    def images(self) -> int:
        """Images of the objective."""
        return sum(int(cell["images"]) for cell in self.document["cells"])


def estimate_document(
    case: Case, estimate: Estimate, settings: Settings | None, run: RunRecord, value_of_all: float
) -> EstimateRecord:
    """What `score` leaves for `merge`, JSON-able.

    Args:
        settings: of the sampling; None where the values are exact.
        run: `documents.describe_run`.
        value_of_all: V of the intact network on the objective's images.
    """
    model = documents.describe_model(case)
    return {
        "kind": _KIND,
        "schema": 1,
        "model": some_of(model, MODEL_KEYS),
        "filters": [case.subject.network.filter_id(p) for p in range(case.subject.network.n_filters)],
        "classes": list(case.images.class_names),
        "metric": case.question.describe(),
        "preprocessing": case.images.dataset.preprocessing.to_json(),
        "data": {"sha256": case.images.dataset.sha256, "score_images": len(case.images.splits.score)},
        "cells": _cells(case),
        "constants": {"kind": case.settings.constant, **run["constants_from"]},
        "truncation": _truncation(estimate),
        "run": {
            "estimator": run["estimator"],
            "evaluations": run["evaluations"],
            "budget": run["budget"],
            "images_per_draw": run["images_per_draw"],
            "seed": run["seed"],
            "interval": run["interval"],
            "precision": run["precision"]["used"] if "precision" in run else "float32",
            "adaptive": settings is not None and settings.adaptive,
            "scale": 1.0 if settings is None else scale_of(settings, estimate.depth),
            "resolution": 0.0 if settings is None else settings.image_resolution,
            "value_range": 1.0 if settings is None else settings.value_range,
        },
        "value_of_all": value_of_all,
        "values": [finite(x) for x in estimate.values[0]],
        "std_errors": [finite(x) for x in estimate.std_errors[0]],
        "samples": [int(count) for count in estimate.samples],
        "versions": documents.versions(),
    }


def read_estimate(path: str | Path) -> PartyEstimate:
    """The estimate in a folder or file. Raises BadInput for whatever `score --out` has not written."""
    given = Path(path)
    file = given / FILE if given.is_dir() else given
    if not file.is_file():
        raise BadInput(f"There is no file {file}.", _MADE_BY)
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise ValueError("it is too large")
        document = json.loads(file.read_text(encoding="utf-8"), parse_constant=_no_number)
        if document["kind"] != _KIND or document["schema"] != 1:
            raise ValueError(f"it is of kind {document['kind']!r}, schema {document['schema']}")
        needed = (*_RECORDS, "classes", "value_of_all")
        if missing := [key for key in needed if key not in document]:
            raise ValueError(f"it lacks {', '.join(missing)}")
        _check_kinds(document)
        values, errors = _array(document["values"]), _array(document["std_errors"])
        samples = np.array(document["samples"], dtype=np.int64)
        if not all(a.shape == (len(document["filters"]),) for a in (values, errors, samples)):
            raise ValueError("its lists differ in length")
        if (errors < 0).any() or (samples < 0).any() or any(int(c["images"]) < 1 for c in document["cells"]):
            raise ValueError("it holds negative numbers")
        if any((np.abs(a) > _BEYOND).any() for a in (values, errors)):
            raise ValueError("it holds values of a size that no share can have")
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise BadInput(f"{file} is not an estimate ({error}).", _MADE_BY) from error
    return PartyEstimate(str(path).rstrip("/"), values, errors, samples, document)


def _check_kinds(document: Mapping[str, Any]) -> None:
    """Raises ValueError or KeyError where a field that a merge looks into is not of its kind."""
    for key in _RECORDS:
        if not isinstance(document[key], dict):
            raise ValueError(f"{key} is no record")
    texts = {"data.sha256": document["data"]["sha256"], "run.estimator": document["run"]["estimator"]}
    for name in ("filters", "classes"):
        if not isinstance(document[name], list) or not document[name]:
            raise ValueError(f"{name} is no list")
        texts |= {f"{name}[{i}]": item for i, item in enumerate(document[name])}
    if not isinstance(document["cells"], list) or not document["cells"]:
        raise ValueError("cells is no list")
    counts = {f"run.{key}": document["run"][key] for key in ("evaluations", "seed")}
    for i, cell in enumerate(document["cells"]):
        texts |= {f"cells[{i}].class": cell["class"], f"cells[{i}].subgroup": _or(cell["subgroup"], "")}
        counts[f"cells[{i}].images"] = cell["images"]
    if wrong := next((name for name, text in texts.items() if not isinstance(text, str)), None):
        raise ValueError(f"{wrong} is no text")
    for name, count in counts.items():
        if type(count) is not int or not 0 <= count < 2**63:
            raise ValueError(f"{name} is no count")
    if not isinstance(document["run"]["adaptive"], bool):
        raise ValueError("run.adaptive is neither true nor false")
    figures = {f"run.{key}": document["run"][key] for key in ("scale", "resolution", "value_range")}
    for name, figure in {**figures, "value_of_all": document["value_of_all"]}.items():
        if type(figure) not in (int, float) or not 0 <= figure < 1e9:
            raise ValueError(f"{name} is no figure")


def _or(value: Any, absent: str) -> Any:
    return absent if value is None else value


def _no_number(constant: str) -> float:
    raise ValueError(f"it holds {constant}")


def _cells(case: Case) -> list[CellRecord]:
    """How many images of the objective each class (and subgroup) has; of an attack or a trigger, the changed ones."""
    indices, labels = case.question.indices("score"), case.question.labels("score")
    subgroups = case.question.subgroups
    groups = [subgroups[i] for i in indices] if subgroups else [None] * len(indices)
    counts = Counter((int(label), group) for label, group in zip(labels, groups, strict=True))
    return [
        {"class": case.images.class_names[label], "subgroup": group, "images": count}
        for (label, group), count in sorted(counts.items(), key=lambda item: (item[0][0], item[0][1] or ""))
    ]


def _truncation(estimate: Estimate) -> dict[str, str | int | None]:
    """What of the Shapley value is left out: what lies past `depth` removals, or where walks end, dead."""
    return {"rule": "walk" if estimate.estimator in _WALKS else "depth", "depth": estimate.depth}


def _array(numbers: list[float | None]) -> np.ndarray:
    return np.array([np.nan if x is None else float(x) for x in numbers], dtype=np.float64)
