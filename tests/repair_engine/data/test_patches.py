"""A trigger's patch on images, and images that carry one beside their clean originals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from repair_engine.data import Dataset
from repair_engine.data.patches import Paste, patch_of, read_patch
from repair_engine.data.triggered import originals, split_together
from repair_engine.errors import BadInput
from repair_engine.models.preprocessing import Preprocessing
from tests.repair_engine import image_sets

RED = np.array([[[255]], [[0]], [[0]]], np.uint8)  # one pixel
PLACES = {
    "top-left": (0, 0),
    "top-right": (0, 5),
    "bottom-left": (3, 0),
    "bottom-right": (3, 5),
    "center": (1, 2),
    "4,2": (2, 4),
}


@pytest.mark.parametrize("place", PLACES)
def test_where_it_lies(place: str) -> None:
    images = np.full((2, 3, 4, 6), 9, np.uint8)
    found = Paste.at(patch_of(RED, 3), place, 1.0, (3, 4, 6)).on(images)
    expected = images.copy()
    expected[:, :, PLACES[place][0], PLACES[place][1]] = [255, 0, 0]
    assert np.array_equal(found, expected)
    assert (images == 9).all(), "what was given is as it was"


def test_it_blends_by_opacity_and_by_its_own_alpha(tmp_path: Path) -> None:
    image = Image.new("RGBA", (2, 1))
    image.putpixel((0, 0), (200, 100, 0, 255))
    image.putpixel((1, 0), (200, 100, 0, 51))  # a fifth
    image.save(tmp_path / "patch.png")
    patch = read_patch(tmp_path / "patch.png", 3)
    grey = np.full((1, 3, 1, 2), 100, np.uint8)
    assert Paste.at(patch, "0,0", 1.0, (3, 1, 2)).on(grey)[0, :, 0].T.tolist() == [[200, 100, 0], [120, 100, 80]]
    assert Paste.at(patch, "0,0", 0.5, (3, 1, 2)).on(grey)[0, :, 0].T.tolist() == [[150, 100, 50], [110, 100, 90]]
    unit = Paste.at(patch, "0,0", 0.5, (3, 1, 2)).on(grey.astype(np.float32) / 255)
    assert np.allclose(unit[0, :, 0, 0] * 255, [150, 100, 50])
    assert unit.dtype == np.float32


def test_a_patch_in_memory_and_in_a_file_are_the_same(tmp_path: Path) -> None:
    pixels = image_sets.pixels(3, 2, 3)
    Image.fromarray(pixels).save(tmp_path / "patch.png")
    arrays = [read_patch(tmp_path / "patch.png", 3), patch_of(Image.fromarray(pixels), 3)]
    arrays += [patch_of(array, 3) for array in (pixels.transpose(2, 0, 1), pixels.transpose(2, 0, 1) / 255)]
    assert all(np.array_equal(one.pixels, pixels.transpose(2, 0, 1)) for one in arrays)
    assert read_patch(tmp_path / "patch.png", 1).pixels.shape == (1, 2, 3)


def wrong(case: str, folder: Path) -> None:
    shape, path = (3, 4, 6), folder / "patch.png"
    if case == "larger":
        Paste.at(patch_of(np.zeros((3, 5, 2), np.uint8), 3), "top-left", 1.0, shape)
    elif case == "outside":
        Paste.at(patch_of(RED, 3), "6,0", 1.0, shape)
    elif case == "channels":
        Paste.at(patch_of(RED, 3), "0,0", 1.0, (1, 4, 6))
    elif case == "flat":
        patch_of(np.zeros((2, 2)), 3)
    elif case == "beyond 1":
        patch_of(np.full((3, 1, 1), 1.5), 3)
    elif case == "transparent":
        Image.new("RGBA", (2, 2)).save(path)
        read_patch(path, 3)
    elif case == "alpha of the images":
        Image.new("RGB", (2, 2)).save(path)
        read_patch(path, 4)
    else:
        path.write_bytes(b"no image")
        read_patch(path, 3)


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("larger", "2 × 5 pixels, larger than the network's input of 6 × 4"),
        ("outside", r"does not lie inside .*\n.*last place is 5,3"),
        ("channels", "3 channels; the images have 1"),
        ("flat", r"shape \[2, 2\]"),
        ("beyond 1", r"not in \[0, 1\]"),
        ("transparent", "wholly transparent"),
        ("alpha of the images", "alpha channel of their own"),
        ("no image", r"patch.png is not a JPEG, PNG or WebP image.*\n.*Give a PNG"),
    ],
)
def test_what_is_no_patch_is_said(case: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=said):
        wrong(case, tmp_path)


def dataset(images: np.ndarray, labels: np.ndarray, names: list[str]) -> Dataset:
    hashes = tuple(str(hash(image.tobytes())) for image in images)
    return Dataset(tuple(names), labels, ("a", "b"), {}, images, hashes, Preprocessing(), "0" * 64)


@pytest.mark.parametrize("named", [True, False])
def test_a_copy_lies_in_the_split_of_its_original(named: bool) -> None:
    """Known by its pixels under another name, and by its name where the trigger touches all pixels."""
    rng = np.random.default_rng(0)
    clean, labels = rng.integers(0, 256, (60, 3, 16, 16), dtype=np.uint8), np.arange(60) % 2
    order = rng.permutation(60)[:40]
    triggered = clean[order].copy()
    if named:
        triggered = 255 - triggered
    else:
        triggered[:, :, -3:, -3:] = 7
    strangers = rng.integers(0, 256, (20, 3, 16, 16), dtype=np.uint8)
    own = [f"{'ab'[i % 2]}/{i}.png" for i in range(60)]
    names = [own[i] if named else f"x/{n}.png" for n, i in enumerate(order)] + [f"y/{n}.png" for n in range(20)]
    first = dataset(clean, labels, own)
    second = dataset(np.concatenate([triggered, strangers]), np.concatenate([labels[order], np.arange(20) % 2]), names)
    copies = originals(first, second)
    assert copies.tolist() == [*order.tolist(), *[-1] * 20]
    splits, theirs = split_together(first, second, copies, None, seed=0)
    part_of = {i: part for part in ("score", "select", "report") for i in getattr(splits, part).tolist()}
    parts = {i: part for part in ("score", "select", "report") for i in getattr(theirs, part).tolist()}
    assert sorted(part_of) == list(range(60))
    assert sorted(parts) == list(range(60))
    assert all(parts[n] == part_of[i] for n, i in enumerate(order.tolist()))
    for found in (splits, theirs):  # halves and quarters of both
        assert [abs(len(getattr(found, p)) - n) <= 2 for p, n in (("score", 30), ("select", 15), ("report", 15))] == [
            True, True, True,
        ]  # fmt: skip


def test_images_on_one_ground_are_not_taken_for_copies() -> None:
    rng = np.random.default_rng(1)
    ground = np.zeros((30, 1, 16, 16), np.uint8)
    shown, others = ground.copy(), ground.copy()
    for images in (shown, others):
        images[:, :, 5:11, 5:11] = rng.integers(0, 256, (30, 1, 6, 6))
    labels = np.zeros(30, np.int64)
    numbers = [f"{i:02d}" for i in range(30)]  # in memory
    assert (originals(dataset(shown, labels, numbers), dataset(others, labels, numbers)) == -1).all()
