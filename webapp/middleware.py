"""Who calls, behind a proxy; headers that every page carries; the end of what a request left on the disk."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from webapp.library import uploads


class Forwarded:
    """Makes REMOTE_ADDR the client's where a declared proxy (NR_PROXY_NETWORKS) says whose it is.

    Of X-Forwarded-For the last address that is no declared proxy's counts: what stands before it, the client wrote.
    From other peers, where proxies are declared, forwarded headers are dropped.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        meta = request.META
        if settings.PROXY_NETWORKS:
            if _is_proxy(meta.get("REMOTE_ADDR", "")):
                meta["REMOTE_ADDR"] = _client(meta["REMOTE_ADDR"], meta.get("HTTP_X_FORWARDED_FOR", ""))
            else:
                for name in [name for name in meta if name.startswith(("HTTP_X_FORWARDED_", "HTTP_FORWARDED"))]:
                    del meta[name]
        return self.get_response(request)


def _client(peer: str, forwarded: str) -> str:
    client = peer
    for word in reversed(forwarded.split(",")):
        try:
            client = str(ipaddress.ip_address(word.strip()))
        except ValueError:
            return client
        if not _is_proxy(client):
            return client
    return client


def _is_proxy(address: str) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return any(ip in network for network in settings.PROXY_NETWORKS)


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
