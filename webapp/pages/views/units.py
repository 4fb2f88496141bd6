"""The units of a finished run: their map as data, and one unit's card."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_http_methods, require_safe

from webapp.accounts import rights
from webapp.downloads import has_it
from webapp.jobs import access, studies
from webapp.jobs.models import Job, UnitStudy
from webapp.pages import unit_cards, units

_NOTHING = "default-src 'none'; sandbox"


def of_run(request: HttpRequest, job: Job, token: str = "") -> dict[str, Any]:
    """What the section with the map needs, and the card of `?unit=…`; empty: the run left no values of units.

    Args:
        token: of the link by which it is seen (`shared`); "": by its owner.
    """
    found = units.units_of(job)
    if found is None or not len(found):
        return {}
    name = request.GET.get("unit", "")
    card = (
        _card(request, job, found, name, token)
        if name in found.number
        else {"no_such_unit": name, **_addresses(job, token)}
    )
    return {"units": found, "marked": units.marked(found), **card}


def _addresses(job: Job, token: str) -> dict[str, str]:
    """Where the parts of the map are: for its owner, or for whoever came by a link."""
    where, args = ("shared", [token]) if token else ("pages", [job.pk])
    found = {f"{name}_url": reverse(f"{where}:{name}", args=args) for name in ("map", "unit")}
    return found if token else found | {"table_url": reverse("pages:filters", args=[job.pk])}


def _card(request: HttpRequest, job: Job, of: units.Units, name: str, token: str = "") -> dict[str, Any]:
    """A visitor sees what the run itself found: a worker's part shows images of *select* and is made on demand."""
    i = of.number[name]
    row = of.row(i)
    return {
        "unit": row,
        "before": of.ids[i - 1] if i > 0 else "",
        "after": of.ids[i + 1] if i + 1 < len(of) else "",
        **_addresses(job, token),
        **({} if token else unit_cards.parts(job, row, rights.may(request.user, job) >= access.EDIT)),
    }


def _unit_of(job: Job, name: str) -> tuple[units.Units, str]:
    found = units.units_of(job)
    if found is None or name not in found.number:
        raise Http404("This run has no unit of this name.")
    return found, name


@login_required
@require_safe
def unit_map(request: HttpRequest, pk: UUID) -> HttpResponse:
    """What the map of a run's units is drawn from (`units.map_of`); it never changes."""
    return map_of(request, access.job_for(request.user, pk, access.SEE))


def map_of(request: HttpRequest, job: Job) -> HttpResponse:
    artifact = units.file_of(job)
    if artifact is None:
        raise Http404("This run has no values of units.")
    sign = units.culprit_sign(job)
    etag = f'"{artifact.blob_id[:32]}-{units.MAP_VERSION}{sign:+d}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff"}
    if has_it(request, etag):
        return HttpResponse(status=304, headers=headers)
    content = units.map_of(artifact.blob.path, artifact.name, sign)
    headers["Content-Security-Policy"] = _NOTHING
    return HttpResponse(content, content_type="application/octet-stream", headers=headers)


@login_required
@require_safe
def unit(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The card of the unit `?unit=site:channel`, without the page around it; the page's own address names it, too."""
    job = access.job_for(request.user, pk, access.SEE)
    return card(request, job, reverse("pages:repair", args=[job.pk]))


def card(request: HttpRequest, job: Job, page: str, token: str = "") -> HttpResponse:
    found, name = _unit_of(job, request.GET.get("unit", ""))
    query = QueryDict(urlsplit(request.htmx.current_url or "").query, mutable=True)  # what else the page shows
    query["unit"] = name
    address = f"{page}?{query.urlencode()}#unit"
    if not request.htmx:
        return redirect(address)
    answer = render(
        request, "pages/_unit.html", {"job": job, "token": token, **_card(request, job, found, name, token)}
    )
    answer["HX-Push-Url"] = address
    return answer


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def unit_study(request: HttpRequest, pk: UUID, what: str) -> HttpResponse:
    """The part of a card that a worker makes, while it is being made; posted, it is asked for, or tried again."""
    job = access.job_for(request.user, pk, access.EDIT if request.method == "POST" else access.SEE)
    given = request.POST if request.method == "POST" else request.GET
    found, name = _unit_of(job, given.get("unit", ""))
    may = rights.may(request.user, job)
    if what not in UnitStudy.What.values:
        raise Http404("There is no such part of a card.")
    row = found.row(found.number[name])
    if request.method == "POST":
        studies.again(job, name, what)
        study: UnitStudy | None = studies.wanted(job, name, what)
    else:
        study = studies.found(job, name).get(what)
    if not request.htmx:
        return redirect(f"{reverse('pages:repair', args=[job.pk])}?{urlencode({'unit': name})}#unit-{what}")
    context = {"job": job, "unit": row, "part": unit_cards.part(job, row, what, study, may >= access.EDIT)}
    return render(request, "pages/_unit_study.html", context)
