"""What every template may use."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest


def site(request: HttpRequest) -> dict:
    # Not `site_name`: Django's sign-in and reset views put the host's name there.
    return {"product": "Neuron Repair", "sign_up_open": settings.SIGN_UP_OPEN}
