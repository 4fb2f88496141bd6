"""Reading what torch.save wrote: the archive is checked first, then loaded with `weights_only=True`."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from repair_engine.errors import BadInput
from repair_engine.models.formats.extras import stand_ins
from repair_engine.models.formats.pickles import (
    MAX_PICKLE_BYTES,
    SAVE_A_STATE_DICT,
    SAVE_FLOAT,
    check_globals,
    globals_of,
)
from repair_engine.support.archive import entries_of

MAX_ENTRIES = 200_000
_LEGACY_MAGIC = b"l\xfc\x9cF\xf9 j\xa8P\x19."  # the number that PyTorch before 1.6 pickled first


def check_archive(path: Path, name: str) -> list[str]:
    """Refuse all archives but those of torch.save with stored entries and a harmless pickle.

    Returns:
        The extras that `load` is to replace by stand-ins.

    Raises:
        BadInput: TorchScript, .pt2, deflated or encrypted entries, duplicates, an unsafe pickle.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = entries_of(archive, name, MAX_ENTRIES)
            _check_entries(entries, path.stat().st_size, name)
            pickles = [entry for entry in entries if entry.filename.rpartition("/")[2] == "data.pkl"]
            if len(pickles) != 1:
                raise BadInput(f"{name} is a zip archive, but not one that torch.save wrote.", SAVE_A_STATE_DICT)
            root = pickles[0].filename.removesuffix("data.pkl")
            for entry in entries:
                if entry.filename == f"{root}byteorder" and archive.read(entry).strip() != b"little":
                    raise BadInput(f"{name} was saved on a big-endian machine, which is not supported.")
            if pickles[0].file_size > MAX_PICKLE_BYTES:
                raise BadInput(f"{name}: its pickle has {pickles[0].file_size:,} bytes, more than is read.")
            extras = check_globals(archive.read(pickles[0]), name)
            broken = archive.testzip()  # torch.load does not look at the checksums of what it maps
            if broken is not None:
                raise BadInput(
                    f"{name} is damaged: the checksum of its entry {broken} does not agree.",
                    "Upload or copy it again, or save it again with torch.save.",
                )
            return extras
    except BadInput:
        raise
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise BadInput(f"{name} is damaged or cut short: {error}", "Upload or copy it again.") from error


def refuse_pickle(path: Path, name: str) -> None:
    """Say what a bare pickle is: PyTorch's old format, or something that asks to run code.

    Raises:
        BadInput: always.
    """
    with path.open("rb") as file:
        data = file.read(MAX_PICKLE_BYTES)
    if _LEGACY_MAGIC in data[:64]:
        raise BadInput(
            f"{name} is in the format of PyTorch before 1.6, which is not read.",
            'Save it again:\n    sd = torch.load("old.pth", map_location="cpu", weights_only=True)\n'
            '    torch.save(sd, "weights.pth")',
        )
    asked = globals_of(data)
    if asked:
        raise BadInput(
            f"{name} was not loaded: it is a bare pickle that asks to run {asked[0]}, "
            "and loading it could run any code. Only a state dict is accepted.",
            SAVE_A_STATE_DICT,
        )
    raise BadInput(f"{name} is a bare pickle, not a file of torch.save.", SAVE_A_STATE_DICT)


def load(path: Path, name: str, device: str, extras: Sequence[str] = ()) -> Any:
    """The object in the file; on 'meta' without its data, on 'cpu' mapped from the file.

    Args:
        extras: what `check_archive` found beside the tensors.

    Raises:
        BadInput: what `weights_only=True` refuses.
    """
    try:
        with warnings.catch_warnings(), stand_ins(extras):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location=device, mmap=True, weights_only=True)
    except (pickle.UnpicklingError, EOFError, KeyError, IndexError, ValueError, TypeError) as error:
        reason = next((line for line in str(error).splitlines() if "GLOBAL" in line), str(error)[:300])
        raise BadInput(f"{name} was not loaded: {reason}", SAVE_A_STATE_DICT) from error
    except (RuntimeError, NotImplementedError) as error:
        raise BadInput(f"{name} is damaged or holds tensors that cannot be read: {str(error)[:300]}") from error


def check_tensors(tensors: Mapping[str, Tensor], name: str) -> None:
    """Refuse tensors that are not plain, dense and within their own storage (shapes only, no data).

    Raises:
        BadInput: naming the tensor.
    """
    for key, tensor in tensors.items():
        kind = _odd_kind(tensor)
        if kind:
            raise BadInput(
                f"{name}: {key} is {kind}; only plain dense tensors can be repaired.",
                SAVE_FLOAT if "quantized" in kind else SAVE_A_STATE_DICT,
            )
        if _overlaps_itself(tensor):
            raise BadInput(
                f"{name}: {key} of shape {tuple(tensor.shape)} repeats its elements "
                f"(strides {tensor.stride()}): it would need more memory than the file has.",
                "Save contiguous copies: sd = {k: v.contiguous().clone() for k, v in sd.items()}",
            )


def check_overlap(tensors: Mapping[str, Tensor], name: str) -> None:
    """Refuse tensors that share memory: an edit of one would change the other.

    Raises:
        BadInput: naming both tensors.
    """
    spans = []
    for key, tensor in tensors.items():
        if tensor.numel():
            reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
            spans.append((tensor.data_ptr(), tensor.data_ptr() + (reach + 1) * tensor.element_size(), key))
    spans.sort()
    for (_, end, first), (start, _, second) in pairwise(spans):
        if start < end:
            raise BadInput(
                f"{name}: {first} and {second} share memory, so they cannot be edited separately.",
                "Save copies: sd = {k: v.clone() for k, v in sd.items()}",
            )


def _check_entries(entries: list[zipfile.ZipInfo], size: int, name: str) -> None:
    names = [entry.filename for entry in entries]
    if len(set(names)) != len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise BadInput(f"{name} holds the entry {twice!r} twice.")
    if any("/code/" in n or n.endswith("/constants.pkl") for n in names):
        raise BadInput(f"{name} is a TorchScript archive, which runs code when loaded.", SAVE_A_STATE_DICT)
    if any(n.endswith(("/archive_format", "/archive_version")) or "/models/" in n for n in names):
        raise BadInput(f"{name} is a .pt2 archive of torch.export, which runs code when loaded.", SAVE_A_STATE_DICT)
    for entry in entries:
        if entry.flag_bits & 1:
            raise BadInput(f"{name}: the entry {entry.filename} is encrypted.")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise BadInput(
                f"{name}: the entry {entry.filename} is compressed; torch.save stores its entries.",
                "Save the file again with torch.save, without repacking it.",
            )
    if sum(entry.file_size for entry in entries) > size:
        raise BadInput(f"{name}: its entries claim more bytes than the file's {size:,}.")


def _odd_kind(tensor: Tensor) -> str:
    if type(tensor) not in (Tensor, torch.nn.Parameter):
        return f"a {type(tensor).__name__}, a tensor subclass"
    if tensor.layout != torch.strided:
        return "a sparse tensor"
    float8 = tensor.is_floating_point() and tensor.dtype.itemsize == 1
    if tensor.is_quantized or tensor.dtype.is_complex or float8:
        return f"a quantized or complex tensor ({tensor.dtype})"
    if tensor.is_nested:
        return "a nested tensor"
    return ""


def _overlaps_itself(tensor: Tensor) -> bool:
    reach = 0
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1:
            if stride <= reach:
                return True
            reach += (size - 1) * stride
    end = (tensor.storage_offset() + reach + 1) * tensor.element_size()
    return bool(tensor.numel() > 0 and end > tensor.untyped_storage().nbytes())
