"""A result on paper: all that is read, opened and whole, light, and nothing that is pressed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.browser.site import Serving

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

PAPER = 688  # px: A4 without its margins

# What stands out of the paper, what is still shut, and what belongs to a screen.
FAULTS = """() => {
  const seen = (e) => e.getClientRects().length > 0 && getComputedStyle(e).visibility !== "hidden";
  const what = (e) => `${e.tagName} ${e.className.baseVal ?? e.className} ${(e.textContent || "").trim().slice(0, 40)}`;
  const found = [];
  for (const e of document.querySelectorAll("table, figure, svg, canvas, pre, img, dl, p, h1, h2, h3"))
    if (seen(e) && e.getBoundingClientRect().right > innerWidth + 1) found.push(`cut off: ${what(e)}`);
  for (const e of document.querySelectorAll("details"))
    for (const part of e.children) if (!part.matches("form") && seen(e) && !part.getClientRects().length)
      found.push(`shut: ${what(part)}`);
  for (const e of document.querySelectorAll("body *")) {
    if (!seen(e)) continue;
    const style = getComputedStyle(e);
    if (["sticky", "fixed"].includes(style.position) && !e.matches("thead *")) found.push(`stays: ${what(e)}`);
    if (/(auto|scroll)/.test(style.overflow) && e.scrollHeight > e.clientHeight + 1) found.push(`scrolls: ${what(e)}`);
    if (e.matches("nav:not(.orders), button, input:not([type=checkbox]), select, form.filterbar"))
      found.push(`to press: ${what(e)}`);
  }
  return [...new Set(found)];
}"""


@pytest.fixture
def paper(owner: BrowserContext) -> Iterator[Page]:
    """Printed from a dark screen."""
    page = owner.new_page()
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": PAPER, "height": 970})
    yield page
    page.close()


@pytest.mark.parametrize(
    ("path", "words", "tables", "figures"),
    [
        ("/repairs/{repair}/?unit={unit}",
         ("Ablating 1 filter raised", "Recall of subgroups", "All numbers of filters as a table",
          "Every number of filters", "Classes within subgroups", "What ablating it alone does",
          "neuron-repair repair", "repaired.pth"), 12, 6),
        ("/repairs/{nothing}/", ("No repair found", "What was tried", "What was asked"), 4, 2),
        ("/repairs/{explain}/", ("What accuracy is made of", "Removal curves", "Accuracy as a table"), 8, 3),
        ("/repairs/{attack}/", ("What was asked", "neuron-repair attack"), 2, 1),
        ("/compare/?a={repair}&b={explain}", ("The two results", "What differs", "Removal curves"), 5, 3),
        ("/shared/{token}/", ("Ablating 1 filter raised", "Recall of subgroups", "repair.json"), 8, 4),
    ],
)  # fmt: skip
def test_a_result_on_paper(paper: Page, served: Serving, path: str, words: tuple[str, ...], tables: int, figures: int):
    paper.goto(served.url + path.format(**served.known))
    paper.wait_for_load_state("networkidle")
    assert paper.evaluate(FAULTS) != [], "the screen has what paper must not"
    paper.emulate_media(media="print")
    text = paper.inner_text("body")
    assert [said for said in words if said not in text] == []
    assert "Sign out" not in text
    visible = "all => all.filter((one) => one.getClientRects().length).length"
    assert paper.eval_on_selector_all("table", visible) >= tables
    assert paper.eval_on_selector_all("svg.chart", visible) >= figures
    assert paper.evaluate(FAULTS) == []
    colours = "e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).color]"
    assert paper.eval_on_selector("body", colours) == ["rgb(255, 255, 255)", "rgb(29, 35, 41)"]
    assert paper.pdf(format="A4").startswith(b"%PDF")


def test_the_map_is_light_on_paper(paper: Page, served: Serving):
    """It was drawn for a dark screen, and a canvas is not restyled."""
    paper.goto(served.url + "/repairs/{repair}/#network".format(**served.known))
    paper.locator(".unitmap canvas").wait_for()
    drawn = """canvas => {
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height), seen = new Set();
        for (let i = 0; i < data.length; i += 4) if (data[i + 3] === 255) seen.add(data.slice(i, i + 3).join());
        return [...seen];
    }"""
    dark, light = "108,178,255", "11,98,196"  # of what helps, at its fullest
    paper.wait_for_function(f"() => ({drawn})(document.querySelector('.unitmap canvas')).length > 0")
    on_screen = paper.eval_on_selector(".unitmap canvas", drawn)
    assert (dark in on_screen, light in on_screen) == (True, False), on_screen
    paper.emulate_media(media="print")
    paper.wait_for_function("() => new Promise((done) => requestAnimationFrame(() => done(true)))")
    on_paper = paper.eval_on_selector(".unitmap canvas", drawn)
    assert (dark in on_paper, light in on_paper) == (False, True)
