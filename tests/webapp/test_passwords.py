"""Changing a password, and a forgotten one."""

from __future__ import annotations

import io
import re

import pytest
from django.core import mail
from django.core.management import CommandError, call_command
from django.test import Client

from webapp.accounts.models import User

OLD, NEW = "correct horse battery", "staple of another colour"
CHANGE = {"old_password": OLD, "new_password1": NEW, "new_password2": NEW}


def signs_in(password: str) -> bool:
    return Client().post("/account/sign-in/", {"username": "owner", "password": password}).status_code == 302


def test_changing_it_ends_other_sessions(world):
    here, there = world.owner.browser, world.owner.browser
    assert here.get("/account/password/").status_code == 200
    assert here.post("/account/password/", CHANGE).status_code == 302
    assert here.get("/").status_code == 200
    assert there.get("/").status_code == 302
    assert (signs_in(OLD), signs_in(NEW)) == (False, True)
    assert world.owner.api.get("/api/v1/").status_code == 200  # not asked to


def test_tokens_end_with_it_where_asked(world):
    world.owner.browser.post("/account/password/", {**CHANGE, "end_tokens": "on"})
    assert world.owner.api.get("/api/v1/").status_code == 401
    assert world.team_mate.api.get("/api/v1/").status_code == 200


@pytest.mark.parametrize("change", [{"old_password": "no"}, {"new_password2": "x"}, {"new_password1": "1"}])
def test_what_is_wrong_changes_nothing(world, change):
    assert world.owner.browser.post("/account/password/", {**CHANGE, **change}).status_code == 200
    assert signs_in(OLD)


def test_the_old_password_cannot_be_guessed_there(world):
    browser = world.owner.browser
    codes = [browser.post("/account/password/", {**CHANGE, "old_password": "no"}).status_code for _ in range(11)]
    assert codes == [200] * 10 + [429]
    assert browser.post("/account/password/", CHANGE).status_code == 429
    assert signs_in(OLD)


def test_it_is_for_who_is_signed_in(world):
    assert Client().get("/account/password/").status_code == 302


def follow(client: Client, path: str):
    answer = client.get(path)
    return client.get(answer["Location"]) if answer.status_code == 302 else answer


def use(client: Client, path: str) -> int:
    form = client.get(path)
    return client.post(form["Location"], {"new_password1": NEW, "new_password2": NEW}).status_code


def test_by_mail(world, settings):
    settings.MAIL = True
    other = world.owner.browser
    User.objects.filter(username="owner").update(email="owner@example.org")
    known, unknown = (Client().post("/account/forgot/", {"email": f"{n}@example.org"}) for n in ("owner", "nobody"))
    assert (known.status_code, known["Location"]) == (unknown.status_code, unknown["Location"])
    (message,) = mail.outbox
    assert message.to == ["owner@example.org"]
    path = re.search(r"http://testserver(\S+)", message.body)[1]
    client = Client()
    assert use(client, path) == 302
    assert client.get("/").status_code == 200  # signed in
    assert other.get("/").status_code == 302
    assert (signs_in(OLD), signs_in(NEW)) == (False, True)
    assert b"used already" in follow(Client(), path).content


def test_a_mailbox_is_not_flooded(world, settings):
    settings.MAIL = True
    User.objects.filter(username="owner").update(email="owner@example.org")
    for _ in range(6):
        assert Client().post("/account/forgot/", {"email": "owner@example.org"}).status_code == 302
    assert len(mail.outbox) == 3


def test_without_mail_the_operator_makes_the_link(world):
    assert b"reset_link" in Client().get("/account/forgot/").content
    assert Client().post("/account/forgot/", {"email": "owner@example.org"}).status_code == 404
    out = io.StringIO()
    call_command("reset_link", "ｏwner ", "--url", "https://repair.example.org/", stdout=out)
    link = out.getvalue().strip()
    assert link.startswith("https://repair.example.org/account/reset/")
    assert use(Client(), link.removeprefix("https://repair.example.org")) == 302
    assert signs_in(NEW)
    with pytest.raises(CommandError, match="no open account"):
        call_command("reset_link", "nobody")


def test_a_link_ends(world, settings):
    out = io.StringIO()
    call_command("reset_link", "owner", stdout=out)
    settings.PASSWORD_RESET_TIMEOUT = -1
    assert b"its time is over" in follow(Client(), out.getvalue().strip().removeprefix("http://localhost:8000")).content
