"""How a check is told: that it passed, that it failed and why, or that there was nothing to check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypedDict

from repair_engine.errors import BadInput

Verdict = Literal["passed", "failed", "not checked"]


class Check(TypedDict):
    """One thing that was looked at."""

    name: str
    verdict: Verdict
    text: str


class VerifyRecord(TypedDict):
    """What `verify` says.

    Attributes:
        report: sha256 of report.json, by which a repair can be named.
    """

    verb: Literal["verify"]
    repair: str
    report: str
    outcome: str
    verdict: Literal["passed", "failed"]
    checks: list[Check]


class Wrong(Exception):
    """Why a check fails."""


class Unchecked(Exception):
    """Why there is nothing to check."""


def look(name: str, check: Callable[[], str]) -> Check:
    """`check` says what holds, or raises Wrong or Unchecked. Raises BadInput of what was given beside the repair."""
    try:
        return {"name": name, "verdict": "passed", "text": check()}
    except Unchecked as reason:
        return {"name": name, "verdict": "not checked", "text": str(reason)}
    except Wrong as wrong:
        return {"name": name, "verdict": "failed", "text": str(wrong)}
    except BadInput:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:  # somebody has changed the files
        text = f"The files do not have the form that repair writes ({type(error).__name__}: {error})."
        return {"name": name, "verdict": "failed", "text": text}
