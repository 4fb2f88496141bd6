"""What every template may use."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest


def site(request: HttpRequest) -> dict:
    return {"site_name": "Neuron Repair", "sign_up_open": settings.SIGN_UP_OPEN}
