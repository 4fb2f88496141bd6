"""Names in a zip: real ones, however they are marked, in the order of torchvision's ImageFolder."""

from __future__ import annotations

import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from torchvision.datasets import ImageFolder

from repair_engine.data import inspect_archive, read_dataset
from repair_engine.errors import BadInput
from repair_engine.models.classes import ClassNames
from repair_engine.models.preprocessing import Preprocessing
from tests.repair_engine.image_sets import make_zip, png

CHINESE = ("猫", "狗", "鱼", "鸟")
JAPANESE = ("表", "猫", "ソファ")  # in cp932 two of them hold a backslash byte
RUSSIAN = ("кошка", "собака", "рыба")
FRENCH = ("abeille", "école", "ours", "zèbre")


class _Raw(zipfile.ZipInfo):
    """An entry whose name is bytes of a code page, or UTF-8 without the flag."""

    def __init__(self, raw: bytes, extra: bytes = b"") -> None:
        super().__init__(raw.hex())
        self.raw, self.extra = raw, extra

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:
        return self.raw, self.flag_bits & ~0x800


def raw_zip(path: Path, folders: Sequence[str], page: str, told: bool = False) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for i, folder in enumerate(folders):
            for j in range(2):
                name = f"{folder}/{j}.png"
                raw = name.encode(page)
                field = struct.pack("<BI", 1, zlib.crc32(raw)) + name.encode()
                extra = struct.pack("<HH", 0x7075, len(field)) + field if told else b""
                archive.writestr(_Raw(raw, extra), png(10 * i + j))
    return path


def image_folder(path: Path, folders: Sequence[str]) -> list[str]:
    """The classes as ImageFolder orders folders of these names."""
    for i, folder in enumerate(folders):
        (path / folder).mkdir(parents=True)
        (path / folder / "0.png").write_bytes(png(i))
    return ImageFolder(str(path)).classes


@pytest.mark.parametrize("folders", [CHINESE, JAPANESE, RUSSIAN, FRENCH], ids=["zh", "ja", "ru", "fr"])
@pytest.mark.parametrize("how", ["flag", "utf-8 without the flag", "extra field"])
def test_known_names_are_in_the_order_of_image_folder(tmp_path: Path, folders: Sequence[str], how: str) -> None:
    path = tmp_path / "images.zip"
    if how == "flag":
        make_zip(path, {f"{folder}/{j}.png": png(10 * i + j) for i, folder in enumerate(folders) for j in range(2)})
    else:
        page = (
            "utf-8"
            if how != "extra field"
            else {CHINESE: "gbk", JAPANESE: "cp932", RUSSIAN: "cp866"}.get(folders, "cp850")
        )
        raw_zip(path, folders, page, told=how == "extra field")
    data = read_dataset(path, ClassNames(len(folders)), Preprocessing())
    assert list(data.class_names) == image_folder(tmp_path / "there", folders)
    assert {name.split("/")[0] for name in data.file_names} == set(folders)
    assert not data.warnings


@pytest.mark.parametrize(
    ("folders", "page"),
    [(CHINESE, "gbk"), (JAPANESE, "cp932"), (RUSSIAN, "cp866"), (FRENCH, "cp850"), (FRENCH, "cp437")],
)
def test_guessed_names_need_class_names(tmp_path: Path, folders: tuple[str, ...], page: str) -> None:
    path = raw_zip(tmp_path / "images.zip", folders, page)
    with pytest.raises(BadInput, match="not marked as UTF-8 and had to be guessed") as error:
        read_dataset(path, ClassNames(len(folders)), Preprocessing())
    assert "classes file" in error.value.mend
    data = read_dataset(path, ClassNames(len(folders), folders), Preprocessing())
    assert [data.class_names[i] for i in data.labels] == [name.split("/")[0] for name in data.file_names]
    assert set(data.labels) == set(range(len(folders)))
    assert any("not marked as UTF-8" in warning for warning in data.warnings)
    info = inspect_archive(path)
    assert any("had to be guessed" in warning for warning in info.warnings)


def test_guessed_file_names_alone_are_said(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for i, name in enumerate(("cat/été.png", "dog/noël.png")):
            archive.writestr(_Raw(name.encode("cp850")), png(i))
    data = read_dataset(tmp_path / "images.zip", ClassNames(2), Preprocessing())
    assert data.class_names == ("cat", "dog")
    assert any("by a guess" in warning for warning in data.warnings)


def test_a_guess_about_entries_that_are_no_images_says_nothing(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for i, name in enumerate(("cat/a.png", "dog/b.png")):
            archive.writestr(name, png(i))
        archive.writestr(_Raw("cat/été.txt".encode("cp850")), b"notes")
    data = read_dataset(tmp_path / "images.zip", ClassNames(2), Preprocessing())
    assert data.class_names == ("cat", "dog")
    assert not any("by a guess" in warning for warning in data.warnings)


def test_decomposed_names_are_composed_everywhere(tmp_path: Path) -> None:
    """Names of folders and rows of the table, in either spelling."""
    folders = ("abeille", "ours", unicodedata.normalize("NFD", "zèbre"))
    entries: dict[str, bytes | str] = {
        f"{folder}/é{j}.png": png(10 * i + j) for i, folder in enumerate(folders) for j in range(2)
    }
    rows = [unicodedata.normalize("NFD" if i % 2 else "NFC", name) for i, name in enumerate(entries)]
    table = "".join(f"{row},{unicodedata.normalize('NFD', 'été')}\n" for row in rows)
    entries["metadata.csv"] = f"file_name,saison\n{table}"
    data = read_dataset(make_zip(tmp_path / "a.zip", entries), ClassNames(3), Preprocessing())
    assert data.class_names == ("abeille", "ours", "zèbre")
    assert set(data.attributes["saison"]) == {"été"}


def test_where_the_spelling_changes_the_order_class_names_are_asked_for(tmp_path: Path) -> None:
    folders = [unicodedata.normalize("NFD", name) for name in FRENCH]
    path = make_zip(tmp_path / "a.zip", {f"{folder}/0.png": png(i) for i, folder in enumerate(folders)})
    assert image_folder(tmp_path / "nfd", folders) != [
        unicodedata.normalize("NFD", name) for name in image_folder(tmp_path / "nfc", FRENCH)
    ]
    with pytest.raises(BadInput, match="decomposed Unicode"):
        read_dataset(path, ClassNames(4), Preprocessing())
    assert read_dataset(path, ClassNames(4, FRENCH), Preprocessing()).class_names == FRENCH


def test_two_spellings_of_one_name_are_one_name_twice(tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, "école/0.png") for form in ("NFC", "NFD")]
    path = make_zip(tmp_path / "a.zip", {name: png(i) for i, name in enumerate(names)})
    with pytest.raises(BadInput, match="twice"):
        read_dataset(path, ClassNames(1), Preprocessing())


def test_one_pair_of_bytes_may_be_utf8_or_chinese(tmp_path: Path) -> None:
    path = raw_zip(tmp_path / "a.zip", ("猫",), "gbk")
    assert "猫".encode("gbk").decode("utf-8") == "è"
    with pytest.raises(BadInput, match="had to be guessed"):
        read_dataset(path, ClassNames(1), Preprocessing())
    assert read_dataset(path, ClassNames(1, ("猫",)), Preprocessing()).file_names[0] == "猫/0.png"
    assert read_dataset(path, ClassNames(1, ("è",)), Preprocessing()).file_names[0] == "è/0.png"


def test_a_renamed_entrys_unicode_field_is_not_believed(tmp_path: Path) -> None:
    raw = "猫/0.png".encode("gbk")
    field = struct.pack("<BI", 1, zlib.crc32(b"another")) + b"dog/0.png"
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(_Raw(raw, struct.pack("<HH", 0x7075, len(field)) + field), png(0))
    assert read_dataset(tmp_path / "a.zip", ClassNames(1, ("猫",)), Preprocessing()).file_names == ("猫/0.png",)


@pytest.mark.parametrize("raw", [b"..\x5c\xc3/0.png", "…/../../x/0.png".encode()])
def test_decoded_names_may_not_leave_the_archive(tmp_path: Path, raw: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(_Raw(raw), png(0))
    with pytest.raises(BadInput, match="leaves the archive"):
        read_dataset(tmp_path / "a.zip", ClassNames(1), Preprocessing())
