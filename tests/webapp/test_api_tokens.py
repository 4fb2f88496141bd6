"""/api/v1/tokens/ and what a token may do."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.urls import URLPattern
from django.utils import timezone
from rest_framework.test import APIClient

from webapp.accounts import services
from webapp.accounts.models import ApiToken
from webapp.api import urls

URL = "/api/v1/tokens/"


def with_key(key: str, word: str = "Bearer") -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"{word} {key}")
    return client


def test_made_by_a_person_shown_once_stored_hashed(world):
    browser = APIClient()
    browser.force_login(world.owner.user)
    answer = browser.post(URL, {"name": "CI"})
    assert answer.status_code == 201
    key = answer.json()["key"]
    assert with_key(key).get("/api/v1/").json()["user"] == "owner"
    assert with_key(key, "Token").get("/api/v1/").status_code == 200
    assert key not in str(ApiToken.objects.filter(name="CI").values())
    assert key not in browser.get(URL).content.decode()


def test_a_token_cannot_make_tokens(world):
    answer = world.owner.api.post(URL, {"name": "offspring"})
    assert answer.status_code == 403
    assert ApiToken.objects.filter(owner=world.owner.user).count() == 1


def test_a_revoked_token_is_unknown_at_once(world):
    token = world.owner.user.tokens.get()
    api = world.owner.api
    assert api.delete(f"{URL}{token.pk}/").status_code == 204
    assert api.get("/api/v1/").status_code == 401


def test_wrong_keys(world):
    for key in ("", "nr_", "nr_" + "x" * 43, world.owner.key[:-1], world.owner.key.upper()):
        assert with_key(key).get("/api/v1/").status_code == 401


def test_a_closed_account_has_no_access(world):
    world.owner.user.is_active = False
    world.owner.user.save()
    assert world.owner.api.get("/api/v1/").status_code == 401


def test_remembers_when_it_was_used(world):
    world.owner.api.get("/api/v1/")
    first = world.owner.user.tokens.get().last_used_at
    assert first is not None
    world.owner.api.get("/api/v1/")
    assert world.owner.user.tokens.get().last_used_at == first  # once a minute is enough


def test_a_browser_needs_the_csrf_token(world):
    browser = APIClient(enforce_csrf_checks=True)
    browser.force_login(world.owner.user)
    assert browser.post(URL, {"name": "forged"}).status_code == 403


def test_a_read_token_may_only_get_wherever_it_calls(world):
    """Every address of the API, every method: a new view cannot forget it."""
    _, key = services.create_token(owner=world.owner.user, name="reader", scope="read")
    reader = with_key(key)
    for pattern in urls.urlpatterns:
        assert isinstance(pattern, URLPattern)
        route = (
            str(pattern.pattern)
            .replace("<uuid:pk>", str(world.owner.job.pk))
            .replace("<int:pk>", "1")
            .replace("<int:link>", "1")
            .replace("<int:member>", "1")
            .replace("<int:invitation>", "1")
        )
        for method in ("post", "put", "patch", "delete"):
            answer = getattr(reader, method)("/api/v1/" + route.replace("<str:name>", "report.json"))
            assert answer.status_code == 403, (method, route)
            assert "only read" in answer.json()["detail"]
    assert reader.get("/api/v1/repairs/").status_code == 200
    assert reader.options("/api/v1/repairs/").status_code == 200
    assert ApiToken.objects.filter(owner=world.owner.user, revoked_at=None).count() == 2


def test_a_token_ends_at_its_time(world):
    token, key = services.create_token(
        owner=world.owner.user, name="short", expires_at=timezone.now() + timedelta(hours=1)
    )
    assert with_key(key).get("/api/v1/").status_code == 200
    ApiToken.objects.filter(pk=token.pk).update(expires_at=timezone.now())
    answer = with_key(key).get("/api/v1/")
    assert answer.status_code == 401
    assert "expired" in answer.json()["detail"]
    assert b"expired" in world.owner.browser.get("/account/tokens/").content


def test_scope_and_end_are_given_and_shown(world):
    browser = APIClient()
    browser.force_login(world.owner.user)
    end = timezone.now() + timedelta(days=1)
    made = browser.post(URL, {"name": "CI", "scope": "read", "expires_at": end.isoformat()}).json()
    assert (made["scope"], made["expires_at"][:16]) == ("read", end.isoformat()[:16])
    plain = browser.post(URL, {"name": "CI"}).json()
    assert (plain["scope"], plain["expires_at"]) == ("run", None)


@pytest.mark.parametrize(
    ("field", "value"), [("scope", "admin"), ("expires_at", "2001-01-01T00:00:00Z"), ("expires_at", "soon")]
)
def test_a_scope_or_an_end_that_makes_no_sense(world, field, value):
    browser = APIClient()
    browser.force_login(world.owner.user)
    answer = browser.post(URL, {"name": "CI", field: value})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == field


def test_the_page_makes_tokens_with_scope_and_end(world):
    world.owner.browser.post("/account/tokens/", {"name": "paged", "scope": "read", "days": "30"})
    token = ApiToken.objects.get(name="paged")
    assert token.scope == "read"
    assert timedelta(days=29) < token.expires_at - timezone.now() < timedelta(days=31)
