"""The units of a finished run: their map as data, and one unit's card."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import parse_etags
from django.views.decorators.http import require_safe

from webapp.jobs import access
from webapp.jobs.models import Job
from webapp.pages import units

_NOTHING = "default-src 'none'; sandbox"


def of_run(request: HttpRequest, job: Job) -> dict[str, Any]:
    """What the section with the map needs, and the card of `?unit=…`; empty: the run left no values of units."""
    found = units.units_of(job)
    if found is None or not len(found):
        return {}
    name = request.GET.get("unit", "")
    card = _card(job, found, name) if name in found.number else {"no_such_unit": name}
    return {"units": found, "marked": units.marked(found), **card}


def _card(job: Job, of: units.Units, name: str) -> dict[str, Any]:
    i = of.number[name]
    return {
        "unit": of.row(i),
        "before": of.ids[i - 1] if i > 0 else "",
        "after": of.ids[i + 1] if i + 1 < len(of) else "",
    }


@login_required
@require_safe
def unit_map(request: HttpRequest, pk: UUID) -> HttpResponse:
    """What the map of a run's units is drawn from (`units.map_of`); it never changes."""
    job = access.job_for(request.user, pk)
    artifact = units.file_of(job)
    if artifact is None:
        raise Http404("This run has no values of units.")
    sign = units.culprit_sign(job)
    etag = f'"{artifact.blob_id[:32]}-{units.MAP_VERSION}{sign:+d}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff"}
    known = parse_etags(request.headers.get("If-None-Match", ""))
    if etag in known or "*" in known:
        return HttpResponse(status=304, headers=headers)
    content = units.map_of(artifact.blob.path, artifact.name, sign)
    headers["Content-Security-Policy"] = _NOTHING
    return HttpResponse(content, content_type="application/octet-stream", headers=headers)


@login_required
@require_safe
def unit(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The card of the unit `?unit=site:channel`, without the page around it; the page's own address names it, too."""
    job = access.job_for(request.user, pk)
    found, name = units.units_of(job), request.GET.get("unit", "")
    if found is None or name not in found.number:
        raise Http404("This run has no unit of this name.")
    query = QueryDict(urlsplit(request.htmx.current_url or "").query, mutable=True)  # what else the page shows
    query["unit"] = name
    address = f"{reverse('pages:repair', args=[job.pk])}?{query.urlencode()}#unit"
    if not request.htmx:
        return redirect(address)
    answer = render(request, "pages/_unit.html", {"job": job, **_card(job, found, name)})
    answer["HX-Push-Url"] = address
    return answer
