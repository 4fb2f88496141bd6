"""Files and folders that other accounts of the machine may not read. The group may: web and workers may differ."""

from __future__ import annotations

import os
from pathlib import Path

_OTHERS = 0o007


def folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True, mode=0o750)
    _close(path)
    return path


def file(path: Path) -> None:
    """Make it, empty, or close it to others. SQLite gives its -wal and -shm the permissions of the database."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o660))
    for one in (path, *path.parent.glob(f"{path.name}-*")):
        _close(one)


def _close(path: Path) -> None:
    try:
        mode = path.stat().st_mode
        if mode & _OTHERS:
            path.chmod(mode & 0o7777 & ~_OTHERS)
    except (PermissionError, FileNotFoundError):
        pass  # another account's, which closes it when it starts; or gone meanwhile
