"""What a repair left behind: every filter's value, and the files."""

from __future__ import annotations

from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_safe

from webapp.accounts import rights
from webapp.downloads import send_artifact
from webapp.jobs import access
from webapp.jobs.followups import MOST_FILTERS
from webapp.pages import tables, units


@login_required
@require_safe
def filters(request: HttpRequest, pk: UUID) -> HttpResponse:
    """All filters, sorted, searched and paged by the address."""
    job = access.job_for(request.user, pk, access.SEE)
    artifact = units.file_of(job)
    if artifact is None:
        raise Http404("This repair has no table of filters.")
    found = units.read(artifact.blob.path, artifact.name, units.culprit_sign(job))
    view = tables.view(found, request.GET, "searched" if found.culprit_sign < 0 else "-searched")
    headings = [(key, words, view.turned[key]) for key, (words, _) in tables.COLUMNS.items()]
    context = {"job": job, "file": artifact.name, "view": view, "headings": headings, "most": MOST_FILTERS}
    context["edits"] = rights.may(request.user, job) >= access.EDIT
    context["interval"] = job.result.get("run", {}).get("interval", {}).get("text", "")
    return render(request, "pages/filters.html", context)


@login_required
@require_safe
def file(request: HttpRequest, pk: UUID, name: str) -> HttpResponseBase:
    """A result file: a download, or shown with `?inline=1`."""
    return send_artifact(request, access.artifact_for(request.user, pk, name), inline=request.GET.get("inline") == "1")
