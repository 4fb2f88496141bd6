"""Words and numbers as the pages write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from django import template

from repair_engine.documents.known import row_known
from webapp.jobs.models import Job
from webapp.library.models import Upload

register = template.Library()

STATES = {
    Upload.State.VALIDATING: "being checked",
    Upload.State.READY: "ready",
    Upload.State.REJECTED: "rejected",
    Job.State.STARTING: "waiting to start",
    Job.State.PROCESSING: "running",
    Job.State.SUCCEEDED: "finished",
    Job.State.FAILED: "failed",
    Job.State.CANCELED: "canceled",
    Job.Outcome.REPAIRED: "repaired",
    Job.Outcome.NO_REPAIR: "no repair found",
    Job.Outcome.EXPLAINED: "explained",
    Job.Outcome.SCORED: "valued",
    Job.Outcome.ATTACKED: "attacked",
}


@register.inclusion_tag("pages/_state.html")
def state(thing: Upload | Job) -> dict:
    """A state as a word with a mark. A repair that has succeeded shows what came of it."""
    value = str(getattr(thing, "outcome", "") or thing.state)
    return {"value": value, "words": STATES.get(value, value)}


@register.filter
def known(row: Mapping[str, Any]) -> bool:
    """A filter's interval leaves something out of all that a value can be."""
    return row_known(row)


@register.filter
def metric_words(metric: str) -> str:
    """`subgroup-recall:ground` as people say it."""
    name, _, argument = (metric or "").partition(":")
    return {
        "recall": f"recall of {argument}",
        "subgroup-recall": f"subgroup-fair recall over {argument}",
        "attack-success": "attack success",
    }.get(name, name)


@register.filter
def title(job: Job) -> str:
    """Its name, or what was asked of which model."""
    if job.attacks and not job.name:
        return f"Attack: {job.model.name}" + (" and its repair" if job.audited_id else "")
    chosen = len(job.request.get("filters", ()))
    by_hand = f", {chosen} filter{'' if chosen == 1 else 's'} by hand" if chosen else ""
    words = metric_words(job.request.get("metric", ""))
    return job.name or f"{words[:1].upper()}{words[1:]}{by_hand}: {job.model.name}"


@register.filter
def duration(seconds: float | str | None) -> str:
    """3725 as `1 h 02 min`."""
    if seconds in (None, ""):
        return ""
    whole = max(0, round(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


@register.filter
def percentage(share: float | str | None, digits: int = 0) -> str:
    return "" if share in (None, "") else f"{share:.{digits}%}"


@register.filter
def figure(value: float | str | None, digits: int = 5) -> str:
    """A value with a real minus sign; empty where there is none (templates give "" for what is missing)."""
    return "" if value in (None, "") else f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


@register.simple_tag(takes_context=True)
def query(context: dict, **changes: object) -> str:
    """This page's query with some parameters changed; None takes one out."""
    kept = {key: value for key, value in context["request"].GET.items() if key not in changes}
    kept |= {key: str(value) for key, value in changes.items() if value not in (None, "")}
    return "?" + urlencode(kept)
