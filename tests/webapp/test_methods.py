"""Every address, every method, for anyone: an answer, never a server error."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

METHODS = ["OPTIONS", "HEAD", "GET", "TRACE", "PROPFIND", "NONSENSE", "PATCH", "PUT", "POST", "DELETE"]
ACCEPTS = ["*/*", "application/json", "text/html", "image/nothing", "no media type"]


def patterns(resolver: URLResolver, before: str = "") -> Iterator[str]:
    for entry in resolver.url_patterns:
        route = before + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from patterns(entry, route)
        else:
            assert isinstance(entry, URLPattern)
            yield route


def addresses(job_id: object) -> list[str]:
    """One address per route of the URL conf. Fails on a converter it does not know: fill it in."""
    found = []
    for route in patterns(get_resolver()):
        for kind, value in {
            "uuid:pk": job_id, "int:pk": 1, "str:name": "report.json", "str:verb": "explain", "path:path": "x",
            "uidb64": "MQ", "token": "a-b", "int:number": 0, "slug:version": "0" * 16, "slug:size": "small",
            "slug:what": "effect", "uuid:dataset": job_id, "int:link": 1, "str:token": "a-b",
            "int:member": 1, "int:invitation": 1, "int:user": 1,
        }.items():  # fmt: skip
            route = route.replace(f"<{kind}>", str(value))
        assert "<" not in route, route
        found.append(f"/{route}")
    return found


def ask(client: Client, places: list[str], headers: dict[str, str]) -> list[tuple]:
    bad = []
    for place in places:
        for method in METHODS:
            for accept in ACCEPTS if method in ("OPTIONS", "GET", "PUT") else ACCEPTS[:1]:
                answer = client.generic(method, place, b"", "application/json", headers={"Accept": accept, **headers})
                if answer.status_code >= 500:
                    bad.append((method, place, accept, answer.status_code))
    return bad


@pytest.mark.parametrize("who", ["nobody", "a stranger's token", "signed in", "a token"])
def test_no_method_ends_in_a_server_error(world, who, monkeypatch):
    monkeypatch.setattr("webapp.api.about.architectures", lambda: {"registered": [], "torchvision": []})  # seconds
    client = Client(raise_request_exception=False)
    headers = {}
    if who == "signed in":
        client.force_login(world.owner.user)
    elif who != "nobody":
        headers["Authorization"] = f"Bearer {world.owner.key if who == 'a token' else 'nr_unknown'}"
    places = addresses(world.owner.job.pk)
    assert len(places) > 40
    if who == "signed in":  # what is theirs, and what is nobody's
        places += [place for place in addresses(uuid.uuid4()) if place not in places]
    assert ask(client, places, headers) == []
