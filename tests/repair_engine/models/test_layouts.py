"""Each layout of `layouts` is read and comes back as it was, or its refusal names the cause and what mends it."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from repair_engine.errors import BadInput
from repair_engine.models import formats
from repair_engine.models.architectures import Architecture
from repair_engine.models.formats.convert import parse
from tests.repair_engine import layouts
from tests.repair_engine.layouts import LAYOUTS, REGISTER, Dense, sd
from tests.repair_engine.models.test_checkpoint_round_trip import same


@pytest.mark.parametrize("name", [name for name, layout in LAYOUTS.items() if not layout.said])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_it_is_read_and_comes_back(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    checkpoint = layouts.read(layout, tmp_path)
    assert checkpoint.source.dropped == layout.dropped
    wanted = sd(Dense) if layout.asked.get("name") == "dense" else sd()
    for key, value in checkpoint.module().state_dict().items():
        assert torch.equal(value, wanted[key]), key
    formats.write(checkpoint, tmp_path / "out.pth")
    assert same(torch.load(tmp_path / "out.pth", weights_only=True), _kept(layout.make(), layout.dropped))


def _kept(stored: Any, dropped: tuple[str, ...]) -> Any:
    if not isinstance(stored, Mapping):
        return stored
    return type(stored)((key, _kept(value, dropped)) for key, value in stored.items() if key not in dropped)


@pytest.mark.parametrize("name", [name for name, layout in LAYOUTS.items() if layout.said])
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_it_is_refused_with_cause_and_mend(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        layouts.read(LAYOUTS[name], tmp_path)
    for words in LAYOUTS[name].said:
        assert words in str(caught.value)


class Writes:
    """Unpickling it calls a function of NumPy that makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return np.savetxt, (str(self.path), [1.0])


def test_a_stand_in_calls_nothing_of_what_it_stands_for(tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    torch.save({"state_dict": sd(), "extra": Writes(proof)}, tmp_path / "in.pth")
    checkpoint = parse(tmp_path / "in.pth", Architecture("two", 3, register=REGISTER), None, "in.pth")
    assert checkpoint.source.dropped == ("extra",)
    assert not proof.exists()
    pickle.loads(pickle.dumps(Writes(proof)))  # the proof would have been there
    assert proof.exists()
