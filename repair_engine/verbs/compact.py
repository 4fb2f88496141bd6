"""repaired_compact.safetensors: the repair with its culprits removed where that is possible, measured anew."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from repair_engine.data.images import Images
from repair_engine.documents.records import CompactRecord
from repair_engine.models.formats.checkpoint import is_batch_count
from repair_engine.network import loading
from repair_engine.network.cutting import Compact, compact
from repair_engine.network.graph import capture
from repair_engine.network.subject import Subject
from repair_engine.support.outputs import write_json

TENSORS, WIDTHS = "repaired_compact.safetensors", "repaired_compact.json"
_KIND = "neuron-repair compact"
_NOT_EQUAL = (
    "Not equal to the repaired checkpoint: a convolution that pads with zeros sees less of an ablated filter's "
    "constant at the borders than inside, and the compact one's bias gives the same everywhere. "
    "Its figures are its own."
)


@dataclass(frozen=True)
class Written:
    """What was removed, and the document of it (JSON-able)."""

    cut: Compact
    document: CompactRecord


def write_compact(subject: Subject, images: Images, players: Sequence[int], folder: Path) -> Written:
    """Writes the two files into `folder`, if any culprit can be removed; the document says which, and why others not.

    Args:
        players: the culprits.
    """
    network, checkpoint = subject.network, subject.checkpoint
    name = network.filter_id
    if checkpoint.architecture.is_onnx:
        why = "an ONNX graph keeps its shapes: only numbers in its initializers change"
        cut = Compact({}, {}, (), dict.fromkeys((int(p) for p in players), why), ())
    else:
        module = checkpoint.module().to(network.device)
        example = images.normalize(torch.zeros(2, *images.shape, dtype=torch.uint8))
        graph = capture(module, example.to(network.device))

        cut = compact(module, graph, network, [int(p) for p in players], checkpoint.tensors, subject.ablated)
        if cut.removed:
            _write(subject, images, cut, module, folder)
    return Written(
        cut,
        {
            "written": bool(cut.removed),
            "removed": [name(player) for player in cut.removed],
            "kept": [{"id": name(player), "reason": reason} for player, reason in cut.kept.items()],
            "layers": cut.layers,
            "biases_added": list(cut.biases),
            "parameters": {
                "before": _parameters(checkpoint.tensors),
                "after": _parameters(cut.tensors) if cut.removed else _parameters(checkpoint.tensors),
            },
            "note": _NOT_EQUAL,
        },
    )


def load_module(checkpoint: Path, module: torch.nn.Module) -> torch.nn.Module:
    """The compact module from its two files, into a plain module of its architecture."""
    from safetensors.torch import load_file

    widths = json.loads((checkpoint.parent / WIDTHS).read_text())
    return loading.load_compact(module.float(), widths, load_file(checkpoint))


def _write(subject: Subject, images: Images, cut: Compact, module: torch.nn.Module, folder: Path) -> None:
    architecture, network = subject.checkpoint.architecture, subject.network
    tensors = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in cut.tensors.items()}
    for key, own in module.state_dict().items():
        if is_batch_count(key) and key not in tensors:
            tensors[key] = torch.zeros_like(own).cpu()
    save_file(tensors, folder / TENSORS)
    about = {
        "kind": _KIND,
        "schema": 1,
        "tensors": TENSORS,
        "architecture": architecture.name,
        "num_classes": architecture.outputs or architecture.num_classes,
        "options": dict(architecture.options),
        "in_channels": architecture.in_channels,
        "registered": architecture.register.get(architecture.name),
        "model_sha256": subject.checkpoint.sha256,
        "preprocessing": images.dataset.preprocessing.to_json(),
        "removed": [{"id": network.filter_id(p), "constant": network.constant(p)} for p in cut.removed],
        "kept_ablated": [{"id": network.filter_id(p), "reason": why} for p, why in cut.kept.items()],
        "layers": cut.layers,
        "biases_added": list(cut.biases),
        "note": _NOT_EQUAL,
        "how_to_load": [
            "import json",
            "from safetensors.torch import load_file",
            "# model: as your code builds it for the original checkpoint, with the same number of classes and options",
            f"model = load_compact(model, json.load(open('{WIDTHS}')), load_file('{TENSORS}'))",
        ],
        "load_compact": inspect.getsource(loading),
    }
    write_json(about, folder / WIDTHS)


def _parameters(tensors: dict[str, torch.Tensor] | Any) -> int:
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    return int(np.sum([t.numel() for key, t in tensors.items() if not key.endswith(buffers)]))
