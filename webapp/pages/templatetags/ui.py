"""Words and numbers as the pages write them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from django import template
from django.conf import settings
from django.urls import reverse

from repair_engine.documents.known import row_known
from repair_engine.support import words
from webapp import waiting
from webapp.jobs import naming, queueing
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
    Job.Outcome.NOT_SHOWN: "not shown to help",
    Job.Outcome.EXPLAINED: "explained",
    Job.Outcome.SCORED: "valued",
    Job.Outcome.ATTACKED: "attacked",
}


@register.inclusion_tag("pages/_state.html")
def state(thing: Upload | Job) -> dict:
    """A state as a word with a mark. A repair that has succeeded shows what came of it."""
    if getattr(thing, "paused", False):
        return {"value": "paused", "words": "paused"}
    value = str(getattr(thing, "outcome", "") or thing.state)
    return {"value": value, "words": STATES.get(value, value)}


@register.filter
def known(row: Mapping[str, Any]) -> bool:
    """A filter's interval leaves something out of all that a value can be."""
    return row_known(row)


register.filter("metric_words", naming.metric_words)


@register.filter
def title(job: Job) -> str:
    """Its name, or what was asked of which model."""
    return naming.title(job.name, job.request, job.model.name, bool(job.audited_id))


@register.filter
def priority_word(job: Job) -> str:
    return queueing.WORDS[job.priority]


@register.filter
def asked(job: Job) -> str:
    """What was asked, where model and dataset stand beside it."""
    return naming.asked_words(job.request, bool(job.audited_id))


@register.filter
def short_title(job: Job) -> str:
    """Its name, or what was asked, where model and dataset stand beside it."""
    return job.name or asked(job)


@register.filter
def kind_words(job: Job) -> str:
    return naming.KINDS[naming.kind_of(job.request)]


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
def points(change: float | str | None) -> str:
    """A change of a share in percentage points: .081 as `+8.1`."""
    return "" if change in (None, "") else words.points(change)


@register.filter
def short_number(value: int | str | None) -> str:
    """1234567 as `1.23 M`: to see which is larger, not to repeat it."""
    if value in (None, ""):
        return ""
    for unit, word in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= unit:
            return f"{value / unit:.3g} {word}"
    return str(value)


@register.simple_tag(takes_context=True)
def picture_url(context: dict, number: int, size: str) -> str:
    """Of a thumbnail, for who looks: the owner, or whoever came by a link."""
    where = [context["version"], number, size]
    token, attacked = context.get("token"), context.get("adversarial")
    if token:
        return reverse("shared:adversarial" if attacked else "shared:thumbnail", args=[token, *where])
    if attacked:
        return reverse("pages:adversarial", args=[context["job"].pk, *where])
    return reverse("pages:dataset_thumbnail", args=[context["pictures_of"].pk, *where])


@register.simple_tag(takes_context=True)
def image_url(context: dict, number: int) -> str:
    """Of the page of one image of a run, likewise."""
    if token := context.get("token"):
        return reverse("shared:image", args=[token, number])
    return reverse("pages:image", args=[context["job"].pk, number])


@register.filter
def any_running(jobs: Iterable[Job]) -> bool:
    return any(not job.ended for job in jobs)


@register.filter
def tag_of(jobs: Iterable[Job]) -> str:
    """The entity tag of those that run, as this page shows them."""
    return waiting.tag_of({job.pk: job.seen_as for job in jobs if not job.ended})


@register.filter
def unless(tag: str) -> str:
    """The headers, as JSON, of a request that waits until something else can be shown than under this tag."""
    return json.dumps({"Prefer": f"wait={settings.WAIT_SECONDS}", "If-None-Match": tag})


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


@register.simple_tag
def querystring_of(**parameters: object) -> str:
    """These parameters as a query, without the question mark."""
    return urlencode(parameters)
