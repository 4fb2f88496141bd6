"""Uploads in a real Chromium over a line that is slow, breaks, and leads to a server that is killed and comes back."""

from __future__ import annotations

import os
import re
import threading
import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from tests.faults.line import Line
from tests.webapp.real_server import Server
from tests.webapp.test_resumed import client

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
PATIENCE = 120_000  # ms
SIZE = 24 << 20
PIECE = 8 << 20
MATE = (
    "import django; django.setup(); from webapp.accounts import services as s; from webapp.jobs import teams; "
    "from webapp.accounts.models import Membership, Role, User; "
    "u = s.create_user(username='bob', password='correct horse battery'); t = teams.create_team(owner=u, name='Lab'); "
    "Membership.objects.create(team=t, user=User.objects.get(username='ada'), role=Role.EDITOR); "
    "print(s.create_token(owner=u, name='run')[1], t.pk)"
)
PAGES = 2_000_000  # bytes: of all other requests, generously


@pytest.fixture(scope="module")
def server(browser: Browser, tmp_path_factory):
    """After the browser, so that nothing is started where there is none."""
    server = Server(tmp_path_factory.mktemp("uploads"))
    yield server
    server.kill()


@pytest.fixture
def line(server):
    with Line(server.port) as line:
        yield line


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "images.zip"
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest.fixture
def signed_in(context: BrowserContext, line) -> Page:
    page = context.new_page()
    sign_in(page, line)
    return page


def sign_in(page: Page, line: Line) -> None:
    page.set_default_timeout(PATIENCE)
    page.set_default_navigation_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    page.goto(line.url + "account/sign-in/")
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password").fill("correct horse battery")
    page.get_by_role("button", name="Sign in").click()
    page.goto(line.url + "datasets/new/")


def choose(page: Page, file: Path) -> None:
    page.get_by_label("Zip of labelled images").set_input_files(file)


def is_there(page: Page) -> None:
    expect(page.get_by_text(re.compile(r"images\.zip, [\d.]+ MB, is there\.")).first).to_be_visible()


def submitted(page: Page, server: Server) -> None:
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page.get_by_text("being checked", exact=True)).to_be_visible()
    assert list((server.data / "incoming").iterdir()) == []


def test_it_is_sent_once_while_the_form_is_filled_in(signed_in: Page, server, line, file):
    page, complaints = signed_in, []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    choose(page, file)
    is_there(page)
    page.get_by_label("Name").fill("Mine")
    submitted(page, server)
    assert SIZE <= line.sent <= SIZE + PAGES, "the form does not carry it once more"
    page.goto(line.url + "datasets/new/")
    choose(page, file)
    expect(page.get_by_text("images.zip is here already: nothing is sent.").first).to_be_visible()
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page.get_by_role("heading", name="Mine")).to_be_visible()
    assert line.sent <= SIZE + 2 * PAGES
    assert complaints == []


def test_a_form_that_is_sent_too_early_waits_for_its_file(signed_in: Page, server, line, file):
    line.rate = 10e6
    choose(signed_in, file)
    submitted(signed_in, server)


def test_a_server_that_is_killed_and_comes_back(signed_in: Page, server, line, file):
    line.rate = 10e6

    def kill() -> None:
        server.kill()
        threading.Thread(target=server.start).start()

    line.at = [(line.sent + SIZE // 2, kill)]
    before = line.sent
    choose(signed_in, file)
    expect(signed_in.get_by_text("The line is broken.").first).to_be_visible()
    is_there(signed_in)
    assert line.at == []
    assert line.sent - before <= SIZE + PIECE + PAGES
    submitted(signed_in, server)


def test_a_line_that_breaks(signed_in: Page, server, line, file):
    line.at = [(line.sent + part * SIZE // 4, line.cut) for part in (1, 2, 3)]
    choose(signed_in, file)
    is_there(signed_in)
    assert line.at == []
    submitted(signed_in, server)


def test_a_page_that_is_loaded_anew_in_the_middle(signed_in: Page, server, line, file):
    page, gone = signed_in, threading.Event()
    line.rate = 10e6
    before = line.sent
    line.at = [(line.sent + SIZE // 2, gone.set)]
    choose(page, file)
    while not gone.is_set():
        page.wait_for_timeout(50)
    page.reload()
    expect(page.get_by_text(re.compile(r"of 24\.0\sMB are here \(\d+%\)\. Choose the same file again"))).to_be_visible()
    choose(page, file)
    is_there(page)
    assert line.sent - before <= SIZE + PIECE + PAGES
    page.reload()
    page.get_by_role("link", name="Go on with it").click()
    expect(page.get_by_text("is here already: it need not be sent again")).to_be_visible()
    submitted(page, server)


def test_by_keyboard_alone(signed_in: Page, server, line, file):
    page = signed_in
    line.rate = 10e6
    choose(page, file)
    expect(page.get_by_text(re.compile(r"sent \(\d+%\)"))).to_be_visible()
    page.get_by_label("Zip of labelled images").focus()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Pause")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="Paused.")).to_be_attached()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="is there.")).to_be_attached()
    submitted(page, server)


def test_dropped_and_taken_back(signed_in: Page, server, line):
    page = signed_in
    data = page.evaluate_handle(
        "() => { const d = new DataTransfer(); d.items.add(new File(['x'.repeat(1e7)], 'dropped.zip')); return d; }"
    )

    def drop() -> None:
        page.dispatch_event(".sending", "drop", {"dataTransfer": data})
        expect(page.get_by_text(re.compile(r"dropped\.zip, 9\.5 MB, is there\.")).first).to_be_visible()
        assert page.evaluate("document.querySelector('input[type=file]').files[0].name") == "dropped.zip"

    drop()
    with page.expect_response(lambda answer: answer.request.method == "DELETE"):
        page.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("button", name="Remove")).to_be_hidden()
    assert page.evaluate("document.querySelector('input[type=file]').files.length") == 0
    assert list((server.data / "incoming").iterdir()) == []
    drop()
    page.reload()
    page.get_by_role("button", name="Delete what is here of dropped.zip").click()
    expect(page.get_by_text("What had arrived of dropped.zip was deleted.")).to_be_visible()
    assert list((server.data / "incoming").iterdir()) == []


def test_a_form_that_is_refused_keeps_it(signed_in: Page, server, line, tmp_path):
    page = signed_in
    path = tmp_path / "net.pth"
    path.write_bytes(os.urandom(9 << 20))
    page.goto(line.url + "models/new/")
    page.get_by_label("Checkpoint").set_input_files(path)
    expect(page.get_by_text(re.compile("net.pth, .* is there")).first).to_be_visible()
    page.locator("[name=architecture]").fill("no_such_net")
    page.get_by_label("Number of classes").fill("2")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_text("is here already: it need not be sent again")).to_be_visible()
    page.locator("[name=architecture]").fill("resnet18")
    submitted(page, server)


def test_a_teams_file_is_known_for_the_team_alone(signed_in: Page, server, line, tmp_path):
    """What a mate has sent for the team is not sent once more for it, and is no file of one's own."""
    page, path = signed_in, tmp_path / "images.zip"
    path.write_bytes(os.urandom(3 << 20))
    key, team = server.run("-c", MATE).split()
    client.Api(line.url, key, time.monotonic() + 300).upload("datasets/", path, {"team": int(team)})
    page.reload()
    page.locator("[name=team]").select_option(team)
    choose(page, path)
    expect(page.get_by_text("images.zip is here already: nothing is sent.").first).to_be_visible()
    page.get_by_role("button", name="Remove").click()
    page.locator("[name=team]").select_option("")
    choose(page, path)
    is_there(page)
    submitted(page, server)


def test_without_scripts_the_form_sends_it(browser: Browser, server, line, tmp_path):
    path = tmp_path / "images.zip"
    path.write_bytes(os.urandom(3 << 20))
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        sign_in(page, line)
        choose(page, path)
        submitted(page, server)


def test_what_the_server_refuses_is_said_in_its_words(signed_in: Page, line, file):
    page = signed_in
    problem = {"detail": "There is no room.", "mend": "Make some."}

    def refuse(route: Route) -> None:
        route.fulfill(status=413, json=problem) if route.request.method == "POST" else route.fallback()

    page.route("**/api/v1/uploads/", refuse)
    choose(page, file)
    expect(page.get_by_text("There is no room. Make some.").first).to_be_visible()
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
