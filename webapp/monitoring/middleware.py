"""Around every request: an id for its lines of the log, a line when it changed something, and what machines ask."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from uuid import uuid4

from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed

from webapp import logs
from webapp.monitoring import metrics, probes

requests, audit = logging.getLogger("webapp.request"), logging.getLogger("webapp.audit")
_ID = re.compile(r"[\w.:-]{1,100}", re.ASCII)
_SAFE = ("GET", "HEAD", "OPTIONS")


class Machines:
    """Answers `/livez`, `/readyz` and `/metrics` by whatever name: probes and scrapers use addresses."""

    views = {"/livez": probes.livez, "/readyz": probes.readyz, "/metrics": metrics.view}

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        view = self.views.get(request.path_info)
        if view is None:
            return self.get_response(request)
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        answer = view(request)
        answer["Cache-Control"] = "no-store"
        return answer


class Log:
    """X-Request-ID, the caller's where it sent one, stands in every line that the request causes.

    A request that changed something is told to `webapp.audit`: who (account, token, address) did what (the address'
    name) to which object. Bodies are not: they hold passwords and secrets.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        sent = request.headers.get("X-Request-ID", "")
        number = sent if _ID.fullmatch(sent) else uuid4().hex
        begun = time.monotonic()
        with logs.about(request=number):
            answer = self.get_response(request)
            self._tell(request, answer, time.monotonic() - begun)
        answer["X-Request-ID"] = number
        return answer

    def _tell(self, request: HttpRequest, answer: HttpResponse, seconds: float) -> None:
        said = {"method": request.method, "path": request.path, "status": answer.status_code}
        requests.info(
            "%s %s %s", *said.values(), extra={**said, "seconds": round(seconds, 4), "address": _address(request)}
        )
        if request.method in _SAFE or answer.status_code >= 400:
            return
        match, token = request.resolver_match, getattr(request, "auth", None)
        what = match.view_name if match else request.path
        objects = {name: str(value) for name, value in match.kwargs.items()} if match else {}
        data = getattr(answer, "data", None)
        made = (data.get("id") if isinstance(data, dict) else None) or answer.headers.get("Location", "")
        who = getattr(getattr(request, "user", None), "username", "") or "nobody"
        extra = {
            **said, "user": who, "token": getattr(token, "hint", ""), "address": _address(request), "action": what,
            "object": objects, "led_to": made,
        }  # fmt: skip
        audit.info("%s %s %s %s %s", who, request.method, what, " ".join(objects.values()), made, extra=extra)


def _address(request: HttpRequest) -> str:
    return request.META.get("REMOTE_ADDR", "")
