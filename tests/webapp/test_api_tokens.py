"""/api/v1/tokens/ and what a token may do."""

from __future__ import annotations

from rest_framework.test import APIClient

from webapp.accounts.models import ApiToken

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
