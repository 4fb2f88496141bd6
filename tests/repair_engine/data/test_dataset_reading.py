from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from repair_engine.data import inspect_archive, read_dataset, reading
from repair_engine.data.inspection import inspect_here
from repair_engine.errors import BadInput
from repair_engine.models.classes import ClassNames, read_class_names
from repair_engine.models.preprocessing import Preprocessing
from tests.repair_engine.image_sets import encoded, make_zip, pixels, png, two_classes

DATA = Path(__file__).parents[4] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is absent: real images are not tested")
CATDOG = ClassNames(2, ("cat", "dog"), source="the test")
TABLE = "file_name,label,subgroup\ncat/1.png,cat,a\ncat/2.png,cat,b\ndog/1.png,dog,a\ndog/2.png,dog,b\n"


def test_images_labels_and_attributes(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", two_classes({"metadata.csv": TABLE}))
    data = read_dataset(path, CATDOG, Preprocessing())
    assert data.file_names == ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png")
    assert data.labels.tolist() == [0, 0, 1, 1]
    assert data.labels.dtype == np.int64
    assert data.class_names == ("cat", "dog")
    assert data.attributes == {"subgroup": ("a", "b", "a", "b")}
    assert data.images.dtype == np.uint8
    for i in range(4):
        assert np.array_equal(data.images[i], pixels(i).transpose(2, 0, 1))
        assert data.pixel_hashes[i] == hashlib.sha256(data.images[i].tobytes()).hexdigest()
    assert data.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (data.warnings, data.notes) == ((), ())


def test_the_order_of_entries_does_not_matter(tmp_path: Path) -> None:
    entries = two_classes()
    first = read_dataset(make_zip(tmp_path / "a.zip", entries), CATDOG, Preprocessing())
    second = read_dataset(make_zip(tmp_path / "b.zip", dict(reversed(entries.items()))), CATDOG, Preprocessing())
    assert first.file_names == second.file_names
    assert np.array_equal(first.images, second.images)


def test_a_common_root_folder_and_litter_are_tolerated(tmp_path: Path) -> None:
    entries = {f"my set/{name}": data for name, data in two_classes({"metadata.csv": TABLE}).items()}
    litter = {
        "__MACOSX/my set/cat/._1.png": b"junk",
        "my set/cat/.DS_Store": b"junk",
        "my set/Thumbs.db": b"junk",
        "my set/dog/": b"",
    }
    data = read_dataset(make_zip(tmp_path / "a.zip", {**entries, **litter}), CATDOG, Preprocessing())
    assert data.file_names[0] == "my set/cat/1.png"  # as in the zip
    assert data.attributes["subgroup"] == ("a", "b", "a", "b")
    assert data.warnings == ()


def test_folders_in_a_class_folder_belong_to_the_class(tmp_path: Path) -> None:
    entries = {"cat/young/1.png": png(0), "cat/2.png": png(1), "dog/old/1.png": png(2)}
    data = read_dataset(make_zip(tmp_path / "a.zip", entries), CATDOG, Preprocessing())
    assert data.labels.tolist() == [0, 0, 1]


def test_other_files_are_left_aside_with_a_warning(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", two_classes({"README.txt": "hello"}))
    assert "README.txt" in read_dataset(path, CATDOG, Preprocessing()).warnings[0]


@pytest.mark.parametrize(
    "table",
    [
        "﻿" + TABLE,
        TABLE.replace("\n", "\r\n"),
        TABLE.replace("cat/", "cat\\").replace("dog/", "./dog/"),
        TABLE.replace(",cat,", ",0,").replace(",dog,", ",1,"),
        "subgroup, label ,file_name\n\nb,cat,cat/2.png\na,cat,cat/1.png\nb,dog,dog/2.png\na,dog,dog/1.png\n",
    ],
    ids=["bom", "windows", "paths", "integer labels", "other order"],
)
def test_forms_of_metadata(table: str, tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", two_classes({"metadata.csv": table.encode()}))
    assert read_dataset(path, CATDOG, Preprocessing()).attributes == {"subgroup": ("a", "b", "a", "b")}


def test_columns_that_are_missing_or_have_one_value(tmp_path: Path) -> None:
    table = TABLE.replace(",b\n", ",a\n")
    data = read_dataset(make_zip(tmp_path / "a.zip", two_classes({"metadata.csv": table})), CATDOG, Preprocessing())
    with pytest.raises(BadInput, match="no column 'skin'") as caught:
        data.column("skin")
    assert "subgroup" in caught.value.mend
    assert data.column("subgroup") == ("a",) * 4
    with pytest.raises(BadInput, match="only the value 'a'"):
        data.column("subgroup", least=2)


def test_different_sizes_name_two_images_and_the_options(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", two_classes({"dog/3.png": png(9, 5, 7)}))
    with pytest.raises(BadInput, match=r"cat/1\.png is 8 × 8, dog/3\.png is 7 × 5") as caught:
        read_dataset(path, CATDOG, Preprocessing())
    assert "--resize" in caught.value.mend
    assert "--crop" in caught.value.mend
    assert read_dataset(path, CATDOG, Preprocessing(resize=8, crop=8)).images.shape == (5, 3, 8, 8)


def test_oddities_are_warned_of(tmp_path: Path) -> None:
    deep = Image.fromarray(np.full((8, 8), 300, np.uint16))
    frames = [Image.fromarray(pixels(i)) for i in (20, 21)]
    frames[0].save(tmp_path / "moving.webp", save_all=True, append_images=frames[1:], lossless=True)
    extra = {
        "cat/deep.png": encoded(deep),
        "cat/moving.webp": (tmp_path / "moving.webp").read_bytes(),
        "dog/twin.png": png(0),
    }
    path = make_zip(tmp_path / "a.zip", two_classes(extra))
    data = read_dataset(path, CATDOG, Preprocessing(crop=10, channels=1))
    text = "\n".join(data.warnings)
    assert "cat/deep.png" in text
    assert "clipped" in text
    assert "cat/moving.webp" in text
    assert "black borders" in text
    assert "pixel-identical" in text
    assert "different labels, such as cat/1.png and dog/twin.png" in text


def test_exif_orientation_is_ignored_as_imagefolder_does(tmp_path: Path) -> None:
    image = Image.fromarray(pixels(0, 8, 16))
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "set" / "cat").mkdir(parents=True)
    image.save(tmp_path / "set" / "cat" / "1.jpg", exif=exif)
    path = make_zip(tmp_path / "a.zip", {"cat/1.jpg": (tmp_path / "set" / "cat" / "1.jpg").read_bytes()})
    data = read_dataset(path, ClassNames(1, ("cat",)), Preprocessing())
    expected = np.asarray(ImageFolder(tmp_path / "set")[0][0]).transpose(2, 0, 1)
    assert np.array_equal(data.images[0], expected)
    assert data.images.shape == (1, 3, 8, 16)


def test_the_cache_gives_the_same_and_survives_damage(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", two_classes())
    cache = tmp_path / "cache"
    fresh = read_dataset(path, CATDOG, Preprocessing(mean=(0.5,) * 3), cache)
    files = sorted(cache.iterdir())
    assert [f.suffix for f in files] == [".json", ".npy"]
    calls: list[int] = []
    cached = read_dataset(path, CATDOG, Preprocessing(std=(0.5,) * 3), cache, progress=lambda i, n: calls.append(i))
    assert not calls  # nothing was decoded: mean and std do not change the pixels
    assert np.array_equal(fresh.images, cached.images)
    assert fresh.pixel_hashes == cached.pixel_hashes
    read_dataset(path, CATDOG, Preprocessing(crop=4), cache, progress=lambda i, n: calls.append(i))
    assert calls == [1, 2, 3, 4]
    assert not fresh.images.flags.writeable
    files[1].unlink()  # the arrays in use keep their mapping
    files[1].write_bytes(b"damaged")
    again = read_dataset(path, CATDOG, Preprocessing(), cache)
    assert np.array_equal(fresh.images, again.images)


def test_an_interrupted_read_leaves_nothing_in_the_cache(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", two_classes())

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_dataset(path, CATDOG, Preprocessing(), tmp_path / "cache", progress=stop)
    assert list((tmp_path / "cache").iterdir()) == []


def test_large_sets_are_mapped_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_zip(tmp_path / "a.zip", two_classes())
    small = read_dataset(path, CATDOG, Preprocessing())
    monkeypatch.setattr(reading, "IN_MEMORY_BYTES", 100)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    large = read_dataset(path, CATDOG, Preprocessing())
    assert isinstance(large.images, np.memmap)
    assert np.array_equal(small.images, large.images)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_inspection_in_the_child_process(tmp_path: Path) -> None:
    entries = two_classes({"metadata.csv": TABLE, "dog/3.jpg": encoded(pixels(9, 5, 7, 1), "JPEG")})
    entries["metadata.csv"] = TABLE + "dog/3.jpg,dog,\n"
    path = make_zip(tmp_path / "upload-1", entries)
    info = inspect_archive(path, name="pets.zip")
    assert info.n_images == 5
    assert info.folders == {"cat": 2, "dog": 3}
    assert info.columns == {"subgroup": {"a": 2, "b": 2, "": 1}}
    assert info.distinct == {"subgroup": 3}
    assert info.sizes == {"8x8": 4, "7x5": 1}
    assert info.modes == {"RGB": 4, "L": 1}
    assert info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert inspect_here(path, "pets.zip") == info
    broken = make_zip(tmp_path / "upload-2", {**entries, "cat/1.png": b"\x89PNG\r\n\x1a\nnonsense"})
    with pytest.raises(BadInput, match=r"cat/1\.png"):
        inspect_archive(broken, name="pets.zip")


@needs_data
def test_real_images_give_the_pixels_of_imagefolder(tmp_path: Path) -> None:
    zipped = DATA / "catdog_breeds" / "images_2250.zip"
    data = read_dataset(zipped, ClassNames(2, ("cat", "dog")), Preprocessing())
    assert data.images.shape == (2250, 3, 32, 32)
    assert set(data.column("subgroup", least=2)) >= {"tabby"}
    shutil.unpack_archive(zipped, tmp_path)
    folder = ImageFolder(str(tmp_path))
    assert folder.targets == data.labels.tolist()
    for i in range(0, 2250, 97):
        assert np.array_equal(np.asarray(folder[i][0]).transpose(2, 0, 1), data.images[i])


@needs_data
def test_real_imagenet_folders_map_by_wnid() -> None:
    classes = read_class_names(DATA / "imagenet" / "imagenet_classes.json", 1000)
    data = read_dataset(
        DATA / "imagenet" / "samples_500.zip", classes, Preprocessing(resize=64, crop=56), progress=None
    )
    table = json.loads((DATA / "imagenet" / "imagenet_classes.json").read_text())
    for name, label in zip(data.file_names, data.labels, strict=True):
        assert table[name.split("/")[0]][0] == label
    batch = Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3).normalize(torch.from_numpy(data.images[:2].copy()))
    assert batch.shape == (2, 3, 56, 56)
