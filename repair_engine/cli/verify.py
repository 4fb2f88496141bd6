"""The verify verb."""

from __future__ import annotations

from typing import TextIO

from repair_engine.cli.emit import emit
from repair_engine.pages.verify_text import verify_text
from repair_engine.settings import Verify
from repair_engine.verbs.auditing import audit

NOT_VERIFIED = 1


def verify(here: Verify, to: TextIO) -> int:
    """Whether a finished repair's report holds, with what was given."""
    found = audit(here)
    emit(here, to, found, verify_text)
    return 0 if found["verdict"] == "passed" else NOT_VERIFIED
