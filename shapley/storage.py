"""Records as bytes: an npz archive with one JSON entry. Equal records, equal bytes; no pickle."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import numpy as np

_EPOCH = (1980, 1, 1, 0, 0, 0)  # a fixed time stamp: the bytes are named by their hash


def pack(fields: dict[str, Any], arrays: dict[str, np.ndarray]) -> bytes:
    """Bytes of JSON-able ``fields`` and named ``arrays``."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        text = json.dumps(fields, sort_keys=True)
        archive.writestr(zipfile.ZipInfo("fields.json", _EPOCH), text)
        for name, array in sorted(arrays.items()):
            entry = io.BytesIO()
            np.lib.format.write_array(entry, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _EPOCH), entry.getvalue())
    return buffer.getvalue()


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Inverse of `pack`. Raises ValueError where the bytes are not such an archive."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            fields = json.loads(archive.read("fields.json"))
            arrays = {
                name.removesuffix(".npy"): np.lib.format.read_array(io.BytesIO(archive.read(name)), allow_pickle=False)
                for name in archive.namelist()
                if name.endswith(".npy")
            }
    except (zipfile.BadZipFile, KeyError, json.JSONDecodeError, EOFError) as error:
        raise ValueError(f"not a stored record: {error}") from None
    return fields, arrays
