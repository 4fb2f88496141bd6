"""Writing a checkpoint back the way it came."""

from __future__ import annotations

import os
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from repair_engine.models.formats.checkpoint import Checkpoint
from repair_engine.models.formats.safetensors_file import write_file
from repair_engine.onnx.wire import assemble


def write(checkpoint: Checkpoint, path: str | Path) -> None:
    """Write the format, wrapper, prefixes, keys, order, shapes and dtypes that the checkpoint was read with.

    Atomic: the file appears whole under its name or not at all. Of the entries beside the state dict,
    scalars are kept and the rest (optimizer states) is not; `checkpoint.source.dropped` lists it. An ONNX file differs
    from the one that was read in the bytes of its weights alone.
    """
    path, source = Path(path), checkpoint.source
    # own storage for each: torch.save would write a shared storage whole
    tensors = {key: checkpoint.tensors[key].detach() for key in source.names}
    tensors |= {key: tensors[key].t() for key in source.turned}
    state: dict[str, Tensor] = {name: tensors[key].contiguous().clone() for key, name in source.names.items()}
    state |= {key: tensor.detach().contiguous().clone() for key, tensor in checkpoint.beside.items()}
    if source.order:
        state = {key: state[key] for key in source.order}
    if source.averaged is not None:
        state = {"n_averaged": torch.tensor(source.averaged), **state}
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            if source.format == "onnx":
                for piece in assemble(checkpoint.rest, source.lengths, list(state.values())):
                    file.write(piece)
            elif source.format == "safetensors":
                write_file(file, state, source.metadata)
            else:
                torch.save(_wrap(checkpoint, state), file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _wrap(checkpoint: Checkpoint, state: dict[str, Tensor]) -> Any:
    source = checkpoint.source
    wrapped: Any = state
    if source.module_versions is not None:
        wrapped = OrderedDict(state)
        if source.module_versions:
            wrapped._metadata = OrderedDict((k, dict(v)) for k, v in source.module_versions.items())
    for level in reversed(source.wrapper):
        scalars = list(level.scalars.items())
        wrapped = dict([*scalars[: level.position], (level.key, wrapped), *scalars[level.position :]])
    return wrapped


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
