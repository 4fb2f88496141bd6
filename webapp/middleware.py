"""Response headers that every page carries, and the end of what a request left on the disk."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from webapp.library import uploads

POLICY = {
    "default-src": "'self'",
    "img-src": "'self' data:",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}


def policy(**changes: str) -> str:
    """The site's policy with some directives changed: `policy(style_src="'self' 'unsafe-inline'")`."""
    merged = POLICY | {name.replace("_", "-"): value for name, value in changes.items()}
    return "; ".join(f"{name} {value}" for name, value in merged.items())


class ContentSecurityPolicy:
    """Only this site's own files: pages work offline and injected markup cannot fetch or run anything."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", policy())
        response.headers.setdefault("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
        return response


class Uploads:
    """Outermost: whatever the end of a request, its files and the room held for them go. And before the CSRF check,
    which reads the body, it lets those upload who may. The API does so itself, once it knows whose token it is."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        try:
            return self.get_response(request)
        finally:
            uploads.end(request)

    def process_view(self, request: HttpRequest, view: Callable, args: tuple, kwargs: dict) -> None:
        kind = getattr(view, "takes_file", None) or getattr(getattr(view, "cls", None), "takes_file", None)
        signed_in = "Authorization" not in request.headers and request.user.is_authenticated
        if kind and request.method == "POST" and signed_in:
            uploads.accept(request, request.user, kind)
