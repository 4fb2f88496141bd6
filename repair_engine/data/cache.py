"""Preprocessed pixels on disk, by the hash of the zip and of the preprocessing."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL

from repair_engine.models.preprocessing import Preprocessing

_VERSION = 2  # of the files' layout, and of the warnings beside the pixels


@dataclass(frozen=True)
class Pixels:
    """Preprocessed images: uint8 [N, C, H, W], the sha256 of each image's pixels, and warnings."""

    images: np.ndarray
    hashes: tuple[str, ...]
    warnings: tuple[str, ...]


def cache_key(archive_sha256: str, preprocessing: Preprocessing, picked: np.ndarray | None = None) -> str:
    """Mean and std do not change the pixels, so they are no part of it; Pillow's version is.

    Args:
        picked: indices of the images, where these are not all.
    """
    shape = {k: v for k, v in preprocessing.to_json().items() if k not in ("mean", "std")}
    parts = {"version": _VERSION, "archive": archive_sha256, "pillow": PIL.__version__, **shape}
    if picked is not None:
        parts["picked"] = picked.tolist()
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def load_pixels(folder: Path, key: str) -> Pixels | None:
    """What was stored under the key, mapped from the disk; None where there is nothing usable."""
    try:
        notes = json.loads((folder / f"{key}.json").read_text())
        images = np.load(folder / f"{key}.npy", mmap_mode="r")
    except (OSError, ValueError):
        return None
    if images.dtype != np.uint8 or len(images) != len(notes["hashes"]):
        return None
    return Pixels(images, tuple(notes["hashes"]), tuple(notes["warnings"]))


class NewPixels:
    """Allocates one array, and stores it under a key once it is full.

    The array is in memory; with a cache folder, or above `in_memory` bytes, it is mapped from a file.
    """

    def __init__(self, folder: Path | None, in_memory: int) -> None:
        self._folder = folder
        self._in_memory = in_memory
        self._temporary: Path | None = None

    def __enter__(self) -> NewPixels:
        return self

    def allocate(self, shape: tuple[int, ...]) -> np.ndarray:
        if self._folder is None and int(np.prod(shape)) <= self._in_memory:
            return np.empty(shape, np.uint8)
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix="pixels-", suffix=".part", dir=self._folder)
        os.close(handle)
        self._temporary = Path(name)
        array = np.lib.format.open_memmap(name, "w+", np.uint8, shape)
        _take_room(self._temporary)
        return array

    def store(self, key: str, pixels: Pixels) -> Pixels:
        """Atomic: the array first, then the JSON that makes it valid. Gives back what cannot be written to."""
        if self._folder is None or self._temporary is None:
            return pixels
        if isinstance(pixels.images, np.memmap):
            pixels.images.flush()
        os.replace(self._temporary, self._folder / f"{key}.npy")
        self._temporary = None
        handle, name = tempfile.mkstemp(prefix="pixels-", suffix=".part", dir=self._folder)
        with os.fdopen(handle, "w") as file:
            json.dump({"hashes": pixels.hashes, "warnings": pixels.warnings}, file)
        os.replace(name, self._folder / f"{key}.json")
        return Pixels(np.load(self._folder / f"{key}.npy", mmap_mode="r"), pixels.hashes, pixels.warnings)

    def __exit__(self, *exception: object) -> None:
        if self._temporary is not None:  # the mapping stays valid, the disk space goes with the array
            self._temporary.unlink(missing_ok=True)


def _take_room(path: Path) -> None:
    """Has the disk set aside what a file says it holds: a write to a mapped page without room would be a SIGBUS.

    Raises:
        OSError: ENOSPC. Nothing was taken then: a disk filled to the brim would stop others, a database say.
    """
    size = path.stat().st_size
    if size > shutil.disk_usage(path.parent).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, size)
