"""Every unusable zip is refused with its reason, naming the entry."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from repair_engine.data import read_dataset
from repair_engine.errors import BadInput
from repair_engine.models import images
from repair_engine.models.classes import ClassNames
from repair_engine.models.preprocessing import Preprocessing
from repair_engine.support import archive
from tests.repair_engine.image_sets import encoded, make_zip, pixels, png, two_classes

CATDOG = ClassNames(2, ("cat", "dog"), source="the test")
HEADER = "file_name,label,subgroup\n"
ROWS = ["cat/1.png,cat,a\n", "cat/2.png,cat,b\n", "dog/1.png,dog,a\n", "dog/2.png,dog,b\n"]


def refuse(path: Path) -> str:
    with pytest.raises(BadInput) as caught:
        read_dataset(path, CATDOG, Preprocessing())
    return str(caught.value)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "holds no JPEG, PNG or WebP"),
        ({"cat/a.txt": "hello"}, "holds no JPEG, PNG or WebP"),
        (two_classes({"cat/3.gif": b"GIF89a"}), "cat/3.gif is an image of an unsupported kind"),
        (two_classes({"more.zip": b"PK"}), "another archive, more.zip"),
        (two_classes({"../evil.png": png(9)}), "'../evil.png' has a path"),
        (two_classes({"cat/../../evil.png": png(9)}), "leaves the archive"),
        (two_classes({"/etc/evil.png": png(9)}), "is absolute"),
        (two_classes({"C:/evil.png": png(9)}), "is absolute"),
        (two_classes({"cat\\3.png": png(9)}), "backslashes"),
        (two_classes({"stray.png": png(9)}), "stray.png is in no class folder"),
        ({"1.png": png(1)}, "1.png is in no class folder"),
        ({"train/cat/1.png": png(1), "test/cat/2.png": png(2)}, "are splits, not classes"),
        (two_classes({"cat/3.png": b"\x89PNG\r\n\x1a\n" + bytes(50)}), "cat/3.png is"),
        (two_classes({"cat/3.png": png(9)[:-60]}), "cat/3.png is a corrupt image"),
        (two_classes({"cat/3.jpg": encoded(pixels(9, 64, 64), "JPEG")[:900]}), "cat/3.jpg is a corrupt image"),
        (two_classes({"cat/3.png": b""}), "cat/3.png is not a JPEG"),
        (two_classes({"cat/3.png": b"GIF89a" + bytes(40)}), "cat/3.png is not a JPEG"),
        (two_classes({"bird/1.png": png(9)}), "bird"),
        ({"a/metadata.csv": HEADER, "metadata.csv": HEADER, "a/b/1.png": png(1)}, "two metadata.csv"),
    ],
)
def test_archives(entries: dict[str, bytes | str], message: str, tmp_path: Path) -> None:
    assert message in refuse(make_zip(tmp_path / "a.zip", entries))


def test_folders_that_do_not_map_show_both_lists(tmp_path: Path) -> None:
    text = refuse(make_zip(tmp_path / "a.zip", two_classes({"bird/1.png": png(9)})))
    assert "1 of the dataset's 3 labels" in text
    assert "The dataset's labels: bird, cat, dog." in text
    assert "The model's classes, from the test: cat, dog." in text


def test_files_that_are_no_zip(tmp_path: Path) -> None:
    whole = make_zip(tmp_path / "whole.zip", two_classes()).read_bytes()
    for name, data, message in (
        ("empty.zip", b"", "is empty"),
        ("text.zip", b"hello", "is not a zip archive"),
        ("cut.zip", whole[: len(whole) // 2], "is not a zip archive, or it is damaged"),
    ):
        (tmp_path / name).write_bytes(data)
        assert message in refuse(tmp_path / name)
    assert "no file" in refuse(tmp_path / "absent.zip")
    assert "is a folder" in refuse(tmp_path)


def with_entry(path: Path, change: Callable[[zipfile.ZipInfo], None]) -> Path:
    """Two classes and one more entry, whose directory record was changed."""
    with zipfile.ZipFile(path, "w") as out:
        for name, data in two_classes().items():
            out.writestr(name, data)
        info = zipfile.ZipInfo("cat/3.png")
        change(info)
        out.writestr(info, png(9))
    return path


def test_links_and_special_files(tmp_path: Path) -> None:
    for kind in (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR):

        def change(info: zipfile.ZipInfo, kind: int = kind) -> None:
            info.external_attr = (kind | 0o777) << 16

        assert "cat/3.png is a link or a special file" in refuse(with_entry(tmp_path / "a.zip", change))


def test_unusual_compression(tmp_path: Path) -> None:
    def change(info: zipfile.ZipInfo) -> None:
        info.compress_type = zipfile.ZIP_LZMA

    assert "other than deflate" in refuse(with_entry(tmp_path / "a.zip", change))


def test_encrypted_entries(tmp_path: Path) -> None:
    data = bytearray(make_zip(tmp_path / "a.zip", two_classes()).read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    assert "cat/1.png is encrypted" in refuse(tmp_path / "a.zip")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_repeated_entries(tmp_path: Path) -> None:
    with zipfile.ZipFile(make_zip(tmp_path / "a.zip", two_classes()), "a") as out:
        out.writestr("cat/1.png", png(7))
    assert "'cat/1.png' twice" in refuse(tmp_path / "a.zip")


def test_damaged_data_is_named(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", two_classes())
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 20] ^= 0xFF  # the first image; its checksum no longer agrees
    path.write_bytes(data)
    assert "cat/1.png is damaged in the archive" in refuse(path)


def test_a_bomb_by_ratio(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", two_classes({"cat/3.png": bytes(4 << 20)}), zipfile.ZIP_DEFLATED)
    assert "cat/3.png is an archive bomb" in refuse(path)


def test_a_bomb_whose_directory_lies_about_its_size(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"cat/3.png": bytes(80 << 20), "dog/1.png": png(1)}, zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    struct.pack_into("<I", data, at + 24, 100)  # unpacked size in the directory
    path.write_bytes(data)
    text = refuse(path)
    assert "cat/3.png" in text


def test_entries_that_overlap(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", two_classes({"cat/big.png": encoded(pixels(3, 99, 99))}))
    with zipfile.ZipFile(path, "a") as out:
        big = out.getinfo("cat/big.png")
        for i in range(30):
            twin = zipfile.ZipInfo(f"cat/twin{i}.png")
            twin.CRC, twin.header_offset = big.CRC, big.header_offset
            twin.file_size, twin.compress_size = big.file_size, big.compress_size
            out.filelist.append(twin)
        out._didModify = True  # type: ignore[attr-defined]
    assert "entries overlap" in refuse(path)


def test_caps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_zip(tmp_path / "a.zip", two_classes())
    for module, name, value, message in (
        (archive, "MAX_FILE_BYTES", 100, "at most 100 are read"),
        (archive, "MAX_ENTRIES", 3, "4 entries; at most 3"),
        (archive, "MAX_TOTAL_BYTES", 100, "would unpack to"),
        (images, "MAX_PIXELS", 63, "8 × 8 pixels"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            assert message in refuse(path)
    with zipfile.ZipFile(path) as opened, pytest.raises(BadInput, match="more than 100 bytes"):
        archive.read_entry(opened, opened.infolist()[0], 100)


def test_a_pixel_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    for side in (9_000, 60_000):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
        text = refuse(make_zip(tmp_path / "a.zip", two_classes({"cat/3.png": bomb})))
        assert "cat/3.png has" in text
        assert "pixels" in text


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "no column file_name; its header is empty"),
        ("name,subgroup\ncat/1.png,a\n", "no column file_name; its header is name, subgroup"),
        ("file_name;label;subgroup\ncat/1.png;cat;a\n", "separated by semicolons"),
        ("file_name\tlabel\ncat/1.png\tcat\n", "separated by tabs"),
        ("file_name,a,a\n", "named twice"),
        ("file_name,a,\n", "named twice or not at all"),
        (HEADER + "".join(ROWS[:3]), "1 images have no row in metadata.csv, such as dog/2.png"),
        (HEADER + "".join(ROWS) + "dog/9.png,dog,a\n", "1 rows of metadata.csv have no image, such as dog/9.png"),
        (HEADER + "".join(ROWS) + ROWS[0], "line 6: cat/1.png has a row already"),
        (HEADER + ROWS[0] + "cat/2.png,cat\n", "line 3: 2 cells; the header has 3"),
        (HEADER + "".join(ROWS).replace("dog/2.png,dog", "dog/2.png,cat"), "dog/2.png as 'cat', but it is in"),
        (HEADER + "".join(ROWS).replace("dog/2.png,dog", "dog/2.png,cow"), "cow"),
        ((HEADER + "".join(ROWS)).replace("a", "ä").encode("latin-1"), "not UTF-8"),
        ((HEADER + "".join(ROWS)).encode("utf-16"), "not UTF-8"),
        (HEADER + '"' + "x" * 200_000, "metadata.csv, line"),
    ],
)
def test_metadata(table: str | bytes, message: str, tmp_path: Path) -> None:
    assert message in refuse(make_zip(tmp_path / "a.zip", two_classes({"metadata.csv": table})))


def test_too_many_pixels_to_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repair_engine.models.decoding.MAX_PIXEL_BYTES", 100)
    assert "too many to hold" in refuse(make_zip(tmp_path / "a.zip", two_classes()))


def test_an_image_that_pillow_cannot_convert_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Preprocessing, image: object) -> np.ndarray:
        raise ValueError("conversion not supported")

    monkeypatch.setattr(Preprocessing, "pixels", fail)
    assert "cat/1.png cannot be converted" in refuse(make_zip(tmp_path / "a.zip", two_classes()))
