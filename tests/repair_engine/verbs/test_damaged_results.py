"""Results that come back damaged: stored values and channel sums with flipped bits or cut short."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from repair_engine.case.stored_values import objectives_in
from repair_engine.errors import BadInput
from repair_engine.network.channel_sums import read_sums


def values(path: Path) -> None:
    """As `write_values` leaves them, compressed."""
    figures = {
        name: np.random.default_rng(0).normal(size=(2, 40)) for name in ("values", "std_errors", "lower", "upper")
    }
    names = {"objectives": np.array(["accuracy", "recall:ant"]), "filters": np.array([f"a:{i}" for i in range(40)])}
    np.savez_compressed(path, header=np.array(json.dumps({})), samples=np.ones(40, int), **names, **figures)


def sums(path: Path) -> None:
    """As `write_sums` leaves them."""
    about = {"kind": "neuron-repair channel sums", "schema": 1, "model": "0" * 64, "preprocessing": {}, "parties": []}
    with path.open("wb") as file:
        np.savez(file, sums=np.ones(40), counts=np.ones(40, int), filters=np.array(["a"] * 40), about=json.dumps(about))


@pytest.mark.parametrize(("write", "read"), [(values, objectives_in), (sums, read_sums)])
def test_damage_anywhere_is_refused_or_harmless(
    write: Callable[[Path], None], read: Callable[[Path], object], tmp_path: Path
) -> None:
    whole = tmp_path / "whole.npz"
    write(whole)
    content, rng, refused, failures = whole.read_bytes(), np.random.default_rng(1), 0, []
    for trial in range(400):
        damaged = bytearray(content)
        for at in rng.integers(len(content), size=rng.integers(1, 6)):
            damaged[at] ^= 1 << int(rng.integers(8))
        path = tmp_path / "damaged.npz"
        path.write_bytes(damaged[: rng.integers(len(content))] if trial % 4 == 0 else damaged)
        try:
            read(path)
        except BadInput:
            refused += 1
        except Exception as error:
            failures.append((trial, repr(error)))
    assert not failures
    assert refused > 100
