"""An object store for tests: a folder that is used by Django's storage API alone, and fails as a test says."""

from __future__ import annotations

from pathlib import Path

from django.core.files.storage import FileSystemStorage

from webapp.library.objects import Objects


class FarStore(Objects, FileSystemStorage):
    """Attributes:
    gone: nobody answers.
    full: nothing can be saved.
    spoilt: names whose content is given wrong, and how often still.
    """

    gone = full = False
    spoilt: dict[str, int] = {}
    given: list[str] = []  # names that were opened, in order

    def _open(self, name, mode="rb"):
        self._reached()
        found = super()._open(name, mode)
        self.given.append(name)
        if self.spoilt.get(name, 0) > 0:
            self.spoilt[name] -= 1
            found.file.seek(1)
        return found

    def _save(self, name, content):
        self._reached()
        if self.full:
            raise OSError("507 Insufficient Storage")
        return super()._save(name, content)

    def exists(self, name):
        with self.asked(name):
            self._reached()
            return FileSystemStorage.exists(self, name)

    def size(self, name):
        self._reached()
        return super().size(name)

    def _reached(self) -> None:
        if self.gone:
            raise ConnectionError("no route to host")

    def path_of(self, name: str) -> Path:
        """Where a test finds it."""
        return Path(self.path(name))
