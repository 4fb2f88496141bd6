"""What every template may use."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest

from webapp.waiting import KEY


def site(request: HttpRequest) -> dict:
    # Not `site_name`: Django's sign-in and reset views put the host's name there.
    holds = KEY in request.META  # then who watches a run asks at once again: the answer comes when there is one
    return {"product": "Neuron Repair", "sign_up_open": settings.SIGN_UP_OPEN, "again": "1s" if holds else "2s"}
