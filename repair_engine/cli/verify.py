"""The verify verb."""

from __future__ import annotations

from typing import TextIO

from repair_engine.cli.emit import emit
from repair_engine.settings import Verify
from repair_engine.verbs.auditing import VerifyRecord, audit

NOT_VERIFIED = 1
_MARKS = {"passed": "ok", "failed": "FAILED", "not checked": "-"}


def verify(here: Verify, to: TextIO) -> int:
    """Whether a finished repair's report holds, with what was given."""
    found = audit(here)
    emit(here, to, found, verify_text)
    return 0 if found["verdict"] == "passed" else NOT_VERIFIED


def verify_text(found: VerifyRecord) -> str:
    """What the verb prints for people."""
    lines = [f"{_MARKS[check['verdict']]:8}{check['name']}: {check['text']}" for check in found["checks"]]
    wrong = sum(check["verdict"] == "failed" for check in found["checks"])
    said = "what was checked holds" if not wrong else f"{wrong} of {len(found['checks'])} checks failed"
    return "\n".join([*lines, f"{found['repair']} (report.json {found['report']}): {said}"])
