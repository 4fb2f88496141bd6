"""Every unusable safetensors file is refused with its reason."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file

from repair_engine.errors import BadInput
from repair_engine.models.formats import safetensors_file
from tests.repair_engine.bad_checkpoints import refuse
from tests.repair_engine.models.test_checkpoint_round_trip import tiny_state


def crafted(tmp_path: Path, header: Any, data: bytes = b"", claim: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = tmp_path / "in.safetensors"
    path.write_bytes(struct.pack("<Q", len(text) if claim is None else claim) + text + data)
    return path


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "data", "claim", "message"),
    [
        (b'{"a": {}, "a": {}}', b"", None, "names 'a' twice"),
        (b'{"a": ', b"", None, "not valid JSON"),
        (b"{" * 100_000, b"", None, "not valid JSON"),
        (b"{}", b"", None, "holds no tensors"),
        (b"{}", b"", 1 << 40, "header claims"),
        (b"{}", b"", 1 << 20, "cut short"),
        ({"a": ONE, "__metadata__": {"x": 1}}, bytes(8), None, "string metadata"),
        ({"a": ONE}, bytes(4), None, "is cut short"),
        ({"a": ONE}, bytes(12), None, "belong to no tensor"),
        ({"a": ONE, "b": ONE}, bytes(8), None, "overlaps"),
        ({"a": {**ONE, "data_offsets": [4, 12]}}, bytes(12), None, "gap"),
        ({"a": {**ONE, "shape": [3]}}, bytes(8), None, "does not fill"),
        ({"a": {**ONE, "shape": [-1, -2]}}, bytes(8), None, "no sizes"),
        ({"a": {**ONE, "shape": [2.0]}}, bytes(8), None, "no sizes"),
        ({"a": {**ONE, "shape": [1 << 62, 1 << 62]}}, bytes(8), None, "does not fill"),
        ({"a": {**ONE, "dtype": "F8_E4M3"}}, bytes(8), None, "F8_E4M3"),
        ({"a": {**ONE, "dtype": ["F32"]}}, bytes(8), None, "broken|dtype"),
        ({"a": {"shape": [2]}}, bytes(8), None, "is broken"),
        ({"a": 3}, bytes(8), None, "is broken"),
    ],
)
def test_crafted_safetensors(header: Any, data: bytes, claim: int | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        safetensors_file.read_header(crafted(tmp_path, header, data, claim), "in.safetensors")


def test_truncated_safetensors(tmp_path: Path) -> None:
    data = save(tiny_state())
    for keep in (5, 9, 200, len(data) - 1):
        (tmp_path / "cut.safetensors").write_bytes(data[:keep])
        refuse(tmp_path / "cut.safetensors")


def test_nan_in_safetensors_is_named(tmp_path: Path) -> None:
    save_file({**tiny_state(), "conv.bias": torch.tensor([0, 0, float("nan"), 0])}, tmp_path / "in.safetensors")
    assert "conv.bias holds NaN" in refuse(tmp_path / "in.safetensors").problem
