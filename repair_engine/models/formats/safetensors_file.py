"""Reading safetensors: the header is checked here, the data is read by the safetensors library."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from repair_engine.errors import BadInput
from repair_engine.models.formats.compare import Entry

MAX_HEADER_BYTES = 32 << 20
MAX_TENSORS = 100_000
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def looks_like(head: bytes) -> bool:
    """Whether a file's first bytes are a header length and the start of a JSON object."""
    return len(head) >= 9 and head[8:9] == b"{"


def read_header(path: Path, name: str) -> tuple[dict[str, Entry], dict[str, str]]:
    """Names, shapes and dtypes in the order of their data, and the file's own metadata.

    Raises:
        BadInput: a header that is too long, broken or contradicts itself, or a file cut short.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
        if length > MAX_HEADER_BYTES:
            raise BadInput(f"{name}: the header claims {length:,} bytes; at most {MAX_HEADER_BYTES:,} are read.")
        if length + 8 > size:
            raise BadInput(f"{name} is cut short: its header alone needs {length + 8:,} of {size:,} bytes.")
        text = file.read(length)
    try:
        header = json.loads(text, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{name}: the safetensors header is not valid JSON: {error}") from error
    metadata = header.pop("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise BadInput(f"{name}: the safetensors header is not an object with string metadata.")
    if not header:
        raise BadInput(f"{name} holds no tensors.")
    if len(header) > MAX_TENSORS:
        raise BadInput(f"{name} holds {len(header):,} tensors; at most {MAX_TENSORS:,} are read.")
    return _entries(header, size - 8 - length, name), metadata


def read_tensors(path: Path, name: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors, one at a time."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            for key in file.keys():  # noqa: SIM118 (not a mapping)
                yield key, file.get_tensor(key)
    except SafetensorError as error:
        raise BadInput(f"{name} is not a readable safetensors file: {error}") from error


def write_file(file: BinaryIO, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write contiguous tensors in the given order.

    The library's own writer orders by dtype and name, and its metadata by chance: neither gives a file back
    as it was, nor the same bytes twice.
    """
    codes = {dtype: code for code, dtype in DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    position = 0
    for key, tensor in tensors.items():
        end = position + tensor.numel() * tensor.element_size()
        header[key] = {
            "dtype": codes[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for tensor in tensors.values():
        file.write(tensor.reshape(-1).view(torch.uint8).numpy().data)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise BadInput(f"The safetensors header names {key!r} twice.")
        found[key] = value
    return found


def _entries(header: Mapping[str, Any], data_bytes: int, name: str) -> dict[str, Entry]:
    spans = []
    for key, value in header.items():
        try:
            dtype, shape = value["dtype"], tuple(value["shape"])
            start, end = value["data_offsets"]
            whole = all(type(number) is int and number >= 0 for number in (*shape, start, end))
        except (TypeError, KeyError, ValueError) as error:
            raise BadInput(f"{name}: the header's entry for {key!r} is broken.") from error
        if not whole:
            raise BadInput(f"{name}: the header's entry for {key!r} has numbers that are no sizes.")
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise BadInput(
                f"{name}: tensor {key} has dtype {dtype}, which is not supported.",
                f"Supported: {', '.join(DTYPES)}. Quantized weights cannot be edited exactly.",
            )
        if end - start != math.prod(shape) * DTYPES[dtype].itemsize:
            raise BadInput(f"{name}: tensor {key} of shape {shape} does not fill its {end - start:,} bytes.")
        spans.append((start, end, key, Entry(shape, DTYPES[dtype])))
    spans.sort(key=lambda span: span[:2])
    position = 0
    for start, end, key, _ in spans:
        if start != position:
            raise BadInput(f"{name}: tensor {key} overlaps another one or leaves a gap before it.")
        position = end
    if position != data_bytes:
        cause = "is cut short" if position > data_bytes else "has bytes that belong to no tensor"
        raise BadInput(f"{name} {cause}: its tensors take {position:,} bytes, and it holds {data_bytes:,}.")
    return {key: entry for _, _, key, entry in spans}
