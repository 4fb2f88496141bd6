"""Every file that is no usable checkpoint is refused with its reason, and nothing in it runs."""

from __future__ import annotations

import copy
import io
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
from safetensors.torch import save_file
from torch import nn

from repair_engine.errors import BadInput
from repair_engine.models import formats
from repair_engine.models.formats import pickles
from repair_engine.models.formats.convert import parse
from tests.repair_engine.bad_checkpoints import refuse, saved
from tests.repair_engine.factories import Tiny
from tests.repair_engine.models.test_checkpoint_round_trip import TINY, tiny_state

STATE_DICT_LINES = ("sd = model.state_dict()", 'torch.save(sd, "weights.pth")')


class Runs:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.system, (f"touch {self.path}",)


def repacked(path: Path, change: Callable[[str, bytes], bytes | None], method: int = zipfile.ZIP_STORED) -> Path:
    """The archive again with changed entries (None: left out)."""
    out = path.with_name("changed.pth")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w", method) as new:
        for entry in old.infolist():
            data = change(entry.filename, old.read(entry))
            if data is not None:
                new.writestr(entry.filename, data)
    return out


# --- code ------------------------------------------------------------------------------------------


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


# --- structure -------------------------------------------------------------------------------------


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
