"""A real Chromium for the browser tests, and a site that has something on every page."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext

from tests.browser import site

_NAMES = ("chromium-headless-shell", "chromium", "google-chrome")  # the first is the same engine without a window
CHROMIUM = os.environ.get("NR_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
PATIENCE = 240_000  # ms, of a machine that others use too


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict) -> dict:
    if CHROMIUM is None:
        pytest.skip("BROWSER TEST NOT RUN: there is no chromium on PATH (apt install chromium, or set NR_CHROMIUM).")
    return {**browser_type_launch_args, "executable_path": CHROMIUM, "args": FLAGS}


@pytest.fixture(scope="session")
def served(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[site.Serving]:
    """After the browser, so that nothing is made where there is none. Made once for all processes of a run; each has a
    copy, for its tests change it."""
    made = tmp_path_factory.getbasetemp()
    made = (made.parent if "PYTEST_XDIST_WORKER" in os.environ else made) / "site-as-made"
    with open(f"{made}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made / "site.json").exists():
            site.make(made)
    folder = tmp_path_factory.mktemp("site") / "site"
    shutil.copytree(made, folder)
    with site.Serving(folder) as serving:
        yield serving


@pytest.fixture(scope="session")
def owner(browser: Browser, served: site.Serving) -> Iterator[BrowserContext]:
    """Whose site it is, signed in."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(served.url + "/account/sign-in/")
    page.get_by_label("Username").fill(site.USER)
    page.get_by_label("Password").fill(site.PASSWORD)
    page.get_by_role("main").get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name=f"Sign out {site.USER}").wait_for()
    page.close()
    yield context
    context.close()
