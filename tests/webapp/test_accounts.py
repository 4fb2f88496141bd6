"""Sign up, sign in, sign out, tokens: the pages."""

from __future__ import annotations

import pytest
from django.test import Client

from webapp.accounts.models import User

NEW = {
    "username": "ada",
    "email": "ada@example.org",
    "password1": "correct horse battery",
    "password2": "correct horse battery",
}


def test_sign_up_signs_in(world):
    client = Client()
    assert client.get("/account/sign-up/").status_code == 200
    answer = client.post("/account/sign-up/", NEW)
    assert (answer.status_code, answer["Location"]) == (302, "/")
    assert client.get("/").status_code == 200


@pytest.mark.parametrize(
    "changes",
    [{"username": "owner"}, {"password2": "another"}, {"password1": "123", "password2": "123"}, {"username": ""}],
)
def test_sign_up_with_bad_input(world, changes):
    answer = Client().post("/account/sign-up/", {**NEW, **changes})
    assert answer.status_code == 200
    assert not User.objects.filter(username="ada").exists()
    assert b"errorlist" in answer.content


def test_sign_up_can_be_closed(world, settings):
    settings.SIGN_UP_OPEN = False
    assert Client().get("/account/sign-up/").status_code == 404
    assert Client().post("/account/sign-up/", NEW).status_code == 404
    assert b"Sign up" not in Client().get("/account/sign-in/").content


@pytest.mark.parametrize("page", ["sign-in/", "sign-up/", "forgot/"])
def test_pages_before_signing_in_carry_the_product_s_name(page):
    """Django's own views put the host's name into the context."""
    assert b'href="/">Neuron Repair</a>' in Client().get(f"/account/{page}").content


def test_sign_in_and_out(world):
    client = Client()
    home = client.get("/")
    assert (home.status_code, home["Location"]) == (302, "/account/sign-in/?next=/")
    answer = client.post("/account/sign-in/", {"username": "owner", "password": "correct horse battery"})
    assert answer.status_code == 302
    assert client.get("/").status_code == 200
    assert client.get("/account/sign-out/").status_code == 405
    client.post("/account/sign-out/")
    assert client.get("/").status_code == 302


def test_guessing_passwords_is_slowed_down(world):
    client, wrong = Client(), {"username": "owner", "password": "wrong"}
    codes = [client.post("/account/sign-in/", wrong).status_code for _ in range(11)]
    assert codes == [200] * 10 + [429]
    right = {"username": "owner", "password": "correct horse battery"}
    assert client.post("/account/sign-in/", right).status_code == 429
    mate = {"username": "mate", "password": "correct horse battery"}
    assert Client().post("/account/sign-in/", mate).status_code == 302


def test_forms_need_the_csrf_token(world):
    client = Client(enforce_csrf_checks=True)
    assert client.post("/account/sign-in/", {"username": "owner", "password": "x"}).status_code == 403


def test_a_token_is_shown_once(world):
    browser = world.owner.browser
    answer = browser.post("/account/tokens/", {"name": "CI"})
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store"
    key = answer.context["key"]
    assert key in answer.content.decode()
    assert key not in browser.get("/account/tokens/").content.decode()


def test_revoking_ones_own_token_and_nobody_elses(world):
    mine, theirs = world.owner.user.tokens.get(), world.team_mate.user.tokens.get()
    browser = world.owner.browser
    assert browser.post(f"/account/tokens/{theirs.pk}/revoke/").status_code == 404
    assert browser.get(f"/account/tokens/{mine.pk}/revoke/").status_code == 405
    assert browser.post(f"/account/tokens/{mine.pk}/revoke/").status_code == 302
    assert world.owner.api.get("/api/v1/").status_code == 401
    assert world.team_mate.api.get("/api/v1/").status_code == 200


def test_pages_are_for_people_with_an_account(world):
    for url in ("/", "/account/tokens/"):
        assert Client().get(url).status_code == 302
