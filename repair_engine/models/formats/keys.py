"""From a file's keys to the module's: wrappers in the middle of keys, prefixes in front, renamed norms, strangers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from repair_engine.errors import BadInput
from repair_engine.models.formats.checkpoint import is_batch_count

PREFIXES = ("module.", "model.", "net.", "network.")
# Parts of keys that data parallelism, compilation and checkpointing of activations put in, at any depth.
_WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
# DenseNet of torchvision before 0.3 (its own models/densenet.py has this pattern).
_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.(?:weight|bias|running_mean|running_var))$")
# First parts of keys that only training reads.
_TRAINING_ONLY = re.compile(
    r"(criterion|criterions|loss|losses|\w+_loss|loss_\w+|metrics?|\w+_metrics?|(train|val|valid|validation|test)_"
    r"(acc|accuracy|auroc|f1|loss|precision|recall|confmat|metric)\w*|confusion_matrix)$"
)


@dataclass(frozen=True)
class Named:
    """Which tensor of a file is which of the module.

    Attributes:
        names: module's key -> key in the file, in the file's order; keys of the file that fit nothing stand for
            themselves, less wrappers and prefix.
        prefix: what was taken off, for display.
        beside: keys in the file that belong to no part of the module: written back as they are.
    """

    names: Mapping[str, str]
    prefix: str
    beside: tuple[str, ...] = ()


def module_names(keys: Sequence[str], own: Sequence[str], name: str, strip: str = "") -> Named:
    """Finds the module's keys among the file's.

    Args:
        keys: in the file.
        own: the architecture's keys: wrappers and prefixes that they have themselves stay.
        strip: the prefix that was asked for; "" = found out.

    Raises:
        BadInput: two keys of the file become one; no key has the prefix that was asked for; the module's keys stand
            under several prefixes, or under one beside other entries.
    """
    plain, targets = {key: _plain(key) for key in keys}, {_plain(key): key for key in own}
    if len(targets) < len(own):  # the architecture uses such names itself
        plain, targets = {key: key for key in keys}, {key: key for key in own}
    plain = {key: _renamed(value, targets) for key, value in plain.items()}
    prefix = _asked(strip, plain, name) if strip else _found(plain, targets, name)
    inside = {key: value.removeprefix(prefix) for key, value in plain.items() if value.startswith(prefix)}
    outside = tuple(key for key in keys if key not in inside)
    if outside and not strip:
        _check_outside(outside, prefix, inside, targets, plain, name)
        if not _whole(inside, targets):  # then they are said to be unexpected, with what is missing
            inside |= {key: plain[key] for key in outside}
            outside = ()
    names: dict[str, str] = {}
    for key, value in inside.items():
        mine = targets.get(value, value)
        if mine in names:
            raise BadInput(f"{name}: the keys {names[mine]} and {key} are both {mine} without their prefixes.")
        names[mine] = key
    return Named(names, _shown(names, prefix), outside)


def _plain(key: str) -> str:
    *path, last = key.split(".")
    return ".".join([*(part for part in path if part not in _WRAPPERS), last])


def _renamed(key: str, targets: Mapping[str, str]) -> str:
    """DenseNet's norm.1 -> norm1, where that is no key of the architecture."""
    old = None if key in targets else _DENSENET.match(key)
    return "".join(old.groups()) if old else key


def _fits(plain: Mapping[str, str], targets: Mapping[str, str]) -> Counter[str]:
    """Prefix -> how many of the architecture's keys stand behind it."""
    fits: Counter[str] = Counter()
    for value in plain.values():
        parts = value.split(".")
        for i in range(len(parts)):
            if ".".join(parts[i:]) in targets:
                fits[".".join(parts[:i]) + "." if i else ""] += 1
    return fits


def _found(plain: Mapping[str, str], targets: Mapping[str, str], name: str) -> str:
    fits = _fits(plain, targets)
    most = max(fits.values(), default=0)
    best = [prefix for prefix, count in fits.items() if count == most]
    if 2 * most < len(targets):
        # no prefix tells: only what all keys have goes
        prefix = ""
        while strip := next((p for p in PREFIXES if all(v.startswith(prefix + p) for v in plain.values())), None):
            prefix += strip
        return prefix
    if "" in best:
        return ""
    if len(best) > 1:
        raise BadInput(
            f"{name} holds the weights {len(best)} times, under the prefixes {', '.join(best)}",
            f"Say which to repair: --strip-prefix {best[0]} (the others are written back as they are).",
        )
    return best[0]


def _asked(strip: str, plain: dict[str, str], name: str) -> str:
    """The prefix without wrappers; the keys may have it with them or without."""
    wanted = strip if strip.endswith(".") else f"{strip}."
    wanted = _plain(wanted)
    if not any(value.startswith(wanted) for value in plain.values()):
        first = sorted({value.partition(".")[0] + "." for value in plain.values() if "." in value})
        raise BadInput(
            f"{name}: no key begins with the prefix {strip!r}.",
            f"Its keys begin with {', '.join(first[:8])}; leave --strip-prefix out where no prefix is in the way.",
        )
    return wanted


def _whole(inside: Mapping[str, str], targets: Mapping[str, str]) -> bool:
    there = set(inside.values())
    return all(target in there or is_batch_count(target) for target in targets)


def _check_outside(
    outside: Sequence[str],
    prefix: str,
    inside: Mapping[str, str],
    targets: Mapping[str, str],
    plain: Mapping[str, str],
    name: str,
) -> None:
    """Entries beside the network are no harm where only training reads them; else somebody has to say so."""
    strangers = [key for key in outside if not _TRAINING_ONLY.match(plain[key].partition(".")[0])]
    if strangers and prefix and _whole(inside, targets):
        shown = ", ".join(strangers[:3]) + (", …" if len(strangers) > 3 else "")
        raise BadInput(
            f"{name}: the architecture's keys stand under the prefix {prefix!r}, beside {len(strangers)} other entries "
            f"({shown}) that no part of it reads.",
            f"If these do not change what the network predicts: --strip-prefix {prefix} (they are written back as they "
            "are). If they do, register the whole network (--register NAME=PACKAGE.MODULE:FACTORY).",
        )


def _shown(names: Mapping[str, str], prefix: str) -> str:
    """What stands before the module's keys in the file, else what was taken off."""
    for mine, key in names.items():
        if key.endswith(mine) and key != mine:
            return key.removesuffix(mine)
    return prefix
