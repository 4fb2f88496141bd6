"""Uploaded file -> canonical safetensors and a sidecar, in a one-shot child process.

Everything else in the project reads only the canonical pair: `NAME.safetensors` with the module's keys, and
`NAME.safetensors.json` with the resolved architecture, the layout of the file and its sha256.
"""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from repair_engine.errors import BadInput
from repair_engine.models import hf_keys
from repair_engine.models.architectures import Architecture
from repair_engine.models.formats import onnx_file, safetensors_file, torch_file
from repair_engine.models.formats.checkpoint import Checkpoint, Source
from repair_engine.models.formats.compare import Entry, expected_entries, match
from repair_engine.models.formats.keys import module_names
from repair_engine.models.formats.pickles import SAVE_A_STATE_DICT
from repair_engine.models.formats.unwrap import unwrap
from repair_engine.support import sandbox
from repair_engine.support.archive import check_size
from repair_engine.support.outputs import sha256
from repair_engine.support.scratch import scratch

MAX_FILE_BYTES = 4 << 30
WEIGHTS = ("model", "ema")
_REST = "..rest.."  # no module has such a key: what an ONNX file holds beside its weights
_BESIDE = "..beside.."  # followed by a key of the file
_CHUNK = 1 << 22  # elements looked at in one go


def read(path: str | Path, architecture: Architecture, weights: str | None = None, name: str = "") -> Checkpoint:
    """Read an uploaded checkpoint; the parsing happens in a child process.

    Args:
        path: a safetensors file, a state dict of torch.save, or an ONNX model.
        architecture: what the file is said to fit.
        weights: "model" or "ema", where the file holds both.
        name: the file's own name, for messages; the path's name by default.

    Raises:
        BadInput: everything that makes the file unusable, with what to do about it.
    """
    with scratch("checkpoint") as folder:
        return convert(path, folder / "canonical.safetensors", architecture, weights, name)


def convert(
    path: str | Path,
    out: str | Path,
    architecture: Architecture,
    weights: str | None = None,
    name: str = "",
) -> Checkpoint:
    """Like `read`, but leave the canonical pair at `out` for later `load`s."""
    path, out = Path(path), Path(out)
    name = name or path.name
    check_file(path, name)
    # An ONNX model is also run, here and by another implementation, for comparison.
    base, times = (3 << 30, 10) if onnx_file.is_onnx(path) else (1 << 30, 4)
    limits = sandbox.Limits(memory_bytes=base + times * path.stat().st_size)
    payload = {"architecture": architecture.to_json(), "weights": weights, "name": name}
    answer = sandbox.call("checkpoint", payload, limits, {"path": path}, {"out": out}, _builders(architecture))
    try:
        sidecar = {
            "architecture": _resolved(architecture, answer["resolved"]).to_json(),
            "source": asdict(Source.from_json(answer["source"])),
            "sha256": sha256(path),
        }
        _sidecar(out).write_text(json.dumps(sidecar, indent=1))
        return load(out)
    except (TypeError, KeyError, ValueError, AttributeError, SafetensorError) as error:
        raise sandbox.not_usable(error) from error


def _builders(architecture: Architecture) -> list[str]:
    """What builds modules, imported before the child shuts itself in: torchvision has torch make a folder.

    Whoever registered a factory, and transformers, may import torchvision as late as they like; ONNX files need none.
    """
    if architecture.is_onnx:
        return []
    own = architecture.register.get(architecture.name, "").partition(":")[0]
    return ["torchvision.models", *([own] if own else []), *(["timm"] if architecture.is_timm else [])]


def _resolved(architecture: Architecture, found: Mapping[str, Any]) -> Architecture:
    """What only the file can tell, and nothing else: not which code builds the module."""
    options = dict(architecture.options)
    if type(auxiliary := found["options"].get("aux_logits")) is bool:
        options["aux_logits"] = auxiliary
    numbers = {name: found[name] for name in ("num_classes", "in_channels", "outputs")}
    if not all(number is None or (type(number) is int and 0 <= number < 1 << 31) for number in numbers.values()):
        raise ValueError("sizes")
    graph = found["graph"] if architecture.is_onnx else None
    return replace(architecture, options=options, graph=graph, **numbers)


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def load(path: str | Path) -> Checkpoint:
    """Read the canonical pair that `convert` wrote."""
    path = Path(path)
    sidecar = json.loads(_sidecar(path).read_text())
    tensors = load_file(path)
    source = Source.from_json(sidecar["source"])
    return Checkpoint(
        architecture=Architecture.from_json(sidecar["architecture"]),
        tensors={key: tensors[key] for key in source.names},
        source=source,
        sha256=sidecar["sha256"],
        rest=tensors[_REST].numpy().tobytes() if source.format == "onnx" else b"",
        beside={k.removeprefix(_BESIDE): tensor for k, tensor in tensors.items() if k.startswith(_BESIDE)},
    )


def run_task(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The child's part of `convert`."""
    torch.set_num_threads(1)
    parsed = parse(
        Path(payload["path"]), Architecture.from_json(payload["architecture"]), payload["weights"], payload["name"]
    )
    tensors = {key: tensor.contiguous() for key, tensor in parsed.tensors.items()}
    tensors |= {_BESIDE + key: tensor.contiguous() for key, tensor in parsed.beside.items()}
    if parsed.source.format == "onnx":
        tensors[_REST] = torch.frombuffer(bytearray(parsed.rest), dtype=torch.uint8)
    with os.fdopen(payload["out"], "wb", closefd=False) as file:
        safetensors_file.write_file(file, tensors, {})
    return {"resolved": parsed.architecture.to_json(), "source": asdict(parsed.source)}


def check_file(path: Path, name: str) -> None:
    """Refuse folders, empty files and files over the cap before anything is read."""
    if path.is_dir():
        raise BadInput(f"{name} is a folder, not a file.", "Give the safetensors or .pth file in it.")
    check_size(path, name, MAX_FILE_BYTES)


@dataclass(frozen=True)
class _Layout:
    """What is known of a file without its data: entries by the file's keys, and how the data is reached."""

    entries: Mapping[str, Entry]
    source: dict[str, Any]
    averaged: str | None = None


def parse(path: Path, architecture: Architecture, weights: str | None, name: str) -> Checkpoint:
    """Check a file and read it, in this process.

    The order matters: sizes, then structure, then names and shapes against the architecture, then the data.
    """
    check_file(path, name)
    if weights is not None and weights not in WEIGHTS:
        raise BadInput(f"Weights are 'model' or 'ema', not {weights!r}.")
    kind = _kind(path, name, architecture)
    if kind == "onnx":
        checkpoint = onnx_file.read_onnx(path, architecture, weights, name, sha256(path))
        for key, tensor in checkpoint.tensors.items():
            _check_finite(tensor, key, name)
        return checkpoint
    if kind == "safetensors":
        if architecture.key:
            raise BadInput(f"{name} is a safetensors file: it has no entries but its tensors.", "Leave --key out.")
        layout, data = _safetensors_layout(path, name), safetensors_file.read_tensors(path, name)
    else:
        layout, data = _torch_layout(path, weights, name, architecture.key)
    own = list(expected_entries(architecture))
    keys = [key for key in layout.entries if key != layout.averaged]
    named = module_names(keys, own, name, architecture.strip_prefix)
    names = named.names
    if architecture.config is not None:
        names = hf_keys.by_module(names, own, architecture.config)
    resolved = match({key: layout.entries[names[key]] for key in names}, architecture)
    module_key = {file_key: key for key, file_key in names.items()}
    tensors, beside, averaged = {}, {}, None
    for file_key, tensor in data:
        if file_key == layout.averaged:
            averaged = int(tensor)
            continue
        if file_key not in module_key:
            beside[file_key] = tensor.detach()
            continue
        _check_finite(tensor, file_key, name)
        tensors[module_key[file_key]] = tensor.detach()
    source = Source(
        format=kind,
        suffix=Path(name).suffix.lower(),
        names=names,
        prefix=named.prefix,
        averaged=averaged,
        order=tuple(keys) if named.beside else (),
        **layout.source,
    )
    return Checkpoint(resolved, {key: tensors[key] for key in names}, source, sha256(path), beside=beside)


def _kind(path: Path, name: str, architecture: Architecture) -> str:
    """By content, never by name alone; a file without a telling start is what its architecture says."""
    with path.open("rb") as file:
        head = file.read(64)
    if head[:4] == b"PK\x03\x04":
        return "onnx" if name.lower().endswith(".onnx") else "state_dict"
    if safetensors_file.looks_like(head):
        return "safetensors"
    if onnx_file.looks_like(head, name):
        return "onnx"
    if head[:1] == b"\x80":
        torch_file.refuse_pickle(path, name)
    if name.lower().endswith(".safetensors"):
        raise BadInput(f"{name} is not a safetensors file, or its start is damaged.", "Upload or copy it again.")
    if architecture.is_onnx and architecture.graph is not None:
        return "onnx"  # it has been read before, under a name that told more
    raise BadInput(f"{name} is neither a safetensors file nor one of torch.save, or it is damaged.", SAVE_A_STATE_DICT)


def _safetensors_layout(path: Path, name: str) -> _Layout:
    entries, metadata = safetensors_file.read_header(path, name)
    return _Layout(entries, {"metadata": metadata}, _averaged(entries))


def _torch_layout(
    path: Path, weights: str | None, name: str, asked: str
) -> tuple[_Layout, Iterator[tuple[str, Tensor]]]:
    """The layout, and the tensors, which are read when they are asked for."""
    extras = torch_file.check_archive(path, name)
    found = unwrap(torch_file.load(path, name, "meta", extras), weights, name, asked)
    torch_file.check_tensors(found.state, name)
    ordered = isinstance(found.state, OrderedDict)
    versions = _plain_versions(getattr(found.state, "_metadata", None)) if ordered else None
    source = {
        "wrapper": found.wrapper,
        "dropped": found.dropped,
        "module_versions": versions,
    }
    entries = {key: Entry(tuple(value.shape), value.dtype) for key, value in found.state.items()}

    def tensors() -> Iterator[tuple[str, Tensor]]:
        state = unwrap(torch_file.load(path, name, "cpu", extras), weights, name, asked).state
        torch_file.check_tensors(state, name)
        torch_file.check_overlap(state, name)
        yield from state.items()

    return _Layout(entries, source, _averaged(entries)), tensors()


def _averaged(entries: Mapping[str, Entry]) -> str | None:
    """torch.optim.swa_utils.AveragedModel counts its updates beside the module's own keys."""
    entry = entries.get("n_averaged")
    return "n_averaged" if entry and entry.shape == () and not entry.dtype.is_floating_point else None


def _plain_versions(versions: Any) -> dict[str, dict[str, int]]:
    if not isinstance(versions, Mapping):
        return {}
    return {
        str(key): {"version": int(value["version"])}
        for key, value in versions.items()
        if isinstance(value, Mapping) and isinstance(value.get("version"), int)
    }


def _check_finite(tensor: Tensor, key: str, name: str) -> None:
    if not tensor.is_floating_point():
        return
    flat = tensor.detach().reshape(-1)
    for start in range(0, len(flat), _CHUNK):
        piece = flat[start : start + _CHUNK]
        if not torch.isfinite(piece).all():
            kind = "NaN" if torch.isnan(piece).any() else "infinite numbers"
            raise BadInput(
                f"{name}: tensor {key} holds {kind}.", "The training has diverged; use an earlier checkpoint."
            )
