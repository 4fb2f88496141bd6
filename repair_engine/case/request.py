"""What a user asks for: everything that decides a result, as one JSON-able record."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from repair_engine.case.explain_settings import Explain
from repair_engine.errors import BadInput
from repair_engine.models.architectures import Architecture
from repair_engine.models.preprocessing import Preprocessing
from repair_engine.models.weights_metadata import weights_metadata
from repair_engine.network import CONSTANTS
from repair_engine.question.attacks import AttackSettings
from repair_engine.question.objectives import Metric
from repair_engine.question.surrogates import Surrogate
from repair_engine.support.memory import check_memory
from repair_engine.support.precision import PRECISIONS

ESTIMATORS = ("fast", "tmab", "monte_carlo", "cmcs", "exact")
DEFAULT_ESTIMATOR = "fast"
DEFAULT_QUERIES = 500
CHOICES = ("best", "one-se")
ORDERS = ("auto", "value")


@dataclass(frozen=True)
class Limits:
    """What a repair may cost.

    Attributes:
        max_clean_drop: largest loss of clean accuracy, on *select* and on the guard set.
        max_subgroup_drop: largest loss of any subgroup's recall (subgroups of fewer than 30 images do not gate).
        max_filters: longest prefix of the ranking that is tried.
        order: "value" tries the culprits in the order of their values; "auto" tries an order by greedy removals, too,
            and uses it where it does better on *select* (see `stepwise`).
        choose: of the prefixes within the limits, the "best" on *select*, or the smallest within one standard error
            of it ("one-se").
    """

    max_clean_drop: float = 0.02
    max_subgroup_drop: float = 0.10
    max_filters: int = 50
    choose: str = "best"
    order: str = "auto"

    def __post_init__(self) -> None:
        for name in ("max_clean_drop", "max_subgroup_drop"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadInput(f"{name} is {getattr(self, name):g}; it is a share between 0 and 1.")
        if self.max_filters < 1:
            raise BadInput(f"max_filters is {self.max_filters}; at least one filter must be allowed.")
        if self.choose not in CHOICES:
            raise BadInput(f"--choose {self.choose!r}: it is {' or '.join(CHOICES)}.")
        if self.order not in ORDERS:
            raise BadInput(f"--order {self.order!r}: it is {' or '.join(ORDERS)}.")


@dataclass(frozen=True)
class RepairRequest:
    """One request.

    Attributes:
        model, data, guard: paths of the checkpoint, the zip and the optional guard zip.
        split_folder, guard_split_folder: the top folder to read alone, where the zip holds splits ("none": its top
            folders are classes).
        architecture: what the checkpoint fits.
        classes: path of a class names file, or None.
        metric: see `objectives.Metric`.
        also: further objectives that are valued on the same evaluations (`repair_engine.question.further`).
        group: column of metadata.csv whose values must not cross the splits.
        preprocessing: None = that of torchvision's weights, or pixels in [0, 1] for registered architectures.
        budget: evaluations; None = calibrated to `minutes`.
        minutes: what a calibrated budget is to end within; None = about five.
        overlap: `fast` stops when it expects to have found this share of the true `top_k` at the asked ends.
        precision: what the search computes in (`repair_engine.support.precision`).
        memory: bytes that a run may take (`support.memory`); None = 2 GiB on a CPU, on a GPU a quarter of it.
        batch_size: images per draw, about; None = chosen so that the budget buys enough draws.
        constant: what replaces an ablated filter's output: "mean", or "bn_beta" (see `network.constants`).
        constants: path of mean constants that several parties share (`parties.ChannelSums`); None = those of the own
            score images.
        compact: also export the repair with its culprits removed, where that is possible.
        depth: most filters removed in a draw; None = learned from the first walks.
        top_k, side: what tmab tells apart; side None = the end where culprits are.
        attack: settings of `attack-success`.
        by_hand: ids of filters to ablate, in this order; then nothing is searched and all of them are ablated.
        values: path of values that `score` found (`stored_values`); then nothing is searched and these stand for it.
        report_uses: reports on the same report images that were read before this one was asked for.
        attack_images: most images attacked per split; None = calibrated.
        surrogates: models on which transfer attacks are made, for the report.
        queries: of the black-box attack in the report, per image; 0 = none.
        subset: most images for what is costly in an attack's report; None = by the budget.
        weights: "model" or "ema" where the file holds both.
        device: "cpu" or "cuda" (resolved).
        explain: what an explanation shows; None = the request is for a repair (or for values alone).
        names: what the files are called in reports; the paths' own names by default.
        apart: images are decoded in a child process, for they are somebody else's (`datasets.decoding`).
    """

    model: str
    data: str
    architecture: Architecture
    metric: Metric
    also: tuple[str, ...] = ()
    classes: str | None = None
    guard: str | None = None
    split_folder: str = ""
    guard_split_folder: str = ""
    group: str | None = None
    preprocessing: Preprocessing | None = None
    estimator: str = DEFAULT_ESTIMATOR
    top_k: int = 20
    side: str | None = None
    budget: int | None = None
    minutes: float | None = None
    overlap: float | None = None
    precision: str = "float32"
    memory: int | None = None
    batch_size: int | None = None
    constant: str = "mean"
    constants: str | None = None
    compact: bool = False
    depth: int | None = None
    limits: Limits = field(default_factory=Limits)
    attack: AttackSettings = field(default_factory=lambda: AttackSettings.of("paper"))
    by_hand: tuple[str, ...] = ()
    values: str | None = None
    report_uses: int = 0
    attack_images: int | None = None
    surrogates: tuple[Surrogate, ...] = ()
    queries: int = DEFAULT_QUERIES
    subset: int | None = None
    seed: int = 0
    weights: str | None = None
    device: str = "cpu"
    explain: Explain | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    apart: bool = False

    def __post_init__(self) -> None:
        if self.estimator not in ESTIMATORS:
            raise BadInput(f"{self.estimator!r} is not an estimator.", f"Estimators: {', '.join(ESTIMATORS)}.")
        if self.constant not in CONSTANTS:
            raise BadInput(f"--constant {self.constant!r}: it is {' or '.join(CONSTANTS)}.")
        if self.precision not in PRECISIONS:
            raise BadInput(f"--precision {self.precision!r}: it is {' or '.join(PRECISIONS)}.")
        if self.memory is not None:
            check_memory(self.memory)
        if self.depth is not None and self.depth < 1:
            raise BadInput(f"--depth is {self.depth}; a draw removes at least one filter.")
        if self.depth is not None and self.estimator == "exact":
            raise BadInput("--depth limits what is sampled; --estimator exact samples nothing.", "Leave one out.")
        if self.side not in (None, "top", "bottom", "both"):
            raise BadInput(f"--side {self.side!r}: it is top, bottom or both.")
        if self.top_k < 1:
            raise BadInput(f"--top-k is {self.top_k}; it must be at least 1.")
        if self.budget is not None and self.budget < 1:
            raise BadInput(f"--budget is {self.budget}; it counts evaluations and must be positive.")
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise BadInput(f"--minutes is {self.minutes:g}; it must be positive and finite.")
        if self.minutes is not None and self.budget is not None:
            raise BadInput("--minutes and --budget exclude each other.", "A budget repeats a result, minutes do not.")
        if self.overlap is not None and not 0 < self.overlap < 1:
            raise BadInput(f"--quality asks for an overlap of {self.overlap:g}; it lies between 0 and 1.")
        if self.overlap is not None and self.estimator != "fast":
            raise BadInput("--quality is known to the estimator fast only.", "Leave --estimator out.")
        if self.batch_size is not None and self.batch_size < 1:
            raise BadInput(f"--batch-size is {self.batch_size}; a draw needs at least one image.")
        if self.attack_images is not None and self.attack_images < 1:
            raise BadInput(f"--attack-images is {self.attack_images}; an attack needs at least one image per split.")
        if len(set(self.by_hand)) < len(self.by_hand):
            raise BadInput(f"--filters names a filter twice: {', '.join(self.by_hand)}.")
        if self.queries < 0:
            raise BadInput(f"--queries is {self.queries}; it counts questions to the model (0 = no black-box attack).")
        if self.queries == 1:
            raise BadInput(
                "--queries 1 asks for the clean image only.", "Give 2 or more, or 0 for no black-box attack."
            )
        if self.subset is not None and self.subset < 1:
            raise BadInput(f"--subset is {self.subset}; at least one image is needed.")
        if self.seed < 0:
            raise BadInput(f"--seed is {self.seed}; it must not be negative.")

    @property
    def searches(self) -> bool:
        """Filters are searched for: they were neither chosen by hand nor valued before."""
        return not self.by_hand and self.values is None

    def name_of(self, role: str) -> str:
        """What the "model", "data", "guard" or "constants" file is called."""
        path = getattr(self, role)
        return self.names.get(role) or (Path(path).name if path else "")

    def to_explain(self, asked: Explain) -> RepairRequest:
        """The same request, to explain: `top_k` filters of both ends are confirmed, unless one is asked for."""
        limits = replace(self.limits, max_filters=self.top_k)
        return replace(self, explain=asked, side=self.side or "both", limits=limits)

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "names": dict(self.names)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> RepairRequest:
        data: dict[str, Any] = json.loads(text)
        preprocessing = data["preprocessing"]
        return cls(
            **{
                **data,
                "architecture": Architecture.from_json(data["architecture"]),
                "metric": Metric(**data["metric"]),
                "preprocessing": Preprocessing.from_json(preprocessing) if preprocessing else None,
                "by_hand": tuple(data.get("by_hand", ())),
                "also": tuple(data.get("also", ())),
                "limits": Limits(**data["limits"]),
                "attack": AttackSettings(**data["attack"]),
                "surrogates": tuple(Surrogate.from_json(s) for s in data.get("surrogates", ())),
                "explain": Explain(**data["explain"]) if data.get("explain") else None,
            }
        )


def preprocessing_from(
    architecture: Architecture, given: Mapping[str, Any], base: Preprocessing | None = None
) -> Preprocessing | None:
    """What was given, over the model's own where only a part was; None where nothing was.

    Args:
        base: the model's own; None = that of torchvision's weights.
        given: any of resize, crop (None = none), mean, std, channels, interpolation.
    """
    if not given:
        return base
    metadata = None if architecture.registered or base is not None else weights_metadata(architecture.name)
    base = base or (metadata.preprocessing if metadata else Preprocessing())
    channels = given.get("channels") or len(given.get("mean") or given.get("std") or base.mean)
    if metadata and channels != base.channels:  # torchvision's weights are of colour images: they say nothing of these
        base = Preprocessing(channels=channels)
    own = channels == base.channels
    return replace(
        base,
        channels=channels,
        resize=_size(given["resize"]) if "resize" in given else base.resize,
        crop=_size(given["crop"]) if "crop" in given else base.crop,
        mean=tuple(given.get("mean") or (base.mean if own else ())),
        std=tuple(given.get("std") or (base.std if own else ())),
        interpolation=given.get("interpolation", base.interpolation),
    )


def _size(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
