"""Opening a finished run's case again: its working files were swept. Imported by workers only (it needs torch)."""

from __future__ import annotations

import tempfile
from pathlib import Path

from django.conf import settings

from repair_engine.case.case import Case
from repair_engine.case.preparing import read_case
from repair_engine.support.progress import Progress
from webapp.jobs import translation


def open_case(request: dict, note: Progress) -> Case:
    """Without constants and attacks. What it maps from the disk stays there until it is let go. Raises BadInput."""
    settings.INCOMING_DIR.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.INCOMING_DIR, prefix="study-") as folder:
        return read_case(translation.repair_request(request, Path(folder)), Path(folder), note)
