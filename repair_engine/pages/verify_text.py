"""What `verify` says, as a text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from repair_engine.verbs.checks import VerifyRecord

_MARKS = {"passed": "ok", "failed": "FAILED", "not checked": "-"}


def verify_text(found: VerifyRecord) -> str:
    """A line a check, and what comes of them."""
    lines = [f"{_MARKS[check['verdict']]:8}{check['name']}: {check['text']}" for check in found["checks"]]
    wrong = sum(check["verdict"] == "failed" for check in found["checks"])
    said = "what was checked holds" if not wrong else f"{wrong} of {len(found['checks'])} checks failed"
    return "\n".join([*lines, f"{found['repair']} (report.json {found['report']}): {said}"])
