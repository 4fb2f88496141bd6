"""A team in a real Chromium, on a real server: three people with a browser each."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.webapp.real_server import Server

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
PATIENCE = 120_000  # ms
PASSWORD = "correct horse battery"
SEED = """
import django, secrets; django.setup()
from tests.webapp.helpers import ready_dataset, ready_model
from tests.webapp.pages.helpers import succeed
from tests.webapp.pages.pictures import with_pictures, with_predictions
from webapp.accounts import services
from webapp.accounts.models import User
from webapp.jobs.models import Job
for name in ("bob", "cleo"):
    services.create_user(username=name, password="correct horse battery")
ada = User.objects.get(username="ada")
model, dataset = ready_model(ada, b"ada"), ready_dataset(ada, b"ada")
made = {"owner": ada, "made_by": ada, "model": model, "dataset": dataset, "request": {}, "device": "cpu"}
job = Job.objects.create(**made, name="Night run")
succeed(job); with_pictures(dataset); with_predictions(job)
print(job.pk)
"""
END = """
import django; django.setup()
from django.utils import timezone
from webapp.jobs.models import Job
Job.objects.filter(name="Second run").update(state="canceled", finished_at=timezone.now())
"""
START = """
import django; django.setup()
from repair_engine.settings import Repair
from webapp.accounts.models import User
from webapp.jobs import services
from webapp.jobs.models import Job
job = Job.objects.get(name="Night run")
services.create_job(owner=User.objects.get(username="bob"), team=job.team, model=job.model, dataset=job.dataset,
                    asked=Repair(metric="accuracy"), name="Second run")
"""


@pytest.fixture(scope="module")
def server(browser: Browser, tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("teams"))
    yield server
    server.kill()


@pytest.fixture(scope="module")
def people(browser: Browser, server: Server) -> Iterator[Callable[[str], Page]]:
    """Each with a browser of their own."""
    expect.set_options(timeout=PATIENCE)
    pages: dict[str, Page] = {}

    def page_of(name: str) -> Page:
        if name not in pages:
            context = browser.new_context(base_url=f"http://localhost:{server.port}", permissions=["notifications"])
            context.set_default_timeout(PATIENCE)
            page = pages[name] = context.new_page()
            page.goto("/account/sign-in/")
            page.get_by_label("Username").fill(name)
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Sign in").click()
        return pages[name]

    yield page_of
    for page in pages.values():
        page.context.close()


def seen(page: Page, name: str) -> None:
    """At both widths nothing sticks out; with NR_PICTURES=FOLDER pictures of it are kept."""
    for width, height in ((1280, 900), (390, 800)):
        page.set_viewport_size({"width": width, "height": height})
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{name} is {wide} px wide at {width}"
        if folder := os.environ.get("NR_PICTURES"):
            page.screenshot(path=str(Path(folder) / f"{name}-{width}.png"), full_page=True)
    page.set_viewport_size({"width": 1280, "height": 900})


def until(page: Page, expression: str) -> None:
    """As `wait_for_function`, which needs what the site's policy forbids."""
    for _ in range(PATIENCE // 200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(200)
    raise AssertionError(f"never: {expression}")


def test_three_people_and_a_team(people, server: Server):
    job = server.run("-c", SEED).strip().splitlines()[-1]
    ada, bob, cleo = people("ada"), people("bob"), people("cleo")
    run = f"/repairs/{job}/"

    # Nobody sees anything of anybody's.
    for page in (bob, cleo):
        assert page.goto(run).status == 404

    # Ada makes a team and invites.
    ada.goto("/teams/")
    ada.get_by_label("Name of the team").fill("Radiology")
    ada.get_by_role("button", name="Make it").click()
    expect(ada.get_by_role("heading", name="Radiology")).to_be_visible()
    team = ada.url
    ada.get_by_label("User name").fill("bob")
    ada.get_by_label("As").select_option("editor")
    ada.get_by_role("button", name="Invite").click()
    expect(ada.get_by_text("If there is an account bob")).to_be_visible()
    ada.get_by_role("button", name="Invite").click()
    link = ada.locator(".box.good pre").inner_text()
    seen(ada, "team")
    assert bob.goto(team).status == 404

    bob.goto("/teams/")
    seen(bob, "invited")
    bob.get_by_role("button", name="Accept").click()
    expect(bob.get_by_text("You are editor")).to_be_visible()
    cleo.goto(link)
    seen(cleo, "join")
    cleo.get_by_role("button", name="Join").click()
    expect(cleo.get_by_text("You are viewer")).to_be_visible()
    assert bob.goto(link).status == 410, "once"

    # Ada shares the run; it is seen at once, by role.
    ada.goto(run)
    ada.get_by_role("link", name="share it with a team").click()
    seen(ada, "share")
    ada.get_by_role("button", name="Share it").click()
    expect(ada.get_by_text("Yours, shared with the team Radiology")).to_be_visible()
    assert cleo.goto(run).status == 200
    seen(cleo, "viewer")
    expect(cleo.get_by_text("Shared by ada with the team Radiology")).to_be_visible()
    cleo.get_by_role("link", name="Images", exact=True).click()
    expect(cleo.locator("main img").first).to_be_visible()
    for button in ("Delete", "Share this result", "Ask again with changes"):
        assert cleo.get_by_role("button", name=button, exact=True).count() == 0
        assert cleo.get_by_role("link", name=button, exact=True).count() == 0
    assert cleo.locator("a", has_text="report.json").count() == 1
    assert cleo.locator("a", has_text="repaired.safetensors").count() == 0
    assert cleo.request.get(f"{run}files/repaired.safetensors").status == 403
    assert cleo.request.get(f"{run}files/report.json").status == 200
    assert bob.request.get(f"{run}files/repaired.safetensors").status == 200

    # Two change the name at the same time: the second is told, and loses nothing.
    ada.goto(f"{run}edit/")
    bob.goto(f"{run}edit/")
    for page, name in ((ada, "Baseline"), (bob, "Candidate")):
        page.get_by_label("Name", exact=True).fill(name)
        page.get_by_role("button", name="Save").click()
    expect(ada.get_by_role("heading", name="Baseline")).to_be_visible()
    expect(bob.get_by_text("Somebody changed this run meanwhile")).to_be_visible()
    seen(bob, "conflict")
    expect(bob.get_by_label("Name", exact=True)).to_have_value("Candidate")
    bob.get_by_role("button", name="Save").click()
    expect(bob.get_by_role("heading", name="Candidate")).to_be_visible()

    # Who is removed sees nothing any more, also on a page that is open.
    cleo.goto(run)
    ada.goto(team)
    ada.get_by_role("button", name="Remove cleo").click()
    expect(ada.get_by_text("cleo is not in Radiology any more")).to_be_visible()
    assert cleo.reload().status == 404
    assert cleo.goto(team).status == 404


def test_a_notification_at_the_end(people, server: Server):
    bob = people("bob")
    server.run("-c", 'import django; django.setup(); from webapp.jobs.models import Job; '
                'Job.objects.filter(name="Candidate").update(name="Night run")')  # fmt: skip
    server.run("-c", START)
    bob.context.add_init_script(
        "window.told = []; class Told extends EventTarget { constructor(title) { super(); window.told.push(title); } }"
        "Told.permission = 'granted'; Told.requestPermission = async () => 'granted'; window.Notification = Told;"
    )
    bob.goto("/account/profile/")
    seen(bob, "profile")
    bob.get_by_label("A notification of the browser").check()
    expect(bob.get_by_text("This browser may.")).to_be_visible()
    bob.get_by_role("button", name="Save").click()
    expect(bob.get_by_text("Saved.")).to_be_visible()
    until(bob, "localStorage.getItem('ended.since')")
    assert bob.evaluate("window.told") == []
    server.run("-c", END)
    until(bob, "window.told.length")
    assert bob.evaluate("window.told") == ["Second run: canceled"]
    outside = [url for url in bob.evaluate("performance.getEntriesByType('resource').map(one => one.name)")
               if not url.startswith(f"http://localhost:{server.port}/")]  # fmt: skip
    assert outside == []


def test_an_account_is_closed(people):
    ada, bob = people("ada"), people("bob")
    ada.goto("/account/profile/")
    ada.get_by_text("Close the account", exact=True).click()
    ada.get_by_role("link", name="Close the account").click()
    seen(ada, "close")
    expect(ada.get_by_text("you are the only owner of Radiology")).to_be_visible()
    ada.get_by_role("link", name="Radiology").click()
    ada.get_by_label("Role of bob").select_option("owner")
    ada.get_by_role("button", name="Change the role of bob").click()
    expect(ada.get_by_text("bob is owner now.")).to_be_visible()
    ada.goto("/account/close/")
    ada.get_by_label("Your password, to confirm").fill("wrong")
    ada.get_by_role("button", name="Delete everything for good").click()
    expect(ada.get_by_text("This is not your password.").first).to_be_visible()
    ada.get_by_label("Your password, to confirm").fill(PASSWORD)
    ada.get_by_role("button", name="Delete everything for good").click()
    expect(ada.get_by_text("Your account is gone")).to_be_visible()
    ada.get_by_label("Username").fill("ada")
    ada.get_by_label("Password").fill(PASSWORD)
    ada.get_by_role("button", name="Sign in").click()
    expect(ada.get_by_text(re.compile("Please enter a correct username"))).to_be_visible()
    bob.goto("/repairs/")
    expect(bob.get_by_role("link", name="Second run").first).to_be_visible()
    assert bob.get_by_role("link", name="Night run").count() == 0, "her own is gone; the team's stays"
