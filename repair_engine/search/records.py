"""How estimates were obtained, as every document with values says it under `run`."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from repair_engine.network.subject import ConstantsFrom
from repair_engine.support.precision import PrecisionRecord
from shapley import Interval


class IntervalWords(TypedDict):
    """What intervals promise."""

    name: str
    claims: int
    text: str


def interval_words(interval: Interval) -> IntervalWords:
    return {"name": interval.name, "claims": interval.claims, "text": interval.text}


class Certificate(TypedDict):
    """What of a truncated walk is missing (`shapley`)."""

    walks: int
    intact: float
    at_stop: float
    all_ablated: float
    missing: float
    missing_error: float | None


class Afresh(TypedDict):
    """The samples that were drawn of what is ablated (`choosing.afresh`)."""

    evaluations: int
    samples: int
    images_per_draw: int
    interval: IntervalWords


class Screen(TypedDict):
    """What gradients screened."""

    by: str
    images: int
    sampled: int
    of: int


class ForecastRecord(TypedDict):
    """What was left of a phase, as foreseen after a round of it."""

    after: int
    evaluations: int
    seconds: float


class RunRecord(TypedDict):
    """See the module's text."""

    estimator: str
    ablation: str
    constants: dict[str, int]
    constants_from: ConstantsFrom
    images_per_draw: int
    budget: int
    budget_was: str
    evaluations: int
    rounds: int
    stopped: str | None
    depth: int | None
    expected_overlap: float | None
    seed: int
    device: str
    threads: int
    instruction_set: str
    seconds: float
    interval: IntervalWords
    reported_values: str
    estimand: str
    certificate: Certificate | None
    precision: NotRequired[PrecisionRecord]
    screen: NotRequired[Screen]
    values_from: NotRequired[dict[str, Any]]
    afresh: NotRequired[Afresh]
    forecast: NotRequired[ForecastRecord | None]
