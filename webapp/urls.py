"""Addresses: pages, accounts, the API and its documentation. (`monitoring` answers /livez, /readyz and /metrics.)"""

from __future__ import annotations

import sys

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView

from webapp import full_disk
from webapp.api import receipts
from webapp.api.docs import ApiDocs
from webapp.api.problems import as_response
from webapp.jobs.access import NotThere, NotYours

urlpatterns = [
    path("account/", include("webapp.pages.account_urls")),
    path("api/v1/", include("webapp.api.urls")),
    path("api/schema/", SpectacularAPIView.as_view(permission_classes=[], authentication_classes=[]), name="schema"),
    path("api/docs/", ApiDocs.as_view(), name="api_docs"),
    path(receipts.KEYS.lstrip("/"), receipts.keys, name="receipt_keys"),
    path("shared/", include("webapp.pages.shared_urls")),
    path("", include("webapp.pages.urls")),
]


def _error(request: HttpRequest, status: int, detail: str) -> HttpResponse:
    if request.path.startswith("/api/"):
        return as_response(request, status, detail)
    return render(request, "error.html", {"status": status, "detail": detail}, status=status)


def handler400(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _error(request, 400, "The request could not be understood.")


def handler403(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _error(request, 403, str(exception) if isinstance(exception, NotYours) else "This is not allowed.")


def handler404(request: HttpRequest, exception: Exception) -> HttpResponse:
    answer = _error(request, 404, "There is nothing at this address.")
    if isinstance(exception, NotThere) and "HX-Request" in request.headers:
        answer["HX-Refresh"] = "true"  # deleted while somebody looks at it: the page itself says so
    return answer


def handler500(request: HttpRequest) -> HttpResponse:
    if passing := full_disk.answer(sys.exc_info()[1]):
        status, said, mend = passing
        if request.path.startswith("/api/"):
            return as_response(request, status, said)
        return HttpResponse(render_to_string("500.html", {"detail": f"{said} {mend}", "status": status}), status=status)
    if request.path.startswith("/api/"):
        return as_response(request, 500, "Something went wrong on our side. The operator finds it in the log.")
    return HttpResponse(render_to_string("500.html"), status=500)  # no account's menu: the database may be away
