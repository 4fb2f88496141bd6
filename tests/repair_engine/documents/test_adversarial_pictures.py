"""Pictures of an attack's fixed set: clean, changed, and the difference magnified by one factor for all."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from repair_engine.data import Dataset
from repair_engine.documents.adversarial_pictures import MOST, write_pictures
from repair_engine.models.preprocessing import Preprocessing
from repair_engine.support import thumbnail_pack

NAMES = ("cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png")
INDICES = np.array([1, 3])


def dataset(channels: int = 1, side: int = 8, n: int = 4) -> Dataset:
    images = np.random.default_rng(0).integers(60, 190, (n, channels, side, side), dtype=np.uint8)
    names = NAMES if n == len(NAMES) else tuple(f"{i}.png" for i in range(n))
    return Dataset(
        names, np.arange(n) * 2 // n, ("cat", "dog"), {}, images, ("",) * n, Preprocessing(channels=channels), "0" * 64
    )


def changed(of: Dataset, by: float) -> torch.Tensor:
    """One pixel of each image brighter, one darker by half as much."""
    pixels = torch.from_numpy(of.images[INDICES]).float() / 255
    pixels[:, :, 0, 0] += by
    pixels[:, :, 1, 1] -= by / 2
    return pixels


def write(path: Path, of: Dataset, pixels: torch.Tensor, targets=None, after=None) -> thumbnail_pack.Pack:
    write_pictures(path, of, INDICES, pixels, targets, np.array([1, 0]), after)
    return thumbnail_pack.read(path)


def shown(path: Path, number: int) -> np.ndarray:
    content = thumbnail_pack.picture(path, number, large=True)
    assert content is not None
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_clean_changed_and_the_difference(tmp_path: Path, channels: int):
    of, path = dataset(channels), tmp_path / "pack"
    found = write(path, of, changed(of, 0.05), np.array([1, 0]), np.array([0, 1]))
    assert found.about == {"magnified": 10, "attacked": 2}
    assert found.names == ("cat/1.png",) * 3 + ("dog/1.png",) * 3
    assert [found.columns[key].at(0) for key in ("target", "before", "after")] == ["dog", "dog", "cat"]
    colours = of.images[1][:1] if channels < 3 else of.images[1][:3]
    clean, other, difference = (shown(path, i) for i in range(3))
    assert np.array_equal(clean, np.broadcast_to(colours.transpose(1, 2, 0), (8, 8, 3)))
    assert set((other - clean)[0, 0]) == {13}  # 0.05 of 255
    assert set(difference[0, 0]) == {255}, "the largest change is as far as can be shown"
    assert set(difference[1, 1]) == {64}
    assert set(difference[4, 4]) == {128}, "grey: no change"


def test_where_nothing_was_changed_the_difference_is_grey(tmp_path: Path):
    of = dataset()
    found = write(tmp_path / "pack", of, changed(of, 0.0))
    assert found.about["magnified"] == 1
    assert set(found.columns) == {"before"}, "no target, and no model after"
    assert np.unique(shown(tmp_path / "pack", 2)).tolist() == [128]


def test_a_large_change_is_not_magnified_beyond_what_can_be_shown(tmp_path: Path):
    of = dataset()
    assert write(tmp_path / "pack", of, torch.zeros(2, 1, 8, 8)).about["magnified"] == 1


def test_large_images_have_a_large_picture(tmp_path: Path):
    of = dataset(3, side=300)
    write(tmp_path / "pack", of, changed(of, 0.1))
    assert shown(tmp_path / "pack", 1).shape == (256, 256, 3)


def test_an_image_that_cannot_be_shown_says_why_and_hides_no_other(tmp_path: Path):
    of = dataset()
    pixels = changed(of, 0.05)
    pixels[0, 0, 3, 3] = torch.nan
    found = write(tmp_path / "pack", of, pixels)
    assert sorted(found.why) == [0, 1, 2]
    assert "no numbers" in found.why[0]
    assert thumbnail_pack.picture(tmp_path / "pack", 1, large=False) is None
    assert found.about["magnified"] == 10
    assert set(shown(tmp_path / "pack", 5)[0, 0]) == {255}


def test_of_very_many_the_first_are_pictured(tmp_path: Path):
    of = dataset(side=2, n=MOST + 5)
    n = len(of.images)
    write_pictures(tmp_path / "pack", of, np.arange(n), torch.zeros(n, 1, 2, 2), None, of.labels, None)
    found = thumbnail_pack.read(tmp_path / "pack")
    assert len(found.names) == 3 * MOST
    assert found.about["attacked"] == n
