"""Every page by itself, as somebody with a screen reader, a keyboard or little sight needs it: axe finds nothing
serious, whether it is light or dark, wide or narrow, and nothing is wider than the window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.urls import URLPattern, URLResolver, get_resolver
from playwright.sync_api import Browser, BrowserContext, Page

from tests.browser.site import Serving

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

SIZES = ((1280, 900), (390, 800))
GRAVE = {"serious", "critical"}

RUN, SHARED = "/repairs/{repair}/", "/shared/{token}/"
# Name of an address -> the pages that stand there, some of them in several states.
PAGES: Mapping[str, tuple[str, ...]] = {
    "pages:home": ("/",),
    "pages:models": ("/models/",),
    "pages:new_model": ("/models/new/",),
    "pages:model": ("/models/{model}/",),
    "pages:model_baseline": ("/models/{model}/on/{dataset}/",),
    "pages:datasets": ("/datasets/",),
    "pages:new_dataset": ("/datasets/new/",),
    "pages:dataset": ("/datasets/{dataset}/", "/datasets/{dataset}/?all=1"),
    "pages:dataset_image": ("/datasets/{dataset}/images/3/",),
    "pages:operator": ("/operator/",),
    "pages:allowance": ("/operator/people/{user}/",),
    "pages:compare": (
        "/compare/", "/compare/?a={repair}&b={explain}", "/compare/?a={repair}&b={hand}",
        "/compare/?run={repair}&run={hand}&run={nothing}",
    ),
    "pages:new_attack": ("/attacks/new/?repair={repair}",),
    "pages:repairs": ("/repairs/", "/repairs/?q=nothing+is+called+so"),
    "pages:new_repair": ("/repairs/new/?model={model}&dataset={dataset}", "/repairs/new/?like={robust}"),
    "pages:repair": (
        f"{RUN}?unit={{unit}}", *(f"/repairs/{{{kind}}}/" for kind in (
            "nothing", "explain", "score", "robust", "hand", "attack", "failed", "working", "canceled"
        )),
    ),
    "pages:edit": (f"{RUN}edit/",),
    "pages:filters": (f"{RUN}filters/",),
    "pages:image": (f"{RUN}images/2/", "/repairs/{attack}/images/1/"),
    "pages:follow": (f"{RUN}follow/?pick={{unit}}",),
    "pages:share": (f"{RUN}share/",),
    "pages:model_team": ("/models/{model}/team/",),
    "pages:dataset_team": ("/datasets/{dataset}/team/",),
    "pages:repair_team": (f"{RUN}team/",),
    "pages:teams": ("/teams/",),
    "pages:team": ("/teams/{team}/",),
    "pages:join": ("/join/{join}/", "/join/nothing/"),
    "pages:webhooks": ("/webhooks/",),
    "accounts:profile": ("/account/profile/",),
    "accounts:close": ("/account/close/",),
    "accounts:password": ("/account/password/",),
    "accounts:tokens": ("/account/tokens/",),
    "shared:run": (SHARED,),
    "shared:image": (f"{SHARED}images/2/",),
    "api_docs": ("/api/docs/",),
}  # fmt: skip
SIGNED_OUT = {
    "accounts:sign_in": ("/account/sign-in/",),
    "accounts:sign_up": ("/account/sign-up/",),
    "accounts:forgot": ("/account/forgot/",),
    "accounts:reset": ("/account/reset/MQ/set-password/",),  # as of a link that was used
    "nothing is here": ("/nothing/",),
}
STATUS = {"/join/nothing/": 410, "/nothing/": 404, "/compare/?a={repair}&b={hand}": 422}  # of what is no plain success
# Answers that are no page of their own: parts that a page loads, pictures, files, data, and what is posted.
PARTS = {
    "pages:model_state", "pages:dataset_state", "pages:dataset_images", "pages:dataset_thumbnails",
    "pages:make_dataset_thumbnails", "pages:dataset_thumbnail", "pages:delete_model", "pages:delete_dataset",
    "pages:operator_retry", "pages:rows", "pages:selected", "pages:undo", "pages:progress", "pages:cancel",
    "pages:retry", "pages:delete_repair", "pages:restore", "pages:map", "pages:unit", "pages:unit_study",
    "pages:images", "pages:choice", "pages:set", "pages:revoke_link", "pages:file", "accounts:sign_out",
    "accounts:revoke_token", "shared:images", "shared:thumbnail", "shared:file", "schema",
    "pages:adversarial", "shared:adversarial", "shared:map", "shared:unit", "pages:delete_upload", "pages:answer",
    "pages:edit_team", "pages:invite", "pages:member", "pages:take_back", "pages:webhook_again", "accounts:ended",
    "pages:pause", "pages:resume", "pages:priority", "pages:operator_priority", "receipt_keys",
}  # fmt: skip


def named(resolver: URLResolver, space: str = "") -> Iterator[str]:
    for one in resolver.url_patterns:
        if isinstance(one, URLPattern):
            yield space + (one.name or str(one.pattern))
        else:
            yield from named(one, f"{space}{one.namespace}:" if one.namespace else space)


def test_no_page_is_left_out():
    addresses = {name for name in named(get_resolver()) if not name.startswith("api:")}
    listed = PAGES.keys() | SIGNED_OUT.keys() | PARTS
    assert addresses <= listed, f"say of each what it is: {sorted(addresses - listed)}"
    assert listed - addresses == {"nothing is here"}


@pytest.fixture(scope="module")
def page(owner: BrowserContext) -> Iterator[Page]:
    page = owner.new_page()
    yield page
    page.close()


@pytest.fixture(scope="module")
def outside(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    yield context.new_page()
    context.close()


def _addresses(pages: Mapping[str, tuple[str, ...]]) -> list[Any]:
    return [pytest.param(path, id=path) for paths in pages.values() for path in paths]


@pytest.mark.parametrize("path", _addresses(PAGES))
def test_a_page_of_the_owner(page: Page, served: Serving, path: str):
    looked_at(page, served.url + path.format(**served.known), STATUS.get(path, 200))


@pytest.mark.parametrize("path", _addresses(SIGNED_OUT))
def test_a_page_that_needs_no_account(outside: Page, served: Serving, path: str):
    looked_at(outside, served.url + path, STATUS.get(path, 200))


def looked_at(page: Page, address: str, status: int) -> None:
    answer = page.goto(address)
    assert answer is not None
    assert answer.status == status
    page.wait_for_function("!document.querySelector('.htmx-request')")  # what the page loads by itself is there
    page.evaluate(Axe().axe_script)
    page.evaluate("for (const part of document.querySelectorAll('.part[hidden]')) part.removeAttribute('hidden')")
    found: list[str] = []
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        for scheme, rules in (("light", None), ("dark", ["color-contrast"])):  # the dark page differs in nothing else
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            found += [f"{scheme}, {width} px: {one}" for one in graves(page, rules)]
        wide = page.evaluate("document.documentElement.scrollWidth")
        found += [f"{width} px: the page is {wide} px wide"] if wide > width else []
    assert not found, "\n".join(found)


def graves(page: Page, rules: list[str] | None) -> list[str]:
    options = {"resultTypes": ["violations"], **({"runOnly": rules} if rules else {})}
    return [
        f"{rule['id']} ({rule['impact']}): {node['target']}: {' '.join(node['failureSummary'].split())}"
        for rule in page.evaluate("options => axe.run(document, options)", options)["violations"]
        if rule["impact"] in GRAVE
        for node in rule["nodes"]
    ]
