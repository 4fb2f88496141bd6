"""The child process keeps its limits, and its end is always an answer."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from repair_engine.data import inspect_archive
from repair_engine.errors import BadInput
from repair_engine.support import sandbox


def big_image(path: Path) -> Path:
    image = path.with_suffix(".png")
    Image.fromarray(np.zeros((6000, 6000, 3), np.uint8)).save(image)  # 108 MB decoded
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(image, "cat/1.png")
    return path


def test_memory_limit(tmp_path: Path) -> None:
    path = big_image(tmp_path / "a.zip")
    with pytest.raises(BadInput, match="more than the allowed 64 MiB"):
        inspect_archive(path, limits=sandbox.Limits(memory_bytes=64 << 20))
    assert inspect_archive(path, limits=sandbox.Limits(memory_bytes=512 << 20)).n_images == 1


def test_processor_time_limit(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        image = tmp_path / "1.png"
        Image.fromarray(np.zeros((5000, 5000, 3), np.uint8)).save(image)
        for i in range(60):
            archive.write(image, f"cat/{i}.png")
    with pytest.raises(BadInput, match="was stopped"):
        inspect_archive(tmp_path / "a.zip", limits=sandbox.Limits(cpu_seconds=1))


def test_real_time_limit(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="took longer than"):
        inspect_archive(big_image(tmp_path / "a.zip"), limits=sandbox.Limits(wall_seconds=0.05))  # type: ignore[arg-type]


def test_unknown_tasks_do_not_run() -> None:
    with pytest.raises(KeyError):
        sandbox.call("os:system", {}, sandbox.Limits())
