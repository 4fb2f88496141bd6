"""Links to a finished run: made, listed and revoked by its owner."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from webapp.jobs import access, sharing
from webapp.library.errors import Refused
from webapp.pages.forms.sharing import LinkForm


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def share(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The address of a new link is in this one response and nowhere else."""
    job = access.job_for(request.user, pk, access.OWN)
    form, address = LinkForm(request.POST or None), ""
    if request.method == "POST" and form.is_valid():
        try:
            _, token = sharing.create_link(job=job, **form.values())
        except Refused as error:
            form.add_error(None, error.said)
        else:
            address = request.build_absolute_uri(reverse("shared:run", args=[token]))
            form = LinkForm()
    context = {"job": job, "form": form, "address": address, "links": access.links_of(job)}
    answer = render(request, "pages/share.html", context, status=422 if form.is_bound and not address else 200)
    answer["Cache-Control"] = "no-store"
    return answer


@login_required
@require_POST
def revoke_link(request: HttpRequest, pk: UUID, link: int) -> HttpResponse:
    found = access.link_for(request.user, pk, link)
    sharing.revoke_link(link=found)
    messages.success(request, "The link no longer works.")
    return redirect("pages:share", pk)
