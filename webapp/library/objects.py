"""An object store behind Django's storage API as the place where files are kept (`library.store`)."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.core.files import File

from repair_engine.support.outputs import sha256 as sha256_of
from webapp.library import cache, incoming
from webapp.library.store import CHUNK, Damaged, Direct, Entry, scratch
from webapp.steady import StoreAway

log = logging.getLogger(__name__)
TRIES = 2  # of an object whose content was wrong on its way


class Objects:
    """To be mixed into a storage of Django's: what `library.store.Store` asks for, by its API alone."""

    remote = True
    direct: Direct | None = None
    away: tuple[type[BaseException], ...] = (OSError,)  # what is raised where it cannot be asked, or refuses

    def at(self, name: str) -> Path:
        return Path(settings.DATA_DIR) / name

    def where(self, name: str) -> str:
        return name

    @contextmanager
    def asked(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except self.away as error:
            raise StoreAway(f"{self.where(name)}: {error}") from error

    def fetch(self, name: str, sha256: str) -> Path:
        path = self.at(name)
        if cache.have(path):
            return path
        found = self.find(name)
        if found is None:
            raise Damaged(f"{self.where(name)} is missing")
        return cache.bring(path, found.size, lambda: self.checked(name, sha256))

    def checked(self, name: str, sha256: str) -> Path:
        """A file of its content. What is not what was put is thrown away, and asked for once more."""
        actual = ""
        for _ in range(TRIES):
            path, file = incoming.new_file("fetch-")
            file.close()
            try:
                self._download(name, path)
                if (actual := sha256_of(path)) == sha256:
                    return path
            except FileNotFoundError:
                path.unlink(missing_ok=True)
                raise Damaged(f"{self.where(name)} is missing") from None
            except BaseException:
                path.unlink(missing_ok=True)
                raise
            path.unlink(missing_ok=True)
            log.error("%s: the store gave other content than was put (SHA-256 %s)", self.where(name), actual)
        raise Damaged(f"{self.where(name)} is not what was put there: the store gives content of SHA-256 {actual}")

    def _download(self, name: str, path: Path) -> None:
        with path.open("wb") as target:
            with self.asked(name):
                source = self.open(name)  # type: ignore[attr-defined]
            with source:
                while True:
                    with self.asked(name):
                        chunk = source.read(CHUNK)
                    if not chunk:
                        return
                    target.write(chunk)

    def send(self, path: Path, name: str) -> None:
        with path.open("rb") as file, self.asked(name):
            self.save(name, File(file, name))  # type: ignore[attr-defined]

    def place(self, path: Path, name: str) -> None:
        """It was sent before; somebody may have deleted it since, when it had no row."""
        found = self.find(name)
        size = path.stat().st_size
        if found is None or found.size != size:
            self.send(path, name)
        cache.put(path, self.at(name), size)

    def exists(self, name: str) -> bool:
        with self.asked(name):
            return bool(super().exists(name))  # type: ignore[misc]

    def find(self, name: str) -> Entry | None:
        try:
            with self.asked(name):
                size, placed = self.size(name), self.get_modified_time(name)  # type: ignore[attr-defined]
        except FileNotFoundError:
            return None
        return Entry(name, size, placed.timestamp(), str(placed))

    def entries(self, folder: str) -> Iterator[Entry]:
        with self.asked(folder):
            folders, files = self.listdir(folder) if super().exists(folder) else ([], [])  # type: ignore[misc]
        names = [(name, True) for name in folders] + [(name, False) for name in files]
        for name, is_folder in sorted(names):
            if is_folder:
                yield from self.entries(f"{folder}/{name}")
            elif (found := self.find(f"{folder}/{name}")) is not None:
                yield found

    def digest(self, name: str) -> str:
        with scratch() as folder:
            path = Path(folder) / "object"
            self._download(name, path)
            return sha256_of(path)

    def move(self, name: str, target: str) -> None:
        with scratch() as folder:
            path = Path(folder) / "object"
            self._download(name, path)
            self.send(path, target)
        self.delete(name)

    def delete(self, name: str) -> None:
        with self.asked(name):
            super().delete(name)  # type: ignore[misc]
        cache.drop(self.at(name))

    def delete_folder(self, name: str) -> None:
        for found in list(self.entries(name)):
            self.delete(found.name)
        shutil.rmtree(self.at(name), ignore_errors=True)

    def signed(self, name: str, file_name: str, media_type: str) -> str:
        return ""
