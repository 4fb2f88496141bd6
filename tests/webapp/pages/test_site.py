"""What holds for all pages: the stylesheet, signing in and up, errors."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse

from tests.webapp.pages.helpers import read

ROOT = Path(__file__).resolve().parents[3]
CSS = (ROOT / "webapp/static/css/app.css").read_text()


def test_the_charts_have_their_colours():
    chart_rules = (ROOT / "repair_engine/pages/charts.css").read_text()
    classes = set(re.findall(r"\.[a-z][\w-]*(?=[\s,{])", chart_rules))
    assert len(classes) >= 15
    assert classes <= set(re.findall(r"\.[a-z][\w-]*", CSS))


def test_the_stylesheet_is_short_local_and_knows_the_dark():
    assert len(CSS.splitlines()) < 400
    assert "url(" not in CSS
    assert "@import" not in CSS
    assert "prefers-color-scheme: dark" in CSS
    dark = CSS.split("prefers-color-scheme: dark")[1].split("}")[0]
    light = CSS.split(":root {")[1].split("}")[0]
    assert set(re.findall(r"--[\w-]+(?=:)", dark)) == set(re.findall(r"--[\w-]+(?=:)", light))


def test_what_the_pages_load_is_served_here(world):
    page = read(Client().get(reverse("accounts:sign_in")))
    files = [a.get("src") or a.get("href") for tag, a in page.elements if tag in ("script", "link")]
    for address in (a for a in files if a != "data:,"):
        assert Client().get(address).status_code == 200, address


@pytest.mark.parametrize("name", ["accounts:sign_in", "accounts:sign_up"])
def test_forms_for_people_without_an_account(world, name):
    assert read(Client().get(reverse(name))).all("form")
    answer = Client().post(
        reverse(name), {"username": "nobody", "password": "wrong", "password1": "a", "password2": "b"}
    )
    assert any(a.get("class", "").startswith("errorlist") for a in read(answer).all("ul"))


def test_a_new_token_is_shown_once(world):
    page = read(world.owner.browser.post(reverse("accounts:tokens"), {"name": "CI"}))
    key = re.search(r"nr_[\w-]{40,}", page.text)
    assert key
    assert key[0] not in world.owner.browser.get(reverse("accounts:tokens")).content.decode()


def test_errors_are_pages(world):
    page = read(world.owner.browser.get("/nowhere"), 404)
    assert "There is nothing at this address" in page.text
    strict = Client(enforce_csrf_checks=True)
    assert "send it again" in read(strict.post(reverse("accounts:sign_in"), {}), 403).text


def test_a_failure_of_ours_is_a_page_that_needs_no_database(world, monkeypatch):
    def away(*_: object) -> None:
        raise RuntimeError("the database is away: secret")

    monkeypatch.setattr("webapp.pages.selectors.dashboard", away)
    browser = world.owner.browser
    browser.raise_request_exception = False
    page = read(browser.get("/"), 500)
    assert "on our side" in page.text
    assert "secret" not in page.text
    assert world.owner.user.username not in page.text


def test_the_web_process_never_loads_torch(tmp_path):
    """It would take seconds to start and hundreds of megabytes; only workers compute."""
    code = (
        "import sys, django; django.setup(); import webapp.urls, webapp.pages.views.repairs; "
        "from django.urls import get_resolver; get_resolver().reverse_dict; print('torch' in sys.modules)"
    )
    env = {"PATH": os.environ["PATH"], "DJANGO_SETTINGS_MODULE": "webapp.settings", "NR_DATA_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=240)
    assert done.stdout.strip() == "False", done.stderr
