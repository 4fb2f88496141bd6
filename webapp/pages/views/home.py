"""The start page: what is there, what is under way, and what to do first."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from webapp.jobs import reaper
from webapp.pages import selectors


@login_required
@require_safe
def home(request: HttpRequest) -> HttpResponse:
    reaper.reap()
    return render(request, "pages/home.html", {"board": selectors.dashboard(request.user)})
