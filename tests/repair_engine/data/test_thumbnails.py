"""Thumbnails: decoded apart, packed in one file, read by offset; what cannot be shown says why."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from repair_engine.data import thumbnails
from repair_engine.errors import BadInput
from repair_engine.support import sandbox, thumbnail_pack


def encoded(size: tuple[int, int], value: int = 90, kind: str = "PNG", mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.effect_noise(size, 40).point(lambda p: (p + value) % 256).convert(mode).save(out, kind)
    return out.getvalue()


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def opened(data: bytes | None) -> Image.Image:
    assert data is not None
    return Image.open(io.BytesIO(data), formats=("WEBP",))


@pytest.fixture
def made(tmp_path: Path) -> Path:
    files = {
        "cat/1.png": encoded((8, 6)),
        "cat/2.jpg": encoded((900, 300), kind="JPEG"),
        "cat/3.png": b"\x89PNG\r\n\x1a\nrubbish",
        "dog/1.png": encoded((120, 100), mode="RGBA"),
        "dog/=2+3.webp": encoded((40, 400), kind="WEBP"),
        "metadata.csv": b'file_name,ground\ncat/1.png,"=light"\ncat/2.jpg,dark\ncat/3.png,\ndog/1.png,dark\n'
        b"dog/=2+3.webp,dark\n",
    }
    data, told = zipped(tmp_path / "images.zip", files), []
    thumbnails.make(data, tmp_path / "pack", progress=lambda done, total: told.append((done, total)))
    assert told == [(i, 5) for i in range(1, 6)]
    return tmp_path / "pack"


def test_names_labels_and_columns_come_with_the_pictures(made: Path) -> None:
    found = thumbnail_pack.read(made)
    assert found.names == ("cat/1.png", "cat/2.jpg", "cat/3.png", "dog/1.png", "dog/=2+3.webp")
    assert [found.labels.at(i) for i in range(5)] == ["cat"] * 3 + ["dog"] * 2
    assert [found.columns["ground"].at(i) for i in range(5)] == ["=light", "dark", "", "dark", "dark"]
    assert found.sizes.tolist() == [[8, 6], [900, 300], [0, 0], [120, 100], [40, 400]]
    assert list(found.why) == [2]
    assert "cat/3.png is" in found.why[2]


def test_each_size_keeps_the_shape(made: Path) -> None:
    sizes = {i: [opened(thumbnail_pack.picture(made, i, large)).size for large in (False, True)] for i in (0, 1, 3, 4)}
    assert sizes == {
        0: [(8, 6)] * 2,
        1: [(128, 43), (256, 85)],
        3: [(120, 100)] * 2,
        4: [(13, 128), (26, 256)],
    }
    assert thumbnail_pack.picture(made, 2, False) is None
    assert thumbnail_pack.picture(made, 5, False) is None


def test_no_pixel_of_a_tiny_image_is_lost() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    small, large = thumbnails.pictures(image)
    assert large == b""
    assert np.array_equal(np.asarray(opened(small).convert("RGB")), np.asarray(image))


def webp() -> bytes:
    return b"RIFF\0\0\0\0WEBP"


@pytest.mark.parametrize(
    ("poured", "why"),
    [
        (struct.pack("<4I", 12, 0, 1, 1) + b"<svg onload>", "another format"),
        (struct.pack("<4I", 1 << 20, 0, 1, 1), "too large a picture"),
        (struct.pack("<4I", 0, 1 << 20, 0, 0), "too long a reason"),
        (struct.pack("<4I", 12, 0, 1, 1) + webp(), "too few"),
        ((struct.pack("<4I", 12, 0, 1, 1) + webp()) * 3, "too many"),
    ],
)
def test_a_child_that_was_taken_over_is_not_believed(tmp_path: Path, monkeypatch, poured: bytes, why: str) -> None:
    data = zipped(tmp_path / "images.zip", {"a/1.png": encoded((8, 8)), "b/2.png": encoded((8, 8))})

    def call(*_: object, pours: dict, **__: object) -> dict:
        for i in range(0, len(poured), 7):
            pours["out"](poured[i : i + 7])
        return {}

    monkeypatch.setattr(sandbox, "call", call)
    with pytest.raises(BadInput, match="no usable answer"):
        thumbnails.make(data, tmp_path / "pack")
