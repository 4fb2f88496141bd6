"""A finished repair as sections of a page, made by the functions that make report.html."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils.safestring import SafeString, mark_safe

from repair_engine.audit import page as attack_page
from repair_engine.audit import wording as attack_wording
from repair_engine.explain import page as explain_page
from repair_engine.explain import wording as explain_wording
from repair_engine.report import attacks, groups, method, results, wording
from webapp.jobs.models import Job

Document = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """The answer, first of all. "No repair found" is one, with its reasons and what was tried."""

    repaired: bool
    title: str
    headline: str
    beaten: str
    reasons: list[str]
    tried: list[str]
    explained: bool = False  # or attacked: nothing was to be repaired


@dataclass(frozen=True)
class Section:
    ident: str
    heading: str
    body: SafeString


def document(job: Job) -> Document | None:
    """The report document as far as the row keeps it; None where the repair has not succeeded."""
    if job.state == Job.State.SUCCEEDED and job.result.get("attacked"):
        return dict(job.result)
    if job.state != Job.State.SUCCEEDED or "metric" not in job.result:
        return None
    verb = "explain" if job.result.get("explained") else "repair"
    return {"verb": verb, "model": job.summary["model"], "data": job.summary["data"], **job.result}


def outcome(of: Document) -> Outcome:
    if of["verb"] == "explain":
        title = f"What {of['metric']['text']} is made of"
        first, *more = explain_wording.headline(of)
        return Outcome(False, title, first, " ".join(more), [], [], explained=True)
    if of["verb"] == "attack":
        first, *more = attack_wording.headline(of)
        return Outcome(False, attack_wording.title(of), first, " ".join(more), [], [], explained=True)
    found = wording.repaired(of)
    return Outcome(
        repaired=found,
        title=wording.title(of),
        headline=wording.headline(of),
        beaten=wording.beaten(of) if of["controls"] else "",
        reasons=[] if found else list(of["reasons"]),
        tried=[] if found else wording.tried(of),
    )


def sections(of: Document) -> list[Section]:
    """In the order in which they are read."""
    if of["verb"] in ("explain", "attack"):
        parts = (explain_page if of["verb"] == "explain" else attack_page).sections(of)
        return [Section(ident, heading, mark_safe(body)) for ident, heading, body in parts]
    drawn = [
        ("figures", "At a glance", results.figures),
        ("notices", "Findings and warnings", results.notices),
        ("groups", "Before and after, group by group", groups.groups),
        ("choice", "Removal curve", results.curve),
        ("culprits", "Culprits", results.culprits),
        ("controls", "Controls", results.controls),
        *([("attack", "Attacks", attacks.attack)] if "attack" in of else []),
        *([("compact", "Compact export", method.compact)] if "compact" in of else []),
        ("method", "How it was measured", method.measured),
        ("limits", "Limits", method.limits),
        ("verification", "Verification of the written file", method.verification),
        ("not-players", "What is not a player", method.not_players),
    ]
    return [Section(ident, heading, mark_safe(draw(of))) for ident, heading, draw in drawn]
