"""A page that waits for its run to change, in a real Chromium, on a real server."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.webapp.test_waiting_served import Watched

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def server(browser: Browser, tmp_path_factory):
    server = Watched(tmp_path_factory.mktemp("watched"))
    yield server
    server.kill()


@pytest.fixture
def page(browser: Browser, server):
    context = browser.new_context(base_url=f"http://localhost:{server.port}", viewport={"width": 1280, "height": 900})
    context.add_cookies([{"name": "sessionid", "value": server.session, "url": f"http://localhost:{server.port}"}])
    page = context.new_page()
    yield page
    context.close()


def asked(page: Page, part: str) -> list[dict]:
    """The headers of the requests to come to such an address."""
    found: list[dict] = []
    page.on("request", lambda one: found.append(one.headers) if part in one.url else None)
    return found


HIDE = """
Object.defineProperty(document, "hidden", {configurable: true, get: () => true});
document.dispatchEvent(new Event("visibilitychange"));
"""


def test_a_run_is_shown_as_it_is(page: Page, server):
    run = server.runs[0]
    requests = asked(page, "/progress/")
    page.goto(f"/repairs/{run}/")
    figure = page.locator(".figures div", has_text="evaluations of this phase")
    before = figure.inner_text()
    page.wait_for_timeout(6_000)
    assert 1 <= len(requests) <= 2  # it waits
    assert requests[0]["prefer"] == "wait=25"
    for _ in range(2):
        server.work(run)
        expect(figure).not_to_have_text(before, timeout=8_000)
        before = figure.inner_text()
    with page.expect_request(lambda one: "/progress/" in one.url and "prefer" not in one.headers, timeout=10_000):
        page.evaluate(HIDE)  # what was held is given up, and asked for plainly
    server.work(run)
    expect(figure).not_to_have_text(before, timeout=8_000)


def test_a_run_that_ends_is_shown(page: Page, server):
    run = server.runs[1]
    page.goto(f"/repairs/{run}/")
    page.wait_for_timeout(3_000)
    server.write(
        "UPDATE jobs_job SET state = 'canceled', finished_at = '2030-01-01' WHERE id = ?", run.replace("-", "")
    )
    expect(page.locator("#live")).to_have_count(0, timeout=10_000)


def test_rows_of_the_table_wait_too(page: Page, server):
    requests = asked(page, "/repairs/rows/")
    page.goto("/repairs/")
    page.wait_for_timeout(6_000)
    assert 1 <= len(requests) <= 2
    run = server.runs[2]
    server.write(
        "UPDATE jobs_job SET state = 'canceled', finished_at = '2030-01-01' WHERE id = ?", run.replace("-", "")
    )
    expect(page.locator(f"#state-{run}")).to_contain_text("canceled", timeout=10_000)
    page.wait_for_timeout(3_000)
    assert run not in str(page.locator("#watch").get_attribute("hx-get"))
