"""For who runs the site: what stands between an upload and the machine."""

from __future__ import annotations

from datetime import UTC, datetime

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from repair_engine.support import sandbox
from webapp import sandboxing

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
    if not request.user.is_staff:
        raise Http404("There is nothing at this address.")
    rows = [
        {"name": one.name, "at": datetime.fromtimestamp(one.at, UTC), "cells": [one.layers.get(k) for k in MEANS]}
        for one in sandboxing.said()
    ]
    asked = sorted(sandbox.required())
    return render(request, "pages/operator.html", {"rows": rows, "means": MEANS, "asked": asked})
