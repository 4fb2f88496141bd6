"""Going on from a finished run: with filters ticked in its table, or for another of its objectives."""

from __future__ import annotations

import hashlib
import json
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from repair_engine.errors import BadInput
from webapp.jobs import access, followups
from webapp.jobs.models import Job
from webapp.library.errors import Refused
from webapp.pages import units
from webapp.pages.forms.followups import FollowForm


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def follow(request: HttpRequest, pk: UUID) -> HttpResponse:
    """`?pick=…&pick=…` are the filters, `?metric=…` the objective, `&max_clean_drop=…` a limit. Posted, it starts."""
    job = access.job_for(request.user, pk, access.EDIT)
    if job.state != Job.State.SUCCEEDED:
        messages.error(request, "This run has not finished: a repair can go on from finished ones only.")
        return redirect("pages:repair", job.pk)
    given = request.POST if request.method == "POST" else request.GET
    picked = list(dict.fromkeys(name for name in given.getlist("pick") if name))
    if not picked and not followups.objectives_of(job):
        messages.error(request, "No filter is ticked. Tick those to repair with.")
        return redirect("pages:filters", job.pk)
    form = FollowForm(
        request.POST or None, parent=job, filters=picked, metric=given.get("metric", ""), limits=request.GET
    )
    if form.is_bound and form.is_valid() and (started := _start(request, form, job, picked)):
        return redirect("pages:repair", started.pk)
    found = units.units_of(job)
    known = {name: found.row(found.number[name]) for name in picked if name in found.number} if found else {}
    context = {
        "job": job,
        "form": form,
        "picked": [(name, known.get(name)) for name in picked],
        "looked": followups.reports_before(job),
    }
    return render(request, "pages/follow.html", context, status=422 if form.is_bound else 200)


def _start(request: HttpRequest, form: FollowForm, job: Job, picked: list[str]) -> Job | None:
    """None: it was refused, and the form says why."""
    changes = form.changes
    metric = changes.pop("metric", None)
    asked = json.dumps([picked, metric, {key: value for key, value in changes.items() if key != "key"}])
    once = f"{changes['key']}-{hashlib.sha256(asked.encode()).hexdigest()[:16]}" if changes.get("key") else None
    try:
        started, _ = followups.follow_up(
            owner=request.user,
            parent=job,
            filters=picked,
            metric=metric,
            changes=changes,
            name=changes.get("name", ""),
            priority=changes.get("priority", Job.Priority.NORMAL),
            idempotency_key=once,
        )
    except BadInput as error:
        form.add_error(error.field if error.field in form.fields else None, error.said)
        return None
    except Refused as error:
        form.add_error(None, error.said)
        return None
    return started
