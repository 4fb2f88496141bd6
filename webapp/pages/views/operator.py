"""For who runs the site: who works on what, what failed, what stands between an upload and the machine."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from repair_engine.support import sandbox
from webapp import sandboxing
from webapp.jobs import access, services
from webapp.library.errors import Refused
from webapp.pages import operation

MEANS = {
    "environment": "it starts without this site's settings and secrets",
    "limits": "its memory, time and output are bounded",
    "no_new_privs": "it can gain no privileges, and root's are given up",
    "namespaces": "it sees no other process, no network and no file but its input and Python's libraries",
    "landlock": "the kernel refuses it all files but those, and signals to others",
    "seccomp": "the kernel refuses it sockets, programs, processes and opening files for writing",
}


@login_required
@require_safe
def operator(request: HttpRequest) -> HttpResponse:
    access.staff_only(request.user)
    rows = [
        {
            "name": one.name,
            "at": datetime.fromtimestamp(one.at, UTC),
            "cells": [{"layer": layer, "holds": one.layers.get(layer)} for layer in MEANS],
        }
        for one in sandboxing.said()
    ]
    stations = operation.stations()
    context = {
        "stations": stations,
        "queues": operation.queues(stations),
        "shares": operation.shares(),
        "disk": operation.disk(),
        "accounts": operation.accounts(),
        "quota": settings.USER_QUOTA_BYTES,
        "failed": operation.failed(),
        "rows": rows,
        "means": MEANS,
        "asked": sorted(sandbox.required()),
    }
    return render(request, "pages/operator.html", context)


@login_required
@require_POST
def retry(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Anybody's run, for its owner."""
    access.staff_only(request.user)
    job = access.anybodys_job_for(request.user, pk)
    try:
        services.retry_job(job=job)
    except Refused as error:
        messages.error(request, error.said)
    else:
        messages.success(request, f"The {job.word} goes on from what was done.")
    return redirect("pages:operator")
