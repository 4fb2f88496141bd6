"""Files that people could upload, and their mutations: bytes anywhere, and damage that keeps the checksums right."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from tests.repair_engine.image_sets import encoded, pixels
from tests.repair_engine.models.test_checkpoint_round_trip import tiny_state
from tests.repair_engine.onnx_models import export

NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 63, (1 << 64) - 1)
CSV = "file_name,label,subgroup\ncat/0.png,cat,light\ncat/1.png,cat,dark\ndog/0.jpg,dog,light\ndog/1.webp,dog,dark\n"
NAMES = (
    "../../x.png",
    "/etc/passwd",
    "cat/0.png",
    "a" * 300 + "/1.png",
    "c\u202eat/1.png",
    "cat\\1.png",
    "cat/\x00.png",
)
CONFIG = {"model_type": "resnet", "architectures": ["ResNetForImageClassification"], "id2label": {"0": "a", "1": "b"}}

Bytes = Callable[[random.Random, bytes], bytes]


class Payload:
    """Pickled, it would leave a file: the proof that something was executed."""

    def __init__(self, proof: Path, how: int) -> None:
        import os
        import subprocess

        code = f"open({str(proof)!r}, 'a').close()"
        self.call = [
            (os.system, (f"touch {proof}",)),
            (exec, (code,)),
            (eval, (code,)),
            (subprocess.call, (["touch", str(proof)],)),
            (open, (str(proof), "a")),
        ][how % 5]

    def __reduce__(self) -> tuple:
        return self.call


def payloads(proof: Path) -> list[bytes]:
    """Pickles that would run code, and fragments that hide the name from who looks at the last two strings."""
    touch = f"touch {proof}".encode()
    harmless = b"\x8c\x0bcollections\x8c\x0bOrderedDict"
    argument = b"\x8c" + bytes([len(touch)]) + touch + b"\x85R"
    hidden = [
        b"\x8c\x05posix\x8c\x06system" + harmless + b"00\x93" + argument,
        b"(" + b"\x8c\x05posix\x8c\x06system(" + harmless + b"1\x93" + argument,
        b"\x8c\x05posix\x94\x8c\x06system\x94" + harmless + b"0000h\x00h\x01\x93" + argument,
        b"cposix\nsystem\n" + argument,
        b"(" + argument[:-2] + b"iposix\nsystem\n",
    ]
    whole = [pickle.dumps({"x": Payload(proof, how)}, protocol) for how in range(5) for protocol in (0, 2, 4)]
    return [*hidden, *whole]


def seeds(proof: Path) -> dict[str, list[bytes]]:
    """Kind of upload -> valid ones, and ones that would run code."""
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        small = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
        onnx = export(small.eval(), Path(folder) / "m.onnx", torch.zeros(2, 3, 8, 8)).read_bytes()
    state = tiny_state()
    evil = [_saved({**state, "x": Payload(proof, how)}) for how in range(5)]
    return {
        "pth": [_saved(state), _saved({"epoch": 3, "state_dict": state, "best": 0.5}), *evil],
        "pickle": payloads(proof),
        "safetensors": [save(state), save({k: v.half() if v.is_floating_point() else v for k, v in state.items()})],
        "onnx": [onnx],
        "zip": [_zip(_images()), _zip(_images(), zipfile.ZIP_DEFLATED)],
        "csv": [CSV.encode(), CSV.replace("\n", "\r\n").encode("utf-16"), CSV.replace(",", ";").encode()],
        "hugging face": [_zip({"config.json": json.dumps(CONFIG).encode(), "model.safetensors": save(state)})],
    }


def mutate(rng: random.Random, kind: str, data: bytes, pool: list[bytes], fragments: list[bytes]) -> bytes:
    """One to four changes."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        if kind in ("pth", "zip", "hugging face") and rng.random() < 0.7:
            data = _inside_zip(rng, data, fragments)
        elif kind == "safetensors" and rng.random() < 0.6:
            data = _header(rng, data)
        elif kind == "pickle" and rng.random() < 0.6:
            data = _pickle(rng, data, fragments)
        else:
            data = _bytes(rng, data, pool)
    return data


def _saved(content: object) -> bytes:
    out = io.BytesIO()
    torch.save(content, out)
    return out.getvalue()


def _images() -> dict[str, bytes]:
    kinds = {"cat/0.png": "PNG", "cat/1.png": "PNG", "dog/0.jpg": "JPEG", "dog/1.webp": "WEBP"}
    images = {name: encoded(pixels(i, 16, 16), kind) for i, (name, kind) in enumerate(kinds.items())}
    return {**images, "metadata.csv": CSV.encode()}


def with_table(table: bytes) -> bytes:
    """An image set with this metadata.csv, as such a table is uploaded."""
    return _zip({**_images(), "metadata.csv": table})


def _zip(entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", method) as archive:
        warnings.simplefilter("ignore")
        for name, content in entries.items():
            archive.writestr(name, content)
    return out.getvalue()


def _bytes(rng: random.Random, data: bytes, pool: list[bytes]) -> bytes:
    """Bits, bytes, numbers at the edge, pieces cut, doubled, moved or taken from another file."""
    made = bytearray(data)
    at = rng.randrange(len(made) + 1)
    length = min(rng.choice((1, 2, 4, 8, 64, 1024)), max(len(made) - at, 1))
    how = rng.randrange(7)
    if how == 0 and at < len(made):
        made[at] ^= 1 << rng.randrange(8)
    elif how == 1 and at < len(made):
        made[at] = rng.randrange(256)
    elif how == 2:
        width = rng.choice("BHIQ")
        number = rng.choice(NUMBERS) & ((1 << 8 * struct.calcsize(width)) - 1)
        made[at : at + struct.calcsize(width)] = struct.pack(rng.choice("<>") + width, number)
    elif how == 3:
        del made[at : at + length]
    elif how == 4:
        made[at:at] = made[at : at + length] * rng.choice((1, 2, 50))
    elif how == 5:
        del made[at:]
    else:
        other = rng.choice(pool)
        start = rng.randrange(len(other) + 1)
        made[at : at + length] = other[start : start + length]
    return bytes(made)


def _inside_zip(rng: random.Random, data: bytes, fragments: list[bytes]) -> bytes:
    """An entry changed, renamed, doubled or left out, the archive around it made anew: its checksums are right."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [(entry, archive.read(entry)) for entry in archive.infolist()]
    except Exception:  # it has been damaged before
        return _bytes(rng, data, [data])
    if not entries:
        return data
    at = rng.randrange(len(entries))
    pickles = [i for i, (entry, _) in enumerate(entries) if entry.filename.endswith("data.pkl")]
    if pickles and rng.random() < 0.6:
        at = pickles[0]
    entry, content = entries[at]
    name, method, how = entry.filename, entry.compress_type, rng.randrange(10)
    made = [(e.filename, c) for e, c in entries]
    if how == 0:
        made[at] = (rng.choice(NAMES), content)
    elif how == 1:
        made.append((name, content))
    elif how == 2:
        del made[at]
    elif how == 3:
        method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
        made[at] = (name, content * rng.choice((1, 100)))
    elif name.endswith(".pkl"):
        made[at] = (name, _pickle(rng, content, fragments))
    else:
        made[at] = (name, _bytes(rng, content, [c for _, c in made]))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out = io.BytesIO()
            with zipfile.ZipFile(out, "w", method) as archive:
                for one, inside in made:
                    archive.writestr(one or "x", inside)
            return out.getvalue()
    except Exception:  # a name that cannot be written
        return data


def _pickle(rng: random.Random, data: bytes, fragments: list[bytes]) -> bytes:
    """A fragment that runs code put anywhere, or an opcode in the place of another."""
    at = rng.randrange(len(data) + 1)
    how = rng.randrange(3)
    if how == 0:
        return data[:at] + rng.choice(fragments) + data[at:]
    if how == 1:  # right after the protocol, where a stack is sure to be right
        return data[:2] + rng.choice(fragments) + b"0" + data[2:]
    opcode = rng.choice(b"(.0125bBcCdeghijlopqrRsStuUVX]}\x80\x81\x82\x85\x86\x87\x8c\x93\x94\x95\x96\x97\x98")
    return data[:at] + bytes([opcode]) + data[at + rng.randrange(2) :]


def _header(rng: random.Random, data: bytes) -> bytes:
    """A header of safetensors with an entry that lies."""
    try:
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + length])
        name = rng.choice(sorted(header))
        entry = header[name]
        how = rng.randrange(6)
        if how == 0:
            entry["data_offsets"][rng.randrange(2)] = rng.choice((*NUMBERS, -1))
        elif how == 1:
            entry["shape"] = rng.choice(([], [0], [1 << 40, 1 << 40], [-1], [2.5], ["a"], [True]))
        elif how == 2:
            entry["dtype"] = rng.choice(("F64", "F32", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "C64", "", None, 5))
        elif how == 3:
            header[rng.choice(("__metadata__", "", "x" * 5000, "module." + name))] = rng.choice(
                (entry, {"a": 1}, None, [])
            )
        elif how == 4:
            del header[name]
        else:
            return struct.pack("<Q", rng.choice(NUMBERS)) + data[8:]
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data[8 + length :]
    except (ValueError, KeyError, TypeError, struct.error, IndexError, AttributeError):
        return _bytes(rng, data, [data])
