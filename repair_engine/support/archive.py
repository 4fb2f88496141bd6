"""The zip of an image set: which entries are images, and reading them within caps."""

from __future__ import annotations

import shlex
import stat
import zipfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from repair_engine.errors import BadInput
from repair_engine.support.layout import LAYOUT, common_root, split_root
from repair_engine.support.names import decode_names, normalize_names, settle
from repair_engine.support.nfc import normal

MAX_FILE_BYTES = 16 << 30
MAX_TOTAL_BYTES = 64 << 30  # of all entries, unpacked
MAX_ENTRY_BYTES = 64 << 20  # of one image, still encoded
MAX_METADATA_BYTES = 256 << 20
MAX_ENTRIES = 500_000
MAX_RATIO = 200  # unpacked to packed, for entries above a megabyte
_CHUNK = 1 << 20

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
_OTHER_IMAGES = {
    ".gif",
    ".bmp",
    ".tif",
    ".tiff",
    ".heic",
    ".avif",
    ".svg",
    ".jp2",
    ".ppm",
    ".pgm",
    ".tga",
    ".ico",
}
_ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar"}
_LITTER = {"thumbs.db", "desktop.ini"}
METADATA = "metadata.csv"
_OTHER_TABLES = ("metadata.jsonl", "metadata.parquet", "labels.csv", "labels.txt", "annotations.json")
_AGAIN = "Make the zip again from inside the folder that holds the class folders, with the images themselves."


@dataclass(frozen=True)
class Listing:
    """What a zip holds, by its directory alone.

    Attributes:
        name: the file's name, for messages.
        root: common folder above the class folders with its slash, or "".
        images: entries, sorted by name.
        folders: class folder of each image; "" of an image that is in none.
        metadata: the entry of metadata.csv, or None.
        warnings: what was left aside.
        unsure: why the order of the folders is not known; "" where it is.
        outer: where metadata.csv lies: `root`, or the folder above the splits.
    """

    name: str
    root: str
    images: tuple[zipfile.ZipInfo, ...]
    folders: tuple[str, ...]
    metadata: zipfile.ZipInfo | None
    warnings: tuple[str, ...]
    unsure: str = ""
    outer: str = ""

    def only(self, picked: Sequence[int]) -> Listing:
        """Some of the images, in another order."""
        images, folders = tuple(self.images[i] for i in picked), tuple(self.folders[i] for i in picked)
        return replace(self, images=images, folders=folders)


def check_not_folder(path: Path, name: str) -> None:
    """Raises BadInput where images are given as a folder; says how to make the zip of it."""
    if path.is_dir():
        raise BadInput(
            f"{name} is a folder; images are read from one zip file.",
            f"Make it from inside the folder: (cd {shlex.quote(str(path))} && zip -qr ../images.zip .)",
        )


def check_size(path: Path, name: str, most: int) -> int:
    """Bytes of a file. Raises BadInput: there is none, it is empty or has more than `most`."""
    if not path.is_file():
        raise BadInput(f"There is no file {path}.")
    size = path.stat().st_size
    if size == 0:
        raise BadInput(f"{name} is empty.", "Upload or copy it again.")
    if size > most:
        raise BadInput(f"{name} has {size:,} bytes; at most {most:,} are read.")
    return size


@contextmanager
def open_archive(path: Path, name: str) -> Iterator[zipfile.ZipFile]:
    """Open a zip; whatever zipfile finds wrong with it becomes a BadInput."""
    check_not_folder(path, name)
    check_size(path, name, MAX_FILE_BYTES)
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
        raise BadInput(f"{name} is not a zip archive, or it is damaged: {error}.", LAYOUT) from error


def entries_of(archive: zipfile.ZipFile, name: str, most: int | None = None) -> list[zipfile.ZipInfo]:
    """Raises BadInput: there are more than are read (`MAX_ENTRIES` by default)."""
    entries, most = archive.infolist(), most or MAX_ENTRIES
    if len(entries) > most:
        raise BadInput(f"{name} has {len(entries):,} entries; at most {most:,} are read.")
    return entries


def list_images(
    archive: zipfile.ZipFile, size: int, name: str, split: str = "", known: Collection[str] = ()
) -> Listing:
    """Find the images and their class folders.

    Args:
        size: of the zip, in bytes.
        split: the top folder to read alone; layout.NONE = the top folders are the classes.
        known: the class names, where they are known.

    Raises:
        BadInput: links, `..`, absolute or nested archives, encryption, duplicates, bombs, unsupported images,
            images outside a class folder, splits of which none is chosen, or no images.
    """
    entries = entries_of(archive, name)
    page = decode_names(entries, known)
    for entry in entries:
        check_entry(entry, name)
    packed, unpacked = (sum(getattr(e, k) for e in entries) for k in ("compress_size", "file_size"))
    spelled = [entry.filename for entry in entries]
    normalize_names(entries, name)
    if packed > size:
        raise BadInput(f"{name} is an archive bomb: its entries overlap (they claim {packed:,} of {size:,} bytes).")
    if unpacked > MAX_TOTAL_BYTES:
        raise BadInput(f"{name} would unpack to {unpacked:,} bytes; at most {MAX_TOTAL_BYTES:,} are read.")
    own = {normal(text): text for text in spelled}
    files = [entry for entry in entries if not entry.is_dir() and not _is_litter(entry.filename)]
    images = sorted((e for e in files if _suffix(e) in IMAGE_SUFFIXES), key=lambda e: e.filename)
    _refuse_unsupported(files, name)
    if not images:
        raise BadInput(f"{name} holds no JPEG, PNG or WebP images.", LAYOUT)
    paths = [entry.filename for entry in images]
    tables = [entry for entry in files if PurePosixPath(entry.filename).name == METADATA]
    first = paths[0].partition("/")[0]
    top = common_root(paths, flat=f"{first}/{METADATA}" in [entry.filename for entry in tables])
    root = split_root(top, paths, [e.filename for e in tables], normal(split), {normal(n) for n in known}, name)
    chosen = [entry for entry in images if entry.filename.startswith(root)]
    beside = len(images) - len(chosen)
    table = _table(tables, top, root, name)
    if table is None and any("/" not in e.filename.removeprefix(root) for e in chosen):
        lone = next(e.filename for e in chosen if "/" not in e.filename.removeprefix(root))
        lines = [e.filename for e in files if PurePosixPath(e.filename).name in _OTHER_TABLES]
        raise BadInput(
            f"{name}: the image {lone} is in no class folder"
            + (f", and its labels cannot be read from {lines[0]}." if lines else "."),
            f"{LAYOUT} Or give metadata.csv a column label.",
        )
    folders = [e.filename.removeprefix(root).rpartition("/")[0].partition("/")[0] for e in chosen]
    real = [own[e.filename] for e in chosen]
    depth = root.count("/")
    unsure, warnings = settle(chosen, [r.split("/")[depth] for r in real if r.count("/") > depth], page, name)
    aside = [e.filename for e in files if e is not table and _suffix(e) not in IMAGE_SUFFIXES and e not in tables]
    aside += [e.filename for e in tables if e is not table and not beside]
    if aside:
        warnings += (f"{len(aside)} files that are no images were left aside, such as {aside[0]}.",)
    if beside:
        warnings += (f"Only {root} is read; {beside:,} images of the other folders are left out.",)
    outer = root if table is None or table.filename.startswith(root) else top
    return Listing(name, root, tuple(chosen), tuple(folders), table, warnings, unsure, outer)


def _table(tables: list[zipfile.ZipInfo], top: str, root: str, name: str) -> zipfile.ZipInfo | None:
    """metadata.csv beside the folders, or the images, that are read. Raises BadInput where there are two."""
    found = [entry for entry in tables if entry.filename == f"{root}{METADATA}"]
    outer = [entry for entry in tables if entry.filename in {f"{top}{METADATA}", METADATA}]
    found += [entry for entry in outer if entry not in found]
    if len(found) > 1 and root == top:
        raise BadInput(f"{name} holds two metadata.csv: {found[0].filename} and {found[1].filename}.")
    return found[0] if found else None


def read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int = MAX_ENTRY_BYTES) -> bytes:
    """One entry's bytes. Raises BadInput, see `stream_entry`."""
    return b"".join(stream_entry(archive, entry, limit))


def stream_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int) -> Iterator[bytes]:
    """One entry piece by piece, counted while it is unpacked: the directory's sizes are not trusted.

    Raises:
        BadInput: too large, a bomb, or damaged.
    """
    total = 0
    try:
        with archive.open(entry) as stream:
            while piece := stream.read(_CHUNK):
                total += len(piece)
                if total > limit:
                    raise BadInput(f"{entry.filename} unpacks to more than {limit:,} bytes.")
                if total > _CHUNK and total > MAX_RATIO * max(entry.compress_size, 1):
                    raise BadInput(
                        f"{entry.filename} is an archive bomb: it unpacks to over {MAX_RATIO} times its size."
                    )
                yield piece
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        raise BadInput(f"{entry.filename} is damaged in the archive: {error}.", "Make the zip again.") from error


def check_entry(entry: zipfile.ZipInfo, name: str, again: str = _AGAIN) -> None:
    """Raises BadInput for links, paths that leave the archive, encryption and unknown compression.

    Args:
        again: how the zip is made as it should be.
    """
    path = entry.filename
    parts = path.split("/")
    if "\0" in entry.orig_filename or "\\" in path or path.startswith("/") or ".." in parts or ":" in parts[0]:
        raise BadInput(
            f"{name}: the entry {entry.orig_filename!r} has a path that is absolute, leaves the archive (..) "
            "or is written with backslashes.",
            again,
        )
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise BadInput(f"{name}: the entry {path} is a link or a special file.", again)
    if entry.flag_bits & 1:
        raise BadInput(f"{name}: the entry {path} is encrypted.", "Make the zip again without a password.")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadInput(f"{name}: the entry {path} is compressed by a method other than deflate.")


def _is_litter(path: str) -> bool:
    parts = path.split("/")
    return "__MACOSX" in parts or parts[-1].startswith(".") or parts[-1].casefold() in _LITTER


def _suffix(entry: zipfile.ZipInfo) -> str:
    return PurePosixPath(entry.filename).suffix.lower()


def _refuse_unsupported(files: list[zipfile.ZipInfo], name: str) -> None:
    for entry in files:
        if _suffix(entry) in _ARCHIVES:
            raise BadInput(f"{name} holds another archive, {entry.filename}.", "Put its images into the zip.")
        if _suffix(entry) in _OTHER_IMAGES:
            raise BadInput(
                f"{name}: {entry.filename} is an image of an unsupported kind.",
                "Only JPEG, PNG and WebP are read.",
            )
