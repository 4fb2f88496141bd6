"""Tensors of a checkpoint that are not plain numbers, or do not fit the architecture, are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from repair_engine.errors import BadInput
from repair_engine.models.architectures import Architecture
from repair_engine.models.formats.convert import parse
from tests.repair_engine.bad_checkpoints import refuse, saved
from tests.repair_engine.factories import REGISTER
from tests.repair_engine.models.test_checkpoint_round_trip import TINY, State, tiny_state


def replaced(key: str, tensor: Any) -> State:
    return {**tiny_state(), key: tensor}


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(1).expand(3, 4), "repeats its elements"),
        (torch.zeros(8).as_strided((3, 4), (1, 1)), "repeats its elements"),
        (torch.zeros(3, 4).to_sparse(), "sparse"),
        (torch.zeros(3, 4, dtype=torch.complex64), "complex"),
        (torch.zeros(3, 4).to(torch.float8_e4m3fn), "quantized"),
        (torch.full((3, 4), float("nan")), "head.weight holds NaN"),
        (torch.full((3, 4), float("-inf"), dtype=torch.bfloat16), "head.weight holds infinite"),
        (torch.zeros(3, 4, dtype=torch.int8), "torch.int8 in the file, torch.float32"),
        (torch.nn.parameter.UninitializedParameter(), "not loaded|subclass|damaged"),
        (torch.zeros(3, 4, device="meta"), "without data"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_not_plain(tensor: torch.Tensor, message: str, tmp_path: Path) -> None:
    path = saved(tmp_path, replaced("head.weight", tensor))
    with pytest.raises(BadInput, match=message):
        parse(path, TINY, None, "in.pth")


@pytest.mark.filterwarnings("ignore")
def test_quantized_nested_and_subclassed_tensors(tmp_path: Path) -> None:
    quantized = torch.quantize_per_tensor(torch.zeros(3, 4), 0.1, 0, torch.qint8)
    assert "quantized" in refuse(saved(tmp_path, replaced("head.weight", quantized))).problem
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    assert "nested" in refuse(saved(tmp_path, replaced("head.weight", nested))).problem

    subclassed = torch.zeros(3, 4).as_subclass(Sub)
    assert "subclass" in refuse(saved(tmp_path, replaced("head.weight", subclassed))).problem


class Sub(torch.Tensor):
    pass


def test_a_tiny_file_that_would_fill_the_memory(tmp_path: Path) -> None:
    path = saved(tmp_path, replaced("head.weight", torch.zeros(1).expand(1 << 20, 1 << 16)))  # 256 GiB
    assert path.stat().st_size < 20_000
    assert "repeats its elements" in refuse(path).problem


def test_shared_memory_between_tensors(tmp_path: Path) -> None:
    shared = torch.zeros(4)
    error = refuse(saved(tmp_path, {**tiny_state(), "bn.weight": shared, "bn.bias": shared}))
    assert "bn.weight" in error.problem
    assert "bn.bias" in error.problem
    flat = torch.arange(8.0)  # views side by side are harmless
    path = saved(tmp_path, {**tiny_state(), "bn.weight": flat[:4], "bn.bias": flat[4:]})
    assert parse(path, TINY, None, "in.pth").tensors["bn.bias"].tolist() == [4.0, 5.0, 6.0, 7.0]


def test_keys_that_collide_without_their_prefixes(tmp_path: Path) -> None:
    state = {**tiny_state(), "_orig_mod.head.bias": torch.zeros(3)}
    assert "both head.bias" in refuse(saved(tmp_path, state)).problem


# --- the architecture ------------------------------------------------------------------------------


def test_keys_and_shapes_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    state = tiny_state()
    state["head.extra"] = state.pop("bn.weight")
    state["conv.bias"] = torch.zeros(9)
    error = refuse(saved(tmp_path, state))
    assert "missing keys (1): bn.weight" in error.problem
    assert "unexpected keys (1): head.extra" in error.problem
    assert "conv.bias (9,) in the file, (4,) in the architecture" in error.problem


def test_another_number_of_classes_is_guessed(tmp_path: Path) -> None:
    error = refuse(saved(tmp_path, tiny_state()), Architecture("tiny", 10, register=REGISTER))
    assert "head.weight (3, 4) in the file, (10, 4) in the architecture" in error.problem
    assert "tiny with 3 classes" in error.mend


def test_another_architecture_is_guessed(tmp_path: Path) -> None:
    state = Architecture("squeezenet1_0", 7).build("cpu", random_init=True).state_dict()
    save_file(dict(state), tmp_path / "in.safetensors")
    error = refuse(tmp_path / "in.safetensors", Architecture("squeezenet1_1", 7))
    assert "squeezenet1_0 with 7 classes" in error.mend


def test_shapes_are_compared_before_data_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, {**tiny_state(), "head.bias": torch.full((5,), float("nan"))})
    devices: list[str] = []
    load = torch.load

    def spy(*args: Any, **kwargs: Any) -> Any:
        devices.append(kwargs["map_location"])
        assert kwargs["weights_only"]
        assert kwargs["mmap"]
        return load(*args, **kwargs)

    monkeypatch.setattr(torch, "load", spy)
    assert "shapes that differ" in refuse(path).problem
    assert devices == ["meta"]
