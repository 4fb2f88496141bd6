"""A verb's options as keywords, by the names that the command line has for them, and the request that they make."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch

from repair_engine.case.explain_settings import Explain
from repair_engine.case.request import Limits, RepairRequest
from repair_engine.errors import BadInput
from repair_engine.models.architectures import Architecture
from repair_engine.question.attacks import AttackSettings
from repair_engine.question.objectives import Metric
from repair_engine.question.surrogates import parse_surrogate
from repair_engine.support.memory import check_memory, parse_memory

_SHARED = ("seed", "group", "constant")
_SEARCH = ("estimator", "top_k", "side", "budget", "minutes", "quality", "precision", "memory", "batch_size", "depth")
_PGD = ("attack", "norm", "epsilon", "steps", "step_size", "restarts", "targeted", "random_start", "attack_images")
_ADVERSARIES = ("surrogate", "queries", "subset")
_LIMITS = tuple(field.name for field in fields(Limits))
_EXPLANATION = tuple(field.name for field in fields(Explain))
_KNOWN = {
    "score": (*_SHARED, "constants", *_SEARCH, *_PGD, "also"),
    "explain": (*_SHARED, "constants", *_SEARCH, *_PGD, *_EXPLANATION),
    "repair": (*_SHARED, "constants", *_SEARCH, *_LIMITS, *_PGD, *_ADVERSARIES, "filters", "values", "compact"),
    "evaluate": (*_SHARED, "constants", *_PGD, "memory"),
    "attack": (*_SHARED, *_PGD, *_ADVERSARIES),
}


def keywords_of(verb: str) -> tuple[str, ...]:
    """The options that a verb takes as keywords."""
    return _KNOWN[verb]


def check_names(function: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raises BadInput: an option is unknown, naming those that are written alike."""
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            raise BadInput(
                f"{function}() has no option {name!r}.",
                (f"Did you mean {' or '.join(close)}? " if close else "") + f"Its options are: {', '.join(known)}.",
            )


def request_of(verb: str, architecture: Architecture, metric: str, given: Mapping[str, Any]) -> RepairRequest:
    """The request of a verb.

    Args:
        architecture: of the model.
        given: its options (`keywords_of`), and fields of the request that tell of paths, names and the device.

    Raises:
        BadInput: a value that is not allowed.
    """
    asked = dict(given)
    taken = {name: asked.pop(name) for name in _PGD if name in asked and name != "attack_images"}
    limits = {name: asked.pop(name) for name in _LIMITS if name in asked}
    shown = {name: asked.pop(name) for name in _EXPLANATION if name in asked}
    if (quality := asked.pop("quality", None)) is not None:
        asked["top_k"], asked["overlap"] = _quality(quality)
    if (memory := asked.pop("memory", None)) is not None:
        asked["memory"] = parse_memory(memory) if isinstance(memory, str) else check_memory(int(memory))
    for name, field in (("filters", "by_hand"), ("also", "also")):
        if (several := asked.pop(name, None)) is not None:
            parts = several.split(",") if isinstance(several, str) and name == "filters" else several
            asked[field] = (parts,) if isinstance(parts, str) else tuple(str(part).strip() for part in parts)
    surrogates = asked.pop("surrogate", None)
    if surrogates is not None:
        texts = [surrogates] if isinstance(surrogates, str) else surrogates
        asked["surrogates"] = tuple(
            parse_surrogate(text, architecture.num_classes, architecture.register) for text in texts
        )
    try:
        request = RepairRequest(
            **{"model": "", "data": "", **asked},
            architecture=architecture,
            metric=Metric.parse(metric),
            limits=Limits(**limits),
            attack=AttackSettings.of(
                taken.get("attack", "paper"), taken.get("epsilon"), taken.get("steps"), norm=taken.get("norm"),
                step=taken.get("step_size"), restarts=taken.get("restarts"), targeted=taken.get("targeted"),
                random_start=taken.get("random_start"), zero=verb == "attack",
            ),
        )  # fmt: skip
        return request.to_explain(Explain(**shown)) if verb == "explain" else request
    except TypeError as error:  # a text where a number is needed, and the like
        raise BadInput(f"An option has a value of another kind: {error}.") from error


def device_of(name: str) -> str:
    """ "cpu" or "cuda" for "auto", "cpu" or "cuda". Raises BadInput: there is no GPU."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise BadInput("--device cuda: torch sees no GPU here.", "Use --device cpu, or install a GPU build of torch.")
    return name


def _quality(quality: Any) -> tuple[int, float]:
    parts = quality.split(",") if isinstance(quality, str) else quality
    try:
        k, overlap = parts
        found = int(k), float(overlap)
    except (TypeError, ValueError):
        raise BadInput(f"quality is {quality!r}; it is (K, OVERLAP).", "For example quality=(50, 0.9).") from None
    if found[0] < 1:
        raise BadInput(f"quality is {quality!r}: K counts filters, at least one.", "For example quality=(50, 0.9).")
    return found
