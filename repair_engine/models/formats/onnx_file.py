"""An imported ONNX model as a checkpoint: its graph is its architecture, its float32 initializers are the tensors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from repair_engine.errors import BadInput
from repair_engine.models.architectures import Architecture
from repair_engine.models.formats.checkpoint import Checkpoint, Source
from repair_engine.onnx import import_file

_NEXT = (0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42)  # keys of ModelProto's fields 2 to 8


def looks_like(head: bytes, name: str) -> bool:
    """By its name, or as ONNX files begin: the version of the format, then the next field of the message."""
    begins = head[:1] == b"\x08" and len(head) > 2 and 1 <= head[1] <= 30 and head[2] in _NEXT
    return name.lower().endswith(".onnx") or begins


def is_onnx(path: Path) -> bool:
    """Whether a file is to be read as an ONNX model."""
    with path.open("rb") as file:
        return looks_like(file.read(16), path.name)


def read_onnx(path: Path, architecture: Architecture, weights: str | None, name: str, sha256: str) -> Checkpoint:
    """Imports and checks an ONNX file, in this process.

    Args:
        architecture: named "onnx"; its number of classes is that of the graph, or 0.

    Raises:
        BadInput: see `onnx_graph.import_file`; or options that contradict the graph.
    """
    if not architecture.is_onnx:
        raise BadInput(
            f"{name} is an ONNX model: its graph is its architecture, so {architecture.name} does not apply.",
            "Leave the architecture out.",
        )
    if architecture.options or weights or architecture.key or architecture.strip_prefix:
        raise BadInput(
            f"{name} is an ONNX model; architecture options, a choice of weights, --key and --strip-prefix mean "
            "nothing to it.",
            "Leave them out.",
        )
    found = import_file(path, name)
    classes = max(found.classes, 2)  # a single logit is a binary classifier
    if architecture.num_classes not in (0, classes, found.classes):
        raise BadInput(
            f"{name} puts out {found.classes} logits, so it has {classes} classes, not {architecture.num_classes}.",
            "Leave the number of classes out.",
        )
    resolved = replace(architecture, num_classes=classes, outputs=found.classes, graph=found.plan.to_json())
    turned = tuple(weight.key for weight in found.plan.weights.values() if weight.turned)
    source = Source("onnx", ".onnx", found.names, lengths=found.lengths, turned=turned, checked=found.checked)
    return Checkpoint(resolved, found.tensors, source, sha256, found.rest)
