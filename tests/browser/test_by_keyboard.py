"""Every part of the site without a mouse, wide and narrow, reloaded in the middle, and over a slow line."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.browser.conftest import PATIENCE
from tests.browser.site import Serving

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

WIDE, NARROW = (1280, 900), (390, 800)
MOST_TABS = 150
ANSWERED = (200, 204)  # to who waits for a run that works; 204: nothing has changed for so long


@pytest.fixture(params=[WIDE, NARROW], ids=["wide", "narrow"])
def page(request: pytest.FixtureRequest, owner: BrowserContext) -> Iterator[Page]:
    expect.set_options(timeout=PATIENCE)
    page = owner.new_page()
    width, height = request.param
    page.set_viewport_size({"width": width, "height": height})
    yield page
    page.close()


def opened(page: Page, served: Serving, path: str) -> None:
    page.goto(served.url + path.format(**served.known))


def tab_to(page: Page, wanted: Locator) -> None:
    """By the tab key alone, from wherever the focus is; and one sees where it went."""
    wanted.first.wait_for()
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        if wanted.first.evaluate("e => e === document.activeElement"):
            box = wanted.first.bounding_box()
            size = page.viewport_size
            assert box is not None
            assert size is not None
            assert 0 <= box["y"] + box["height"] / 2 <= size["height"], "it is in sight"
            outline = wanted.first.evaluate("e => getComputedStyle(e).outlineStyle")
            assert outline != "none", "the focus is seen"
            return
    raise AssertionError(f"{wanted} is not reached in {MOST_TABS} steps")


def slow(page: Page) -> None:
    """As over a telephone: half a second to and fro, 400 kbit/s."""
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    line = {"offline": False, "latency": 500, "downloadThroughput": 50_000, "uploadThroughput": 20_000}
    session.send("Network.emulateNetworkConditions", line)


# --- a run's live page ----------------------------------------------------------------------------------------


def test_a_run_that_works_is_followed_reloaded_and_canceled(page: Page, served: Serving):
    opened(page, served, "/repairs/{working}/")
    bar = page.get_by_role("progressbar")
    expect(bar).to_be_visible()
    before = bar.get_attribute("value")
    with page.expect_response(re.compile("/progress/")) as polled:
        pass
    assert polled.value.status in ANSWERED
    page.reload()
    expect(bar).to_have_attribute("value", before or "")
    cancel = page.get_by_role("button", name="Cancel the repair")
    with page.expect_response(re.compile("/progress/")):
        tab_to(page, cancel)
    expect(cancel).to_be_focused()  # what is exchanged every other second takes no focus away


def test_a_run_that_works_over_a_slow_line(page: Page, served: Serving):
    slow(page)
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url) if "/progress/" in one.url else None)
    opened(page, served, "/repairs/{working}/")
    expect(page.get_by_role("progressbar")).to_be_visible()
    with page.expect_response(re.compile("/progress/")) as polled:
        pass
    assert len(polled.value.body()) < 4000, "charts that are shown are not sent again"
    page.wait_for_timeout(5000)
    assert len(asked) <= 5, "polls do not heap up"
    expect(page.get_by_role("progressbar")).to_be_visible()


def test_when_the_line_breaks_the_page_stays_and_goes_on(page: Page, served: Serving):
    opened(page, served, "/repairs/{working}/")
    expect(page.get_by_role("progressbar")).to_be_visible()
    page.context.set_offline(True)
    page.wait_for_timeout(4500)
    expect(page.get_by_role("progressbar")).to_be_visible()
    page.context.set_offline(False)
    with page.expect_response(re.compile("/progress/")) as polled:
        pass
    assert polled.value.status in ANSWERED


# --- a result -------------------------------------------------------------------------------------------------


def test_from_part_to_part(page: Page, served: Serving):
    opened(page, served, "/repairs/{repair}/")
    parts = page.get_by_role("navigation", name="Parts of this page")
    tab_to(page, parts.get_by_role("link", name="Statistics"))
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("#statistics$"))
    heading = page.get_by_role("heading", name="Statistics", exact=True)
    expect(heading).to_be_in_viewport()
    page.reload()
    expect(heading).to_be_in_viewport()
    expect(parts.get_by_role("link", name="Statistics")).to_have_attribute("aria-current", "true")


def test_images_are_filtered_and_reloaded(page: Page, served: Serving):
    opened(page, served, "/repairs/{robust}/#images")
    slow(page)
    tab_to(page, page.get_by_role("link", name="Changed by the adversary"))
    page.keyboard.press("Enter")
    expect(page.locator(".triples .view img").first).to_be_visible()
    expect(page).to_have_url(re.compile(r"\?of=adversarial#images"))
    kinds = page.get_by_role("list", name="Right and wrong")
    tab_to(page, kinds.get_by_role("link", name="Still wrong"))
    page.keyboard.press("Enter")
    expect(kinds.locator("[aria-current]")).to_contain_text("Still wrong")
    expect(page.locator(".tile .mark").first).to_have_text("Still wrong")
    target = page.get_by_label("Adversary's target")
    tab_to(page, target)
    page.keyboard.press("ArrowDown")
    expect(page).to_have_url(re.compile(r"target=\w+"))
    page.reload()
    expect(kinds.locator("[aria-current]")).to_contain_text("Still wrong")
    tab_to(page, page.locator(".tile a"))
    page.keyboard.press("Enter")
    expect(page.get_by_text(re.compile("^Difference"))).to_be_visible()
    expect(page.get_by_role("img")).to_have_count(3)


def test_the_map_over_a_slow_line(page: Page, served: Serving):
    slow(page)
    opened(page, served, "/repairs/{repair}/#network")
    grid = page.get_by_role("grid", name="Map of all 4 units")
    tab_to(page, grid)
    page.keyboard.press("Home")
    expect(page.get_by_role("gridcell")).to_have_attribute("aria-label", re.compile("conv:0; filter"))
    page.keyboard.press("Enter")
    heading = page.get_by_role("heading", name="conv:0")
    expect(heading).to_be_focused()
    page.reload()
    expect(heading).to_be_visible()


def to_part(page: Page, name: str) -> None:
    tab_to(page, page.get_by_role("navigation", name="Parts of this page").get_by_role("link", name=name, exact=True))
    page.keyboard.press("Enter")


def test_a_units_card_ticks_the_choice(page: Page, served: Serving):
    opened(page, served, "/repairs/{repair}/?unit={unit}#unit")
    card, unit = page.get_by_label("Ablated in the choice"), served.known["unit"]
    order = page.get_by_role("group", name="Filters in the order of removal", include_hidden=True)  # another part
    listed = order.get_by_label(unit, exact=True)
    said = page.locator("[data-tick-said]")
    expect(card).to_be_checked()
    expect(said).to_have_text(re.compile("as the run chose"))
    tab_to(page, card)
    page.keyboard.press("Space")
    expect(listed).not_to_be_checked()
    expect(said).to_have_text(re.compile("k = 0 of"))
    expect(page).to_have_url(re.compile(r"unit=.*k=0#unit"))
    page.reload()
    expect(card).not_to_be_checked()
    to_part(page, "Choice")
    tab_to(page, listed)
    page.keyboard.press("Space")
    to_part(page, "Network")
    expect(card).to_be_checked()
    tab_to(page, page.get_by_role("link", name="Next unit"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="conv:2")).to_be_visible()
    expect(card).not_to_be_checked()
    tab_to(page, card)
    page.keyboard.press("Space")
    other = order.get_by_label("conv:2", exact=True)
    expect(other).to_be_checked()
    expect(said).to_have_text("2 filters, another set")
    to_part(page, "Choice")
    other.uncheck()
    to_part(page, "Network")
    expect(card).not_to_be_checked()


def test_k_is_moved_and_kept(page: Page, served: Serving):
    opened(page, served, "/repairs/{repair}/#choice")
    slow(page)
    slider = page.get_by_label("Filters ablated, k")
    tab_to(page, slider)
    page.keyboard.press("Home")
    now = page.locator("#choice-now").get_by_role("heading")
    expect(now).to_contain_text("k = 0 of")
    expect(page).to_have_url(re.compile(r"k=0#choice"))
    page.reload()
    expect(now).to_contain_text("k = 0 of")


def test_no_repair_found_says_what_to_do(page: Page, served: Serving):
    opened(page, served, "/repairs/{nothing}/")
    more = page.get_by_role("link", name=re.compile("Search with .* evaluations"))
    tab_to(page, more)
    page.keyboard.press("Enter")
    expect(page.get_by_label("Custom")).to_be_checked()
    expect(page.get_by_label("Budget, evaluations")).to_have_value("40000")


# --- before a run, the table of runs, operation ---------------------------------------------------------------


def test_before_a_run(page: Page, served: Serving):
    opened(page, served, "/repairs/new/?model={model}&dataset={dataset}")
    expect(page.get_by_text("What could be repaired")).to_be_visible()
    tab_to(page, page.get_by_role("link", name="Subgroup-fair recall over ground"))
    page.keyboard.press("Enter")
    expect(page.get_by_label("Subgroup-fair recall", exact=True)).to_be_checked()
    page.reload()
    expect(page.get_by_label("Subgroup-fair recall", exact=True)).to_be_checked()
    tab_to(page, page.get_by_role("button", name="Start", exact=True))


def test_runs_are_searched_chosen_and_compared(page: Page, served: Serving):
    opened(page, served, "/repairs/")
    slow(page)
    search = page.get_by_label("Search", exact=True)
    tab_to(page, search)
    page.keyboard.type("net.pth")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("q=net.pth"))
    page.reload()
    expect(search).to_have_value("net.pth")
    for kind in ("repair", "explain"):
        tab_to(page, page.locator(f"#pick-{served.known[kind]}"))
        page.keyboard.press("Space")
    expect(page.locator("[data-count]")).to_have_text("2 selected")
    tab_to(page, page.get_by_role("button", name="Compare"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="The two results")).to_be_visible()


def test_a_failed_job_is_read_by_its_operator(page: Page, served: Serving):
    opened(page, served, "/operator/")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.reload()
    link = page.get_by_role("main").get_by_role("link").first
    tab_to(page, link)


def test_a_visitor_reads_the_map(page: Page, served: Serving):
    opened(page, served, "/shared/{token}/#network")
    tab_to(page, page.get_by_role("grid", name="Map of all 4 units"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=served.known["unit"])).to_be_focused()
    expect(page).to_have_url(re.compile(r"/shared/.*unit=conv%3A1#unit"))
    page.reload()
    expect(page.get_by_role("heading", name=served.known["unit"])).to_be_visible()
