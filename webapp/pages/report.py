"""A finished run as sections of a page, made by the functions that make its file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse
from markupsafe import Markup

from repair_engine.documents.edits import rivals_said
from repair_engine.pages import attack_page, attack_wording, explain_page, explain_wording, repair_page, score_page
from repair_engine.pages import repair_wording as wording
from repair_engine.pages.rendering import Section
from webapp.jobs.followups import objectives_of
from webapp.jobs.models import Job

Document = dict[str, Any]
_VERBS = {"explained": "explain", "scored": "score"}


@dataclass(frozen=True)
class Outcome:
    """The answer, first of all. "No repair found" is one, with its reasons and what was tried."""

    repaired: bool
    title: str
    headline: str
    beaten: str
    tried: list[str]
    rivals: str = ""  # which controls would gain, where no repair was found
    written: bool = False  # there is a checkpoint
    changes: bool = True  # it was asked for a repair
    hides: bool = False  # what was to be forgotten is still in the features


def document(job: Job) -> Document | None:
    """The report document as far as the row keeps it; None where the repair has not succeeded."""
    if job.state == Job.State.SUCCEEDED and job.result.get("attacked"):
        return dict(job.result)
    if job.state != Job.State.SUCCEEDED or "metric" not in job.result:
        return None
    verb = next((verb for key, verb in _VERBS.items() if job.result.get(key)), "repair")
    return {"verb": verb, "model": job.summary["model"], "data": job.summary["data"], **job.result}


def outcome(of: Document) -> Outcome:
    if of["verb"] == "explain":
        title = f"What {of['metric']['text']} is made of"
        first, *more = explain_wording.headline(of)
        return Outcome(False, title, first, " ".join(more), [], changes=False)
    if of["verb"] == "score":
        first, *more = score_page.headline(of)
        return Outcome(False, f"Values for {of['metric']['text']}", first, " ".join(more), [], changes=False)
    if of["verb"] == "attack":
        first, *more = attack_wording.headline(of)
        return Outcome(False, attack_wording.title(of), first, " ".join(more), [], changes=False)
    found = wording.repaired(of)
    return Outcome(
        repaired=found,
        title=wording.title(of),
        headline=wording.headline(of),
        beaten=wording.beaten(of) if of["controls"] else "",
        tried=[] if found else wording.tried(of),
        rivals="" if found else rivals_said(of),
        written=wording.written(of),
        hides=wording.hides(of),
    )


def _goes_on(job: Job) -> dict[str, str]:
    """The address of a repair for each metric that the run valued."""
    address = reverse("pages:follow", args=[job.pk])
    return {name: f"{address}?{urlencode({'metric': name})}" for name in objectives_of(job)}


@dataclass(frozen=True)
class Part:
    """Sections under one heading, to which one jumps; the address names it."""

    ident: str
    heading: str
    sections: list[Section]


_PARTS = {  # part -> its heading, and what is in it; all else is statistics
    "summary": ("Summary", ("figures", "corruption", "forgetting", "controls", "notices", "warnings")),
    "network": ("Network", ("culprits", "filters", "layers", "histogram", "objectives", "not-players")),
    "choice": ("Choice", ("choice",)),
    "statistics": ("Statistics", ()),
    "files": ("Files", ("files",)),
}


def parts(job: Job, of: Document, chooses: bool = False, shared: bool = False) -> dict[str, Part]:
    """What the page shows, part by part in the order in which they are read.

    Args:
        chooses: the page has a choice of its own, so how it was made is among the statistics.
        shared: for who cannot go on from the run.
    """
    if of["verb"] == "score":
        listed = score_page.sections(of, None if shared else _goes_on(job))
    else:
        listed = {"explain": explain_page, "attack": attack_page}.get(of["verb"], repair_page).sections(of)
    where = {ident: part for part, (_, idents) in _PARTS.items() for ident in idents}
    if chooses:
        where["choice"] = "statistics"
    return {
        part: Part(part, heading, [_below(s) for s in listed if where.get(s.ident, "statistics") == part])
        for part, (heading, _) in _PARTS.items()
    }


def _below(section: Section) -> Section:
    """The section under a part's heading: what it holds is a level lower, and no two things have one name."""
    plain = str(section.body)  # a Markup's own `replace` would escape what is put in
    body = Markup(plain.replace("<h3", "<h4").replace("</h3>", "</h4>"))  # names in it are escaped
    return Section(f"{section.ident}-section" if section.ident in _PARTS else section.ident, section.heading, body)
