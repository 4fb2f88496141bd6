"""A file's keys, shapes and dtypes against the architecture's, before any data is touched."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

import torch

from repair_engine.errors import BadInput
from repair_engine.models.architectures import Architecture, list_architectures
from repair_engine.models.formats.causes import cause_of
from repair_engine.models.formats.checkpoint import is_batch_count

_SHOWN = 5  # keys of each sort that an error lists
_GUESS_SECONDS = 8.0
# A key that all members of a torchvision family have: without it none of them needs to be built for a guess.
_TELLING = {
    "alexnet": "features.0.weight",
    "convnext": "features.1.0.block.0.weight",
    "densenet": "features.conv0.weight",
    "efficientnet": "features.0.0.weight",
    "googlenet": "inception3a.branch1.conv.weight",
    "inception": "Mixed_5b.branch1x1.conv.weight",
    "maxvit": "stem.0.0.weight",
    "mnasnet": "layers.0.weight",
    "mobilenet": "features.0.0.weight",
    "regnet": "stem.0.weight",
    "resne": "layer1.0.conv1.weight",
    "shufflenet": "conv1.0.weight",
    "squeezenet": "features.3.squeeze.weight",
    "swin": "features.1.0.norm1.weight",
    "vgg": "features.0.weight",
    "vit": "conv_proj.weight",
    "wide_resnet": "layer1.0.conv1.weight",
}


@dataclass(frozen=True)
class Entry:
    """One tensor of a file: its shape and dtype."""

    shape: tuple[int, ...]
    dtype: torch.dtype


def match(entries: Mapping[str, Entry], architecture: Architecture) -> Architecture:
    """The architecture resolved for these entries.

    Raises:
        BadInput: with missing keys, unexpected keys, shapes and dtypes that differ, and a guess at the cause.
    """
    shapes = {key: entry.shape for key, entry in entries.items()}
    resolved = architecture.resolve(shapes)
    expected = expected_entries(resolved)
    complaints = _complaints(entries, expected)
    if complaints:
        cause = cause_of(shapes, architecture, {key: entry.shape for key, entry in expected.items()})
        raise BadInput(
            f"The file does not fit architecture {architecture.name} with {architecture.num_classes} "
            f"classes.{' ' + cause.problem if cause else ''}\n" + "\n".join(complaints),
            cause.mend if cause else _guess(shapes, architecture),
        )
    return resolved


def expected_entries(architecture: Architecture) -> dict[str, Entry]:
    """Keys, shapes and dtypes of the architecture's state dict, in its order."""
    state = architecture.build("meta").state_dict()
    return {
        key: Entry(tuple(value.shape), value.dtype) for key, value in state.items() if isinstance(value, torch.Tensor)
    }


def _complaints(entries: Mapping[str, Entry], expected: Mapping[str, Entry]) -> list[str]:
    missing = [key for key in expected if key not in entries and not is_batch_count(key)]
    unexpected = [key for key in entries if key not in expected]
    both = [key for key in entries if key in expected]
    shapes = [
        f"{key} {entries[key].shape} in the file, {expected[key].shape} in the architecture"
        for key in both
        if entries[key].shape != expected[key].shape
    ]
    dtypes = [
        f"{key} {entries[key].dtype} in the file, {expected[key].dtype} in the architecture"
        for key in both
        if not _same_kind(entries[key].dtype, expected[key].dtype)
    ]
    titles = ("missing keys", "unexpected keys", "shapes that differ", "dtypes that differ")
    return [
        f"{title} ({len(found)}): {_shorten(found)}"
        for title, found in zip(titles, (missing, unexpected, shapes, dtypes), strict=True)
        if found
    ]


def _same_kind(stored: torch.dtype, wanted: torch.dtype) -> bool:
    """Floats may be stored in any width; everything else as the architecture has it."""
    return stored == wanted or (stored.is_floating_point and wanted.is_floating_point)


def _shorten(found: Sequence[str]) -> str:
    more = len(found) - _SHOWN
    return "; ".join(found[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _guess(shapes: Mapping[str, tuple[int, ...]], architecture: Architecture) -> str:
    """What the file seems to be: the same architecture with other classes, or another architecture."""
    classes = _other_classes(shapes, architecture)
    if classes is not None:
        return (
            f"It looks like {architecture.name} with {classes} classes: give that number of classes "
            f"(--num-classes {classes})."
        )
    started = time.monotonic()
    candidates = [n for n in list_architectures() if all(k in shapes for p, k in _TELLING.items() if n.startswith(p))]
    # the likeliest first: a wrong member of the right family
    likeness = {name: SequenceMatcher(None, name, architecture.name).ratio() for name in candidates}
    for name in sorted(likeness, key=lambda name: -likeness[name]):
        if time.monotonic() - started > _GUESS_SECONDS:
            break
        if name == architecture.name and not architecture.registered:
            continue
        classes = _other_classes(shapes, replace(architecture, name=name, options={}, register={}))
        if classes is not None:
            return f"It looks like {name} with {classes} classes: give that architecture (--architecture {name})."
    return "Give the architecture and the options that the file was saved from."


def _other_classes(shapes: Mapping[str, tuple[int, ...]], architecture: Architecture) -> int | None:
    """The number of classes with which the architecture would fit the shapes; None if there is none."""
    odd = 997  # a prime, so that no hidden layer has as many rows as the head
    try:
        probe = replace(architecture, num_classes=odd)
        own = expected_entries(probe.resolve(shapes))
    except BadInput:
        return None
    wanted = [key for key in own if key in shapes or not is_batch_count(key)]
    if set(wanted) != set(shapes):
        return None
    rows = {shapes[key][0] for key in wanted if own[key].shape[:1] == (odd,) and shapes[key]}
    same = all(
        shapes[key] == own[key].shape or (own[key].shape[:1] == (odd,) and shapes[key][1:] == own[key].shape[1:])
        for key in wanted
    )
    # one row is a binary classifier's single logit
    return max(rows.pop(), 2) if same and len(rows) == 1 else None
