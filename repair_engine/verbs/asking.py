"""A verb's options as keywords of the Python API, and the request that they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from repair_engine import settings
from repair_engine.errors import BadInput
from repair_engine.models.architectures import Architecture
from repair_engine.question.objectives import Metric
from repair_engine.question.request import RepairRequest
from repair_engine.question.surrogates import parse_surrogate
from repair_engine.settings.fields import meant

_VERBS: dict[str, type[settings.Settings]] = {
    "score": settings.ScoreHere,
    "explain": settings.ExplainHere,
    "repair": settings.RepairHere,
    "evaluate": settings.EvaluateHere,
    "attack": settings.AttackHere,
}
# What the functions take as arguments of their own, or what is said where a file is opened.
_OTHERWISE = {*settings.options(settings.ModelFile), *settings.options(settings.ImagesUpload), "data", "out", "guard",
              "guard_split_folder", "trigger", "triggered", "triggered_split_folder", "ablate", "repaired",
              "all_images"}  # fmt: skip
# Fields of a request that a verb's record may have.
_NAMED = ("guard", "guard_split_folder", "trigger", "triggered", "triggered_split_folder", "constants", "values")


def keywords_of(verb: str) -> tuple[str, ...]:
    """The options that a verb takes as keywords, beside what it says of the model and the images."""
    return tuple(name for name in settings.keywords(_VERBS[verb]) if name not in _OTHERWISE)


def check_names(function: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raises BadInput: an option is unknown, naming those that are written alike."""
    for name in given:
        if name not in known:
            raise BadInput(f"{function}() has no option {name!r}.", meant(name, known))


def request_of(
    verb: str, architecture: Architecture, metric: str, given: Mapping[str, Any], **known: Any
) -> RepairRequest:
    """The request of a verb.

    Args:
        architecture: of the model.
        given: its options (`keywords_of`); what the command line takes as text may be a number or a sequence.
        known: fields of the request that are no options: paths, names, the device.

    Raises:
        BadInput: a value that is not allowed.
    """
    plain = {name: _plain(name, value) for name, value in given.items() if value is not None}
    asked = plain if verb == "attack" else plain | {"metric": metric}
    beside = {name: known[name] for name in ("trigger", "triggered") if name in known}
    here = settings.from_keywords(_VERBS[verb], model=known["model"], data=known["data"], **beside, **asked)
    return request_here(here, architecture, **known)


def request_here(here: Any, architecture: Architecture, **known: Any) -> RepairRequest:
    """The request that a verb's record on files describes; `known` as in `request_of`. Raises BadInput."""
    surrogates = getattr(here, "surrogate", ())
    named = {name: getattr(here, name) for name in _NAMED if hasattr(here, name)}
    return RepairRequest.of(
        here,
        architecture=architecture,
        metric=Metric.parse(here.metric),
        surrogates=tuple(parse_surrogate(text, architecture.num_classes, architecture.register) for text in surrogates),
        **(named | known),
    )


def _plain(name: str, value: Any) -> Any:
    if name == "filters" and isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if name in ("also", "surrogate") and isinstance(value, str):
        return (value,)
    if name == "quality" and isinstance(value, tuple | list):
        return ",".join(map(str, value))
    return str(value) if name == "memory" else value
