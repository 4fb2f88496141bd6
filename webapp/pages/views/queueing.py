"""What people say about a run while it waits or works: pause, resume, priority; and what staff allow."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from webapp.jobs import access, queueing
from webapp.library.errors import Refused
from webapp.pages.forms.queueing import AllowanceForm


@login_required
@require_POST
def pause(request: HttpRequest, pk: UUID) -> HttpResponse:
    return _turned(request, pk, queueing.pause, "is paused. What is done is kept.")


@login_required
@require_POST
def resume(request: HttpRequest, pk: UUID) -> HttpResponse:
    return _turned(request, pk, queueing.resume, "goes on from what was done, when its turn comes.")


def _turned(request: HttpRequest, pk: UUID, turn: Callable[..., bool], said: str) -> HttpResponse:
    job = access.job_for(request.user, pk, access.EDIT)
    try:
        if turn(by=request.user, job=job):
            messages.success(request, f"The {job.word} {said}")
    except Refused as error:
        messages.info(request, error.said)
    return redirect("pages:repair", job.pk)


@login_required
@require_POST
def priority(request: HttpRequest, pk: UUID) -> HttpResponse:
    job = access.job_for(request.user, pk, access.EDIT)
    _prioritize(request, job)
    return redirect("pages:repair", job.pk)


@login_required
@require_POST
def anybodys_priority(request: HttpRequest, pk: UUID) -> HttpResponse:
    """By staff, from the operator's page."""
    access.staff_only(request.user)
    _prioritize(request, access.anybodys_job_for(request.user, pk))
    return redirect("pages:operator")


def _prioritize(request: HttpRequest, job) -> None:
    word = request.POST.get("priority", "")
    if word not in queueing.BY_STAFF:
        messages.error(request, f"Choose one of {', '.join(queueing.PRIORITIES)}.")
        return
    try:
        queueing.prioritize(by=request.user, job=job, priority=queueing.BY_STAFF[word])
    except Refused as error:
        messages.error(request, error.said)
    else:
        messages.success(request, f"The priority of this {job.word} is {word}.")


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def allowance(request: HttpRequest, user: int) -> HttpResponse:
    """How much of the workers one person may have: by staff."""
    person = access.person_for(request.user, user)
    form = AllowanceForm(request.POST or None, person=person)
    if request.method == "POST" and form.is_valid():
        queueing.allow(user=person, **form.cleaned_data)
        messages.success(request, f"What {person} may have of the workers has changed.")
        return redirect("pages:operator")
    context = {"person": person, "form": form}
    return render(request, "pages/allowance.html", context, status=422 if form.is_bound else 200)
