"""The pictures of docs/tutorial.md, from a demo that is serving: python -m tests.browser.pictures URL USER PASSWORD

Opens the oldest run and writes docs/pictures/*.png anew.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
_SIZE = {"width": 1200, "height": 760}
_RUN = re.compile(r".*/repairs/[0-9a-f-]{36}/")


def main(url: str, user: str, password: str) -> None:
    """Signs in and takes them all."""
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as played:
        browser = played.chromium.launch(executable_path="/usr/bin/chromium", args=_ARGUMENTS)
        page = browser.new_page(viewport=_SIZE)
        page.goto(url)
        page.fill("input[name=username]", user)
        page.fill("input[name=password]", password)
        page.press("input[name=password]", "Enter")
        page.wait_for_load_state("networkidle")
        page.goto(f"{url.rstrip('/')}/repairs/")
        _take(page, "runs")
        links = page.eval_on_selector_all("main a", "all => all.map(one => one.href)")
        run = [link for link in links if _RUN.fullmatch(link)][-1]  # the first that was made
        for name, ready in _SECTIONS.items():
            page.goto(f"{run}#{name}")
            ready(page)
            _take(page, name)
        page.goto(f"{url.rstrip('/')}/repairs/new/")
        page.get_by_text("What could be repaired").wait_for(timeout=180_000)
        _take(page, "before")
        browser.close()


def _take(page: Page, name: str) -> None:
    page.wait_for_load_state("networkidle")
    page.screenshot(path=FOLDER / f"{name}.png")
    print(f"docs/pictures/{name}.png")


def _pictures(page: Page) -> None:
    page.locator("#images img").first.wait_for()


def _card(page: Page) -> None:
    page.locator("#network canvas").first.wait_for()
    page.locator("#network .marks a").first.click()
    page.locator("#unit-effect table").first.wait_for(timeout=120_000)


_SECTIONS: dict[str, Callable[[Page], None]] = {
    "summary": lambda page: None,
    "images": _pictures,
    "network": _card,
    "choice": lambda page: page.locator("#choice svg").first.wait_for(),
}

if __name__ == "__main__":
    main(*sys.argv[1:])
