"""From signing in to the downloaded checkpoint, in a real Chromium on the real stack: web, workers, redis, engine."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch
from playwright.sync_api import Page, expect

from tests.browser.conftest import PATIENCE
from tests.browser.failing_net import CULPRIT, FailingNet, checkpoint, share_right, write_zip
from tests.webapp.real_stack import RealStack

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture
def stack(page: Page, tmp_path: Path) -> Iterator[RealStack]:
    """After the browser, so that nothing is started where there is none."""
    around = {
        "NR_ENGINE": "webapp.jobs.engine:RepairEngine",
        "NR_ARCHITECTURES": "failing_net=tests.browser.failing_net:failing_net",
        "OMP_NUM_THREADS": "1",
    }
    with RealStack(tmp_path, workers=1, **around) as stack:
        yield stack


@pytest.fixture
def page(page: Page) -> Page:
    page.set_default_timeout(PATIENCE)
    page.set_default_navigation_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    return page


def test_from_sign_in_to_the_downloaded_checkpoint(page: Page, stack: RealStack, tmp_path: Path):
    asked, complaints = watch(page)
    sign_up_then_in(page, stack)

    expect(page.get_by_role("heading", name="Upload the model")).to_be_visible()
    page.get_by_role("link", name="Upload a model").click()
    page.get_by_label("Checkpoint").set_input_files({"name": "net.pth", "mimeType": "", "buffer": checkpoint()})
    page.locator("[name=architecture]").fill("no_such_net")
    page.get_by_label("Number of classes").fill("2")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("alert")).to_contain_text("neither a torchvision classifier nor registered")
    expect(page.get_by_text("is here already: it need not be sent again")).to_be_visible()
    page.locator("[name=architecture]").fill("failing_net")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_text("being checked", exact=True)).to_be_visible()
    expect(page.get_by_text("ready", exact=True)).to_be_visible()  # by polling: nobody reloads
    expect(page.get_by_text("4 at 1 sites")).to_be_visible()

    write_zip(tmp_path / "images.zip")
    page.goto(stack.url + "datasets/new/")
    page.get_by_label("Zip of labelled images").set_input_files(tmp_path / "images.zip")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_text("ready", exact=True)).to_be_visible()
    expect(page.get_by_text("400 in 2 folders")).to_be_visible()

    page.get_by_role("link", name="Use it for a repair").click()
    what_goes_with_what(page)
    expect(page.get_by_text("Recognised least: ")).to_be_visible()  # by polling
    page.get_by_role("link", name="Subgroup-fair recall over ground").click()
    expect(page.get_by_label("Subgroup-fair recall", exact=True)).to_be_checked()  # the form is another one now
    expect(page.get_by_label("ground", exact=True)).to_be_checked()
    expect(page.get_by_label("Budget, evaluations")).to_be_hidden()
    page.get_by_label("Custom").check()
    page.get_by_label("Budget, evaluations").fill("20000")
    page.get_by_label("Name").fill("Light grounds")
    page.get_by_role("button", name="Start", exact=True).click()

    progress_survives(page)
    expect(page.get_by_role("heading", name="Repaired", exact=True)).to_be_visible()  # by polling again
    expect(
        page.get_by_text(re.compile("raised mean recall over the values of ground from 75.0% to 100.0%"))
    ).to_be_visible()
    before_and_after(page)
    seen(page)
    mapped(page)
    downloaded(page, tmp_path)
    chosen(page)

    part(page, "Network")
    page.get_by_role("link", name="All 4 filters, to sort and search").click()
    page.get_by_label("Show", exact=True).select_option("ablated")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("tbody th")).to_have_text([CULPRIT])
    assert "show=ablated" in page.url
    by_hand(page)
    shared(page)

    host = urlsplit(stack.url).netloc
    assert {urlsplit(address).netloc for address in asked} <= {host}, "pages ask nobody else for anything"
    assert complaints == [], "no errors and nothing that the content policy had to block"


def watch(page: Page) -> tuple[list[str], list[str]]:
    """Addresses that were asked for, and what the console complained about (refused forms answer 422: expected)."""
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.url.startswith("http") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda said: complaints.append(said.text) if said.type == "error" and " 422 " not in said.text else None,
    )
    return asked, complaints


def sign_up_then_in(page: Page, stack: RealStack) -> None:
    page.goto(stack.url)
    page.get_by_role("link", name="Make an account").click()
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password", exact=True).fill("correct horse battery")
    page.get_by_label("Password confirmation").fill("correct horse battery")
    page.get_by_role("main").get_by_role("button", name="Sign up").click()
    page.get_by_role("button", name="Sign out ada").click()
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password").fill("correct horse battery")
    page.get_by_role("main").get_by_role("button", name="Sign in").click()


def what_goes_with_what(page: Page) -> None:
    """Fields that what is chosen has no use for are out of the way, by the style sheet alone."""
    limits, adversary = page.get_by_label("Clean accuracy may fall by"), page.get_by_label("Preset")
    further = page.get_by_label("recall of every class")
    expect(limits).to_be_visible()
    expect(adversary).to_be_hidden()
    expect(further).to_be_hidden()
    page.get_by_label("Values only").check()
    expect(limits).to_be_hidden()
    expect(further).to_be_visible()
    page.get_by_label("Repair", exact=True).check()
    page.get_by_label("Attack success").check()
    expect(adversary).to_be_visible()
    expect(limits).to_be_visible()


def progress_survives(page: Page) -> None:
    """A refresh and another tab show the same repair under way."""
    expect(page.get_by_role("progressbar")).to_be_visible()
    page.reload()
    expect(page.get_by_role("progressbar")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel the repair")).to_be_visible()
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.get_by_role("heading", name="Light grounds")).to_be_visible()
    other.close()


def part(page: Page, name: str) -> None:
    """Of a result one part is shown; the address says which."""
    page.get_by_role("navigation", name="Parts of this page").get_by_role("link", name=name, exact=True).click()
    expect(page).to_have_url(re.compile(f"#{name.lower()}$"))


def before_and_after(page: Page) -> None:
    """The subgroups' table: light grounds from half to all, dark ones as good as before."""
    expect(page.get_by_role("img", name=re.compile("by the repair and by its controls")).first).to_be_visible()
    part(page, "Statistics")
    expect(page.get_by_role("heading", name="Repaired", exact=True)).to_be_hidden()
    table = page.get_by_role("table").filter(has_text="Recall of subgroups")
    light = table.get_by_role("row").filter(has=page.get_by_role("rowheader", name="light")).inner_text()
    dark = table.get_by_role("row").filter(has=page.get_by_role("rowheader", name="dark")).inner_text()
    assert re.search(r"50\.0%.*100\.0%.*\+50\.0", light, re.S), light
    assert re.search(r"100\.0%.*100\.0%.*0\.0", dark, re.S), dark
    for chart in ("Recall of subgroups on the report images", "Removal curve on the select images"):
        expect(page.get_by_role("img", name=chart).first).to_be_visible()


def seen(page: Page) -> None:
    """The images that were mended, one of them larger, and back by the browser's own button."""
    part(page, "Images")
    expect(page.locator(".tiles img").first).to_be_visible()  # a worker makes them, and nobody reloads
    kinds = page.get_by_role("list", name="Right and wrong")
    kinds.get_by_role("link", name="Newly right").click()
    expect(kinds.locator("[aria-current]")).to_contain_text("Newly right")
    assert "show=newly-right" in page.url
    page.get_by_label("Ground", exact=True).select_option("light")  # of dark ones none is newly right
    expect(page).to_have_url(re.compile(r"subgroup=light&show=newly-right#images"))
    page.go_back()
    expect(page).to_have_url(re.compile(r"\?show=newly-right#images"))
    expect(page.locator(".tile .mark").first).to_have_text("Newly right")
    page.locator(".tile a").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile(r"top/\d+\.png"))
    expect(page.get_by_text(re.compile(r"bottom, confidence \d"))).to_be_visible()
    page.wait_for_load_state()  # the keys are a script's
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("link", name="Previous")).to_be_visible()
    page.get_by_role("link", name="Images", exact=True).click()
    expect(kinds.locator("[aria-current]")).to_contain_text("Newly right")


def mapped(page: Page) -> None:
    """By keyboard alone from the map to the culprit's card, which a worker fills, and back."""
    part(page, "Network")
    grid, cell = page.get_by_role("grid", name="Map of all 4 units"), page.get_by_role("gridcell")
    grid.focus()
    expect(cell).to_have_attribute("aria-label", re.compile(rf"{CULPRIT}; filter; .*value .*; ablated"))
    page.keyboard.press("ArrowLeft")
    expect(cell).to_have_attribute("aria-label", re.compile("conv:0; filter"))
    assert grid.get_attribute("aria-activedescendant") == cell.get_attribute("id")
    drawn = "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some((x) => x)"
    assert page.locator(".unitmap canvas").evaluate(drawn)
    page.wait_for_load_state()  # the keys are a script's
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=CULPRIT)).to_be_focused()
    expect(page).to_have_url(re.compile(r"unit=conv%3A1#unit"))
    light = page.locator("#unit").get_by_role("row").filter(has=page.get_by_role("rowheader", name="light"))
    expect(light).to_contain_text(re.compile(r"50%.*100%.*\+50\.0"))  # alone it mends all of them
    expect(page.get_by_text("It responds most to")).to_be_visible()
    page.keyboard.press("Escape")
    expect(grid).to_be_focused()
    page.reload()
    expect(light).to_contain_text("100%")
    page.get_by_role("link", name="Next unit").click()
    expect(page.get_by_role("heading", name="conv:2")).to_be_visible()
    page.go_back()
    expect(light).to_contain_text("100%")


def chosen(page: Page) -> None:
    """k by keyboard with the figures at once, a set that a worker looks at, a reload in the middle, the export."""
    part(page, "Choice")
    slider, now = page.get_by_label("Filters ablated, k"), page.locator("#choice-now")
    metric = now.get_by_role("row").filter(has_text="mean recall")
    chosen_by_run = int(slider.input_value())
    expect(now.get_by_role("heading")).to_contain_text("as the run chose")
    expect(metric).to_contain_text("100.0%")
    slider.focus()
    page.keyboard.press("Home")
    expect(now.get_by_role("heading")).to_contain_text("k = 0 of")
    expect(metric).to_have_text(re.compile(r"75\.0%\s*75\.0%\s*0\.0"))
    expect(page.get_by_role("button", name="Export this choice")).to_be_disabled()
    for _ in range(chosen_by_run):
        page.keyboard.press("ArrowRight")
    expect(metric).to_have_text(re.compile(r"75\.0%\s*100\.0%\s*\+25\.0"))
    expect(page).to_have_url(re.compile(rf"[?&]k={chosen_by_run}\b.*#choice"))
    page.reload()
    expect(now.get_by_role("heading")).to_contain_text(f"k = {chosen_by_run} of")
    ticks = page.get_by_role("group", name="Filters in the order of removal").get_by_role("checkbox")
    if ticks.count() > chosen_by_run:  # another set: the last of the order and no other
        for tick in ticks.all():
            tick.set_checked(False)
        ticks.last.press("Space")
        expect(now.get_by_role("heading")).to_have_text(re.compile("another set|k = 1 of"))
        expect(now).to_have_attribute("aria-busy", "false")
        expect(page.locator("[data-keeps]")).to_have_text(re.compile("Keeps all limits|Breaks a limit"))
        page.get_by_role("button", name="Export this choice").click()
        expect(page.get_by_role("heading", name="Repair with 1 filter chosen by hand")).to_be_visible()
        page.get_by_role("link", name="Back to the choice").click()
        expect(now.get_by_role("heading")).to_have_text(re.compile("another set|k = 1 of"))


def by_hand(page: Page) -> None:
    """Filters ticked by keyboard on two views of the table, then a repair with one of them and a report of its own."""
    page.get_by_label(CULPRIT, exact=True).focus()
    page.keyboard.press("Space")
    expect(page.locator("#ticked")).to_have_text(f"1 ticked: {CULPRIT}")
    page.get_by_label("Show", exact=True).select_option("")
    page.get_by_role("button", name="Show").press("Enter")
    expect(page.get_by_label(CULPRIT, exact=True)).to_be_checked()
    page.get_by_label("conv:3", exact=True).press("Space")
    expect(page.locator("#ticked")).to_contain_text("2 ticked:")
    page.get_by_role("button", name="Repair with the ticked filters").press("Enter")
    expect(page.get_by_role("heading", name="Repair with 2 filters chosen by hand")).to_be_visible()
    page.get_by_label("conv:3", exact=True).press("Space")
    page.get_by_label("Name").fill("By hand")
    page.get_by_role("button", name="Measure and export").press("Enter")
    expect(page.get_by_role("heading", name="Repaired", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="Light grounds")).to_be_visible()
    expect(page.get_by_text(re.compile("1 other report.s. on the same report images"))).to_be_visible()
    part(page, "Statistics")
    expect(page.get_by_text("The filters and their number were chosen by hand")).to_be_visible()


def shared(page: Page) -> None:
    """Who has the link sees the result without an account, until it is revoked."""
    page.get_by_role("link", name="Share this result").click()
    page.get_by_role("button", name="Make a link").click()
    address = page.locator(".box.good pre").inner_text().strip()
    browser = page.context.browser
    assert browser is not None
    visitor = browser.new_context().new_page()
    visitor.goto(address)
    expect(visitor.get_by_role("heading", name="Repaired", exact=True)).to_be_visible()
    part(visitor, "Images")
    expect(visitor.locator(".tile img").first).to_be_visible()
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("The link no longer works.")).to_be_visible()
    visitor.locator(".kinds a").nth(1).click()
    expect(visitor.get_by_role("heading", name="This link has ended")).to_be_visible()


def downloaded(page: Page, folder: Path) -> None:
    """The file has the hash that is shown, and does in plain torch what the page says."""
    part(page, "Files")
    with page.expect_download() as waiting:
        page.get_by_role("link", name="repaired.pth").click()
    waiting.value.save_as(folder / "repaired.pth")
    content = (folder / "repaired.pth").read_bytes()
    expect(page.get_by_text(hashlib.sha256(content).hexdigest())).to_be_visible()
    net, intact = FailingNet().eval(), FailingNet().eval()
    net.load_state_dict(torch.load(io.BytesIO(content), weights_only=True))
    intact.load_state_dict(torch.load(io.BytesIO(checkpoint()), weights_only=True))
    assert (share_right(intact, "light"), share_right(intact, "dark")) == (0.5, 1.0)
    assert (share_right(net, "light"), share_right(net, "dark")) == (1.0, 1.0)
