"""Pages for people."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from webapp import access


@login_required
def home(request: HttpRequest) -> HttpResponse:
    return render(request, "pages/home.html", {"jobs": access.jobs_of(request.user)[:20]})
