"""Zips of small images that tests make themselves."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def pixels(seed: int, height: int = 8, width: int = 8, channels: int = 3) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG") -> bytes:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def png(seed: int, height: int = 8, width: int = 8) -> bytes:
    return encoded(pixels(seed, height, width))


def make_zip(path: Path, entries: Mapping[str, bytes | str], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def two_classes(extra: Mapping[str, bytes | str] | None = None) -> dict[str, bytes | str]:
    """Two images each of cat and dog."""
    names = ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png")
    return {**{name: png(i) for i, name in enumerate(names)}, **(extra or {})}
