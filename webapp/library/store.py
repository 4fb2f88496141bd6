"""Where files are kept: in the data directory, or in an object store that web and workers share, by Django's storages.

Both keep the same names: `blobs/ab/abcd…`, `jobs/ID/parts/abcd…`, `quarantine/…`. `settings.STORAGES["store"]` says
which of the two it is. The folder is used as it is: nothing is copied, and a file has its name at once and whole. Of an
object store each machine keeps what it uses at the same names in its own data directory (`library.cache`), and checks
the hash of what it is given.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from django.conf import settings
from django.core.files.storage import FileSystemStorage, storages

from repair_engine.support.outputs import sha256

CHUNK = 1 << 20


class Damaged(RuntimeError):
    """What is kept under a name is gone, or is not what was put there: it no longer has its hash."""


@dataclass(frozen=True)
class Entry:
    """Attributes:
    placed: when it got its name, by the store's clock, in seconds since 1970.
    mark: another one where the name was given to something else since.
    """

    name: str
    size: int  # bytes
    placed: float
    mark: str


@dataclass(frozen=True)
class Part:
    """Of a file that goes straight to the store."""

    number: int  # from 1
    size: int  # bytes
    mark: str


@dataclass(frozen=True)
class Begun:
    """A file that goes straight to the store, as the store knows it."""

    name: str
    id: str
    at: float  # by the store's clock, in seconds since 1970


class Direct(Protocol):
    """An object store that is sent files in parts, and not by way of this process (`library.direct`).

    All of it may raise `StoreAway`; FileNotFoundError: it is finished, was given up or never begun, or is another.
    """

    offered: bool  # there is an address at which senders reach the store

    def begin(self, name: str) -> str:
        """Returns the store's id of what is begun."""

    def address(self, name: str, begun: str, number: int, size: int) -> str:
        """Where to PUT one part of so many bytes, for a while, and nothing else."""

    def parts(self, name: str, begun: str) -> list[Part]:
        """Those that are there, by number."""

    def finish(self, name: str, begun: str, parts: list[Part]) -> None:
        """They become the object, and no more are taken."""

    def give_up(self, name: str, begun: str) -> None:
        """If it is there."""

    def under_way(self, folder: str) -> Iterator[Begun]: ...

    def read(self, name: str, mark: str) -> Iterator[bytes]:
        """The content of what has this mark (`Entry.mark`), piece by piece."""

    def copy(self, name: str, mark: str, target: str) -> None:
        """Within the store, what has this mark."""


class Store(Protocol):
    """What is asked of either. `StoreAway` may be raised by all of it but `at` and `where`."""

    remote: bool
    direct: Direct | None

    def at(self, name: str) -> Path:
        """Where it lies in this machine's data directory, if it does."""

    def where(self, name: str) -> str:
        """For the operator to find it."""

    def fetch(self, name: str, sha256: str) -> Path:
        """The file, to be read; from an object store it is brought here and its content is checked.

        Raises:
            Damaged: an object store has no such object, or other content. Of a folder nothing is looked at.
        """

    def checked(self, name: str, sha256: str) -> Path:
        """Of an object store a new file of its content, which is the caller's own. Raises: see `fetch`."""

    def send(self, path: Path, name: str) -> None:
        """What may take long before `place`, outside of any transaction."""

    def place(self, path: Path, name: str) -> None:
        """Give a file of this data directory its name; it replaces what has the name."""

    def exists(self, name: str) -> bool: ...

    def find(self, name: str) -> Entry | None: ...

    def entries(self, folder: str) -> Iterator[Entry]:
        """All files below a folder, sorted by name."""

    def digest(self, name: str) -> str:
        """SHA-256 of what is kept there now. Raises FileNotFoundError."""

    def move(self, name: str, target: str) -> None:
        """`placed` begins anew. Raises FileNotFoundError."""

    def signed(self, name: str, file_name: str, media_type: str) -> str:
        """An address at which a browser gets it from the store itself for a while; empty: the store signs none."""

    def delete(self, name: str) -> None:
        """If it is there."""

    def delete_folder(self, name: str) -> None:
        """With all that is in it, and with what this machine keeps of it."""


def get_store() -> Store:
    return cast(Store, storages["store"])


class Folder(FileSystemStorage):
    """The data directory of one machine, or of several that share a volume."""

    remote = False
    direct = None

    @property
    def base_location(self) -> str:
        return str(settings.DATA_DIR)

    @property
    def location(self) -> str:
        return os.path.abspath(self.base_location)

    def at(self, name: str) -> Path:
        return Path(settings.DATA_DIR) / name

    def where(self, name: str) -> str:
        return str(self.at(name))

    def fetch(self, name: str, sha256: str) -> Path:
        return self.at(name)

    def send(self, path: Path, name: str) -> None:
        return None

    def place(self, path: Path, name: str) -> None:
        target = self.at(name)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        os.replace(path, target)
        _sync(target.parent)

    def find(self, name: str) -> Entry | None:
        """Renaming sets the change time, and nobody can set it back."""
        try:
            seen = self.at(name).stat()
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(seen.st_mode):
            return None
        return Entry(name, seen.st_size, seen.st_ctime, f"{seen.st_ino} {seen.st_mtime_ns}")

    def entries(self, folder: str) -> Iterator[Entry]:
        for path in sorted(self.at(folder).rglob("*")):
            if (found := self.find(path.relative_to(settings.DATA_DIR).as_posix())) is not None:
                yield found

    def digest(self, name: str) -> str:
        return sha256(self.at(name))

    def move(self, name: str, target: str) -> None:
        to = self.at(target)
        to.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.replace(self.at(name), to)
        os.utime(to)

    def signed(self, name: str, file_name: str, media_type: str) -> str:
        return ""

    def delete(self, name: str) -> None:
        self.at(name).unlink(missing_ok=True)

    def delete_folder(self, name: str) -> None:
        shutil.rmtree(self.at(name), ignore_errors=True)


def _sync(folder: Path) -> None:
    """A name is on the disk when its folder is."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder on the disk of the data directory, for what is removed at once."""
    settings.INCOMING_DIR.mkdir(parents=True, exist_ok=True, mode=0o750)
    return tempfile.TemporaryDirectory(dir=settings.INCOMING_DIR, prefix="store-")
