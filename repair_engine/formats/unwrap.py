"""From what a file holds to the state dict in it, remembering how it was wrapped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from repair_engine.errors import BadInput
from repair_engine.formats.checkpoint import Level, Scalar
from repair_engine.formats.pickles import SAVE_A_STATE_DICT

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
PREFIXES = ("module.", "model.", "net.", "network.")
_MAX_DEPTH = 4


@dataclass(frozen=True)
class Unwrapped:
    """A state dict and the way to it."""

    state: Mapping[str, Any]
    wrapper: tuple[Level, ...]
    dropped: tuple[str, ...]


def unwrap(found: Any, weights: str | None, name: str) -> Unwrapped:
    """Find the one state dict in what torch.load gave.

    Args:
        weights: "model" or "ema" where the file holds both; None if it must not matter.

    Raises:
        BadInput: no state dict, several of them, or plain and averaged (EMA) weights without a choice.
    """
    levels: list[Level] = []
    dropped: list[str] = []
    for _ in range(_MAX_DEPTH):
        if not isinstance(found, Mapping):
            raise BadInput(f"{name} holds a {type(found).__name__}, not a state dict.", SAVE_A_STATE_DICT)
        if not found:
            raise BadInput(f"{name} holds no tensors: the state dict is empty.", SAVE_A_STATE_DICT)
        if not all(isinstance(key, str) for key in found):
            raise BadInput(f"{name}: the state dict has keys that are not names.", SAVE_A_STATE_DICT)
        if any(isinstance(value, Tensor) for value in found.values()):
            _check_state(found, name)
            if weights == "ema" and not any("ema" in level.key.lower() for level in levels):
                raise BadInput(f"{name} holds no averaged (EMA) weights.", "Leave the choice of weights out.")
            return Unwrapped(found, tuple(levels), tuple(dropped))
        key = _choose(found, weights, name)
        keys = list(found)
        scalars = {k: v for k, v in found.items() if isinstance(v, Scalar)}
        before = sum(k in scalars for k in keys[: keys.index(key)])
        levels.append(Level(key, scalars, before))
        dropped += [k for k in keys if k != key and k not in scalars]
        found = found[key]
    raise BadInput(f"{name}: the state dict is nested more than {_MAX_DEPTH} levels deep.", SAVE_A_STATE_DICT)


def module_names(keys: Sequence[str], own: Sequence[str], name: str) -> tuple[dict[str, str], str]:
    """Module's key -> key in the file, and the prefix that was stripped.

    Args:
        keys: in the file.
        own: the architecture's keys: a prefix that they have themselves stays.

    Raises:
        BadInput: two keys of the file become one.
    """
    prefix = ""
    plain = {key: key.replace("_orig_mod.", "") for key in keys}
    if any(plain[key] != key for key in keys):
        prefix = "_orig_mod."
    while True:
        strip = next((p for p in PREFIXES if all(k.startswith(p) for k in plain.values())), None)
        if strip is None or all(key.startswith(strip) for key in own):
            break
        plain = {key: value.removeprefix(strip) for key, value in plain.items()}
        prefix = strip + prefix
    names: dict[str, str] = {}
    for key, value in plain.items():
        if value in names:
            raise BadInput(f"{name}: the keys {names[value]} and {key} are both {value} without their prefixes.")
        names[value] = key
    return names, prefix


def _check_state(state: Mapping[str, Any], name: str) -> None:
    odd = {key: type(value).__name__ for key, value in state.items() if not isinstance(value, Tensor)}
    if odd:
        key, kind = next(iter(odd.items()))
        raise BadInput(
            f"{name}: beside the tensors there are {len(odd)} other entries, such as {key!r} ({kind}).",
            SAVE_A_STATE_DICT,
        )


def _holds_tensors(value: Any, depth: int = 0) -> bool:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        return False
    return any(isinstance(v, Tensor) or (depth < _MAX_DEPTH and _holds_tensors(v, depth + 1)) for v in value.values())


def _choose(found: Mapping[str, Any], weights: str | None, name: str) -> str:
    holding = [key for key, value in found.items() if _holds_tensors(value)]
    averaged = [key for key in holding if "ema" in key.lower().split("_")]
    plain = [key for key in holding if key in WRAPPERS]
    if averaged and plain and weights is None:
        raise BadInput(
            f"{name} holds plain weights ({', '.join(plain)}) and averaged ones ({', '.join(averaged)}).",
            "Say which to repair: weights 'model' or 'ema' (--weights).",
        )
    candidates = averaged if weights == "ema" or not plain else plain
    if weights == "model" and not plain:
        candidates = []
    if len(candidates) > 1:
        raise BadInput(
            f"{name} holds several state dicts: {', '.join(candidates)}.",
            "Save the one that is to be repaired.",
        )
    if not candidates:
        shown = ", ".join(repr(key) for key in list(found)[:8])
        raise BadInput(f"{name} holds no state dict that is known by its name; it has {shown}.", SAVE_A_STATE_DICT)
    return candidates[0]
