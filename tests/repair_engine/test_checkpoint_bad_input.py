"""Every unusable checkpoint is refused with its reason, and nothing in it runs."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn

from repair_engine import formats
from repair_engine.architectures import Architecture
from repair_engine.errors import BadInput
from repair_engine.formats import pickles, safetensors_file
from repair_engine.formats.convert import parse
from tests.repair_engine.factories import REGISTER, Tiny
from tests.repair_engine.test_checkpoint_round_trip import TINY, State, tiny_state

STATE_DICT_LINES = ("sd = model.state_dict()", 'torch.save(sd, "weights.pth")')


class Runs:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.system, (f"touch {self.path}",)


def refuse(path: Path, architecture: Architecture = TINY, name: str = "") -> BadInput:
    with pytest.raises(BadInput) as caught:
        parse(path, architecture, None, name or path.name)
    return caught.value


def saved(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "in.pth"
    torch.save(content, path)
    return path


def repacked(path: Path, change: Callable[[str, bytes], bytes | None], method: int = zipfile.ZIP_STORED) -> Path:
    """The archive again with changed entries (None: left out)."""
    out = path.with_name("changed.pth")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w", method) as new:
        for entry in old.infolist():
            data = change(entry.filename, old.read(entry))
            if data is not None:
                new.writestr(entry.filename, data)
    return out


# --- code ---------------------------------------------------------------------------------------------


def test_a_pickle_that_would_run_code_does_not_run(tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    torch.save({**tiny_state(), "x": Runs(proof)}, tmp_path / "archive.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps({"x": Runs(proof)}))
    (tmp_path / "old.pkl").write_bytes(pickle.dumps(Runs(proof), protocol=2))
    for name in ("archive.pth", "bare.pth", "old.pkl"):
        error = refuse(tmp_path / name)
        assert "posix.system" in error.problem
        assert all(line in error.mend for line in STATE_DICT_LINES)
    with pytest.raises(BadInput, match=r"posix\.system"):
        formats.read(tmp_path / "archive.pth", TINY)
    assert not proof.exists()
    pickle.loads((tmp_path / "bare.pth").read_bytes())  # the proof would have been there
    assert proof.exists()


def test_a_whole_pickled_module_names_its_class(tmp_path: Path) -> None:
    error = refuse(saved(tmp_path, Tiny(3, 3, 4)))
    assert "tests.repair_engine.factories.Tiny" in error.problem
    assert all(line in error.mend for line in STATE_DICT_LINES)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_torchscript_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scripted.pt"
    torch.jit.trace(nn.Conv2d(3, 4, 1), torch.ones(1, 3, 4, 4)).save(str(path))
    assert "TorchScript" in refuse(path).problem


def test_pt2_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "exported.pt2"
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),)), path)
    assert ".pt2" in refuse(path).problem


def test_the_format_before_1_6_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    torch.save(tiny_state(), path, _use_new_zipfile_serialization=False)
    error = refuse(path)
    assert "before 1.6" in error.problem
    assert "weights_only=True" in error.mend


def test_onnx_is_known_by_content_and_brings_its_own_architecture(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x08\x12\x07pytorch\x1a\x052.0.0")
    assert "its graph is its architecture" in refuse(path).problem
    assert "its graph is its architecture" in refuse(path, name="renamed.pth").problem


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_globals_are_found_in_every_pickle_protocol(protocol: int) -> None:
    found = pickles.globals_of(pickle.dumps([Runs(Path("x")), Runs(Path("y")), io.StringIO], protocol))
    assert found == ["posix.system", "_io.StringIO"]


# --- structure ----------------------------------------------------------------------------------------


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    contents = {
        "empty.pth": (b"", "is empty"),
        "text.pth": (b"hello world, this is text", "neither a safetensors file nor"),
        "zeros.safetensors": (bytes(1000), "not a safetensors file"),
        "numbers.pth": (pickle.dumps([1, 2, 3]), "bare pickle"),
    }
    for name, (data, message) in contents.items():
        (tmp_path / name).write_bytes(data)
        assert message in refuse(tmp_path / name).problem
    assert "is a folder" in refuse(tmp_path).problem
    assert "no file" in refuse(tmp_path / "absent.pth").problem
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("cat/1.png", b"x")
    assert "not one that torch.save wrote" in refuse(tmp_path / "images.zip").problem


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "empty"),
        ([torch.ones(2)], "holds a list"),
        (torch.ones(2), "holds a Tensor"),
        ({"epoch": 3, "optimizer": {"state": {}}}, "no state dict that is known by its name"),
        ({0: torch.ones(2)}, "not names"),
        ({"conv.weight": torch.ones(2), "epoch": 3}, "not tensors|other entries"),
        ({"model": {"conv.weight": torch.ones(1)}, "net": {"conv.weight": torch.ones(1)}}, "several state dicts"),
        ({"a": {"b": {"model": {"c": {"d": 1}}}}}, "no state dict"),
    ],
)
def test_objects_that_are_no_state_dict(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        parse(saved(tmp_path, content), TINY, None, "in.pth")


def test_truncated_archives(tmp_path: Path) -> None:
    path = saved(tmp_path, tiny_state())
    data = path.read_bytes()
    for keep in (10, len(data) // 2, len(data) - 30):
        (tmp_path / "cut.pth").write_bytes(data[:keep])
        assert "damaged or cut short" in refuse(tmp_path / "cut.pth").problem


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_compressed_encrypted_and_repeated_entries(tmp_path: Path) -> None:
    path = saved(tmp_path, {k: torch.zeros_like(v) for k, v in tiny_state().items()})
    deflated = repacked(path, lambda _, data: data, zipfile.ZIP_DEFLATED)
    assert "is compressed" in refuse(deflated).problem
    flagged = bytearray(path.read_bytes())
    at = flagged.index(b"PK\x01\x02")
    flagged[at + 8] |= 1
    (tmp_path / "locked.pth").write_bytes(flagged)
    assert "encrypted" in refuse(tmp_path / "locked.pth").problem
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "twice.pth", "w") as new:
        for entry in [*old.infolist(), old.infolist()[-1]]:
            new.writestr(entry.filename, old.read(entry))
    assert "twice" in refuse(tmp_path / "twice.pth").problem


def test_entries_that_overlap_claim_more_than_the_file_has(tmp_path: Path) -> None:
    path = saved(tmp_path, tiny_state())
    with zipfile.ZipFile(path, "a") as archive:
        biggest = max(archive.infolist(), key=lambda entry: entry.file_size)
        for i in range(40):  # directory entries that all point to the same large piece
            twin = copy.copy(biggest)
            twin.filename = twin.orig_filename = f"in/extra{i}"
            archive.filelist.append(twin)
        archive._didModify = True
    assert "claim more bytes" in refuse(path).problem


def test_broken_pickles_and_missing_data(tmp_path: Path) -> None:
    path = saved(tmp_path, tiny_state())
    half = repacked(path, lambda name, data: data[: len(data) // 2] if name.endswith("data.pkl") else data)
    assert "broken or cut short" in refuse(half).problem
    gone = repacked(path, lambda name, data: None if name.endswith("data/0") else data)
    assert "in" in refuse(gone).problem
    big = repacked(path, lambda name, data: b"big" if name.endswith("byteorder") else data)
    assert "big-endian" in refuse(big).problem


def test_one_flipped_bit_in_the_data_is_noticed(tmp_path: Path) -> None:
    path = saved(tmp_path, tiny_state())
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo("in/data/0")
    name_and_extra = struct.unpack_from("<HH", data, entry.header_offset + 26)
    data[entry.header_offset + 30 + sum(name_and_extra)] ^= 1
    path.write_bytes(data)
    assert "checksum of its entry in/data/0" in refuse(path).problem


@pytest.mark.parametrize("seed", range(40))
def test_damage_anywhere_is_refused_or_harmless(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    torch.save(tiny_state(), tmp_path / "a.pth")
    save_file(tiny_state(), tmp_path / "a.safetensors")
    for name in ("a.pth", "a.safetensors"):
        data = bytearray((tmp_path / name).read_bytes())
        data[rng.randrange(len(data))] = rng.randrange(256)
        (tmp_path / name).write_bytes(data)
        try:
            found = parse(tmp_path / name, TINY, None, name)
        except BadInput:
            continue
        assert sorted(found.tensors) == sorted(tiny_state())
        if name == "a.pth":  # checksums; safetensors has none for its numbers
            assert all(torch.equal(found.tensors[key], value) for key, value in tiny_state().items())


def test_a_storage_that_is_shorter_than_its_tensor(tmp_path: Path) -> None:
    path = saved(tmp_path, tiny_state())
    short = repacked(path, lambda name, data: data[:8] if name.endswith("data/0") else data)
    error = refuse(short)
    assert isinstance(error, BadInput)


# --- tensors ------------------------------------------------------------------------------------------


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


# --- safetensors --------------------------------------------------------------------------------------


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


# --- the architecture ---------------------------------------------------------------------------------


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
