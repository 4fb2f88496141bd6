"""From what a file holds to the state dict in it, remembering how it was wrapped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from repair_engine.errors import BadInput
from repair_engine.models.formats.checkpoint import Level, Scalar
from repair_engine.models.formats.pickles import SAVE_A_STATE_DICT

WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "module",
    "model_state",
    "weights",
    "params",
)
_MAX_DEPTH = 4


@dataclass(frozen=True)
class Unwrapped:
    """A state dict and the way to it."""

    state: Mapping[str, Any]
    wrapper: tuple[Level, ...]
    dropped: tuple[str, ...]


def unwrap(found: Any, weights: str | None, name: str, asked: str = "") -> Unwrapped:
    """Find the one state dict in what torch.load gave.

    Args:
        asked: the entry that holds it, where several might (`--key`); dots lead further in.
        weights: "model" or "ema" where the file holds both; None if it must not matter.

    Raises:
        BadInput: no state dict, several of them, or plain and averaged (EMA) weights without a choice.
    """
    path = _path(found, asked, name)
    levels: list[Level] = []
    dropped: list[str] = []
    for _ in range(_MAX_DEPTH):
        if not isinstance(found, Mapping):
            raise BadInput(f"{name} holds a {type(found).__name__}, not a state dict.", SAVE_A_STATE_DICT)
        if not found:
            raise BadInput(f"{name} holds no tensors: the state dict is empty.", SAVE_A_STATE_DICT)
        if not all(isinstance(key, str) for key in found):
            raise BadInput(f"{name}: the state dict has keys that are not names.", SAVE_A_STATE_DICT)
        inner = any(_holds_tensors(value) for value in found.values())
        if not path and not inner and any(isinstance(value, Tensor) for value in found.values()):
            _check_state(found, name)
            if weights == "ema" and not asked and not any("ema" in level.key.lower() for level in levels):
                raise BadInput(f"{name} holds no averaged (EMA) weights.", "Leave the choice of weights out.")
            return Unwrapped(found, tuple(levels), tuple(dropped))
        key = path.pop(0) if path else _choose(found, weights, name)
        keys = list(found)
        scalars = {k: v for k, v in found.items() if isinstance(v, Scalar)}
        before = sum(k in scalars for k in keys[: keys.index(key)])
        levels.append(Level(key, scalars, before))
        dropped += [k for k in keys if k != key and k not in scalars]
        found = found[key]
    raise BadInput(f"{name}: the state dict is nested more than {_MAX_DEPTH} levels deep.", SAVE_A_STATE_DICT)


def _check_state(state: Mapping[str, Any], name: str) -> None:
    odd = {key: type(value).__name__ for key, value in state.items() if not isinstance(value, Tensor)}
    if odd:
        key, kind = next(iter(odd.items()))
        raise BadInput(
            f"{name}: beside the tensors there are {len(odd)} other entries, such as {key!r} ({kind}).",
            "Save the tensors alone:\n"
            '    sd = torch.load("old.pth", map_location="cpu", weights_only=True)\n'
            '    torch.save({k: v for k, v in sd.items() if isinstance(v, torch.Tensor)}, "weights.pth")',
        )


def _holds_tensors(value: Any, depth: int = 0) -> bool:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        return False
    return any(isinstance(v, Tensor) or (depth < _MAX_DEPTH and _holds_tensors(v, depth + 1)) for v in value.values())


def _path(found: Any, asked: str, name: str) -> list[str]:
    """The entries that lead to the one that was asked for."""
    path: list[str] = []
    rest = asked
    while rest:
        entries = found if isinstance(found, Mapping) else {}
        # an entry's own name may have dots
        key = next((k for k in entries if isinstance(k, str) and (rest == k or rest.startswith(f"{k}."))), None)
        if key is None or not isinstance(found[key], Mapping):
            there = ", ".join(repr(k) for k, v in entries.items() if isinstance(v, Mapping)) or "none"
            raise BadInput(f"{name} has no state dict under {asked!r}.", f"Entries that may be one: {there} (--key).")
        path.append(key)
        found, rest = found[key], rest.removeprefix(key).removeprefix(".")
    return path


def _choose(found: Mapping[str, Any], weights: str | None, name: str) -> str:
    holding = [key for key, value in found.items() if _holds_tensors(value)]
    averaged = [key for key in holding if "ema" in key.lower().split("_")]
    plain = [key for key in holding if key in WRAPPERS]
    if averaged and plain and weights is None:
        raise BadInput(
            f"{name} holds plain weights ({', '.join(plain)}) and averaged ones ({', '.join(averaged)}).",
            "Say which to repair: weights 'model' or 'ema' (--weights).",
        )
    named = averaged if weights == "ema" or not plain else plain
    if weights == "model" and not plain:
        named = []
    # the only entry that holds tensors needs no known name: its keys tell
    candidates = named or ([] if weights else holding)
    if len(candidates) > 1:
        raise BadInput(
            f"{name} holds several state dicts: {', '.join(candidates)}.",
            f"Say which to repair: --key {candidates[0]}",
        )
    if not candidates:
        shown = ", ".join(repr(key) for key in list(found)[:8])
        raise BadInput(f"{name} holds no state dict that is known by its name; it has {shown}.", SAVE_A_STATE_DICT)
    return candidates[0]
