"""Run as a program in a PID namespace: stores files of one name and many contents, some of them the other's."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")


def main(who: str, stores: int) -> None:
    django.setup()
    from webapp.library import blobs

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        for i in range(stores):
            text = f"shared {i}" if i % 4 == 0 else f"{who} {i}"
            path.write_bytes(text.encode() * 20_000)
            blobs.put(blobs.ready_copy(path))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
