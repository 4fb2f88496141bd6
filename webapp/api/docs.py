"""The API's documentation page: Swagger UI from files that are served here, so it works offline."""

from __future__ import annotations

from django.http import HttpResponseBase
from django.views import View
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularSwaggerSplitView
from rest_framework.request import Request

from webapp.middleware import policy


class ApiDocs(SpectacularSwaggerSplitView):
    """Split: the script is a file of its own, so that the page needs no inline script."""

    permission_classes = []
    authentication_classes = []  # for anyone: also for who sends a token that is no longer known
    url_name = "schema"

    @extend_schema(exclude=True)
    def get(self, request: Request, *args: object, **kwargs: object) -> HttpResponseBase:
        response = super().get(request, *args, **kwargs)
        # Swagger UI sets styles inline; it fetches and runs nothing from elsewhere.
        response.headers["Content-Security-Policy"] = policy(style_src="'self' 'unsafe-inline'")
        return response

    def options(self, request: Request, *args: object, **kwargs: object) -> HttpResponseBase:
        """Django's answer: DRF's description of a view cannot be rendered by a page's template."""
        return View.options(self, request, *args, **kwargs)
