"""What a user asks for: everything that decides a result, as one JSON-able record."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from repair_engine.models.architectures import Architecture
from repair_engine.models.preprocessing import Preprocessing
from repair_engine.models.weights_metadata import weights_metadata
from repair_engine.question.attacks import AttackSettings
from repair_engine.question.objectives import Metric
from repair_engine.question.surrogates import Surrogate
from repair_engine.question.verb import Verb
from repair_engine.settings import (
    Ablation,
    Attacked,
    Corrupted,
    Corruption,
    Edits,
    Explanation,
    Export,
    Limits,
    Pgd,
    Report,
    Rows,
    Sampling,
    Search,
    Settings,
    Splits,
    Trigger,
    options,
    quality_of,
)
from repair_engine.support.memory import check_memory, parse_memory


@dataclass(frozen=True)
class Sources:
    """Where a request's files lie and what they are called; verbs and documents alone need to know.

    Attributes:
        model, data, guard: paths of the checkpoint, the zip and the optional guard zip.
        trigger, triggered: paths of a trigger's patch, or of the zip of images that carry it.
        architecture: what the checkpoint fits.
        split_folder, guard_split_folder, triggered_split_folder: the top folder to read alone, where the zip holds
            splits ("none": its top folders are classes).
        classes: path of a class names file, or None.
        preprocessing: None = that of torchvision's weights, or pixels in [0, 1] for registered architectures.
        constants: path of mean constants that several parties share (`parties.ChannelSums`); None = those of the own
            score images.
        values: path of values that `score` found (`stored_values`); then nothing is searched and these stand for it.
        surrogates: models on which transfer attacks are made, for the report.
        weights: "model" or "ema" where the file holds both.
        names: what the files are called in reports; the paths' own names by default.
        apart: images are decoded in a child process, for they are somebody else's (`datasets.decoding`).
    """

    model: str
    data: str
    architecture: Architecture
    classes: str | None = None
    guard: str | None = None
    split_folder: str = ""
    guard_split_folder: str = ""
    trigger: str | None = None
    triggered: str | None = None
    triggered_split_folder: str = ""
    preprocessing: Preprocessing | None = None
    constants: str | None = None
    values: str | None = None
    surrogates: tuple[Surrogate, ...] = ()
    weights: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    apart: bool = False

    def moved(self, at: Callable[[str], str]) -> Self:
        """The same files where they are now: `at` says it of each path. Their own names stay."""
        roles = ("model", "data", "classes", "guard", "trigger", "triggered", "constants", "values")
        here: dict[str, Any] = {role: at(path) for role in roles if (path := getattr(self, role)) is not None}
        others = tuple(replace(one, file=at(one.file)) for one in self.surrogates)
        return replace(self, **here, surrogates=others)

    def name_of(self, role: str) -> str:
        """What the file of a role ("model", "data", "guard", "trigger", "triggered", "constants") is called."""
        path = getattr(self, role)
        return self.names.get(role) or (Path(path).name if path else "")


@dataclass(frozen=True, kw_only=True)
class RunSettings(Splits, Edits, Ablation, Sampling, Report, Export, Trigger, Corruption, Corrupted, Attacked, Rows):
    """The options of `repair_engine.settings` that decide a result.

    Attributes:
        metric: see `objectives.Metric`.
        also: further objectives that are valued on the same evaluations (`repair_engine.question.further`).
        overlap: `fast` stops when it expects to have found this share of the true `top_k` at the asked ends.
        memory: bytes that a run may take (`support.memory`); None = 2 GiB on a CPU, on a GPU a quarter of it.
        attack: settings of `attack-success`.
        by_hand: ids of filters to ablate, in this order; then nothing is searched and all of them are ablated.
        report_uses: reports on the same report images that were read before this one was asked for.
        looked_before: a baseline (`verbs.baseline`) of the same model and images was made before.
        device: "cpu" or "cuda" (resolved).
        explain: what an explanation shows.
        purpose: what the run is for, which shares out its budget.
    """

    metric: Metric
    also: tuple[str, ...] = ()
    overlap: float | None = None
    memory: int | None = None
    limits: Limits = field(default_factory=Limits)
    attack: AttackSettings = field(default_factory=lambda: AttackSettings.of("paper"))
    by_hand: tuple[str, ...] = ()
    report_uses: int = 0
    looked_before: bool = False
    device: str = "cpu"
    explain: Explanation | None = None
    purpose: Verb = Verb.REPAIR

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.memory is not None:
            check_memory(self.memory)


@dataclass(frozen=True)
class RepairRequest(RunSettings, Sources):
    """One request: its settings, and the files that they are about."""

    @classmethod
    def of(cls, asked: Settings, **more: Any) -> RepairRequest:
        """What a verb's options ask for; `more` are the fields that are no options. Raises BadInput."""
        shared = {name: getattr(asked, name) for name in options(cls) if hasattr(asked, name)} | more
        if isinstance(asked, Pgd):
            shared["attack"] = AttackSettings.asked(asked)
        if isinstance(asked, Limits):
            shared["limits"] = asked.part(Limits)
        if isinstance(asked, Search):
            shared["memory"] = None if asked.memory is None else parse_memory(asked.memory)
            if asked.quality is not None:
                shared["top_k"], shared["overlap"] = quality_of(asked.quality)
        shared |= {"also": tuple(getattr(asked, "also", ())), "by_hand": tuple(getattr(asked, "filters", ()))}
        if asked.verb == Verb.SCORE:
            shared["purpose"] = Verb.SCORE
        request = cls(**shared)
        return request.to_explain(asked.part(Explanation)) if isinstance(asked, Explanation) else request

    @property
    def searches(self) -> bool:
        """Filters are searched for: they were neither chosen by hand nor valued before."""
        return not self.by_hand and self.values is None

    def to_explain(self, asked: Explanation) -> RepairRequest:
        """The same request, to explain: `top_k` filters of both ends are confirmed, unless one is asked for."""
        limits = replace(self.limits, max_filters=self.top_k)
        return replace(self, purpose=Verb.EXPLAIN, explain=asked, side=self.side or "both", limits=limits)

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
                "explain": Explanation(**data["explain"]) if data.get("explain") else None,
                "purpose": Verb(data.get("purpose") or ("explain" if data.get("explain") else "repair")),  # older: none
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
