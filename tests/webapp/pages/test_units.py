"""The section with the map, and a unit's card: in the page by its address, alone where htmx asks for it."""

from __future__ import annotations

import pytest
from django.urls import reverse

from tests.webapp.pages.helpers import read, succeed
from tests.webapp.pages.pictures import with_predictions

HTMX = {"HX-Request": "true"}


@pytest.fixture
def job(world):
    succeed(world.owner.job)
    return world.owner.job


@pytest.fixture
def look(world, job):
    return lambda **query: read(world.owner.browser.get(reverse("pages:repair", args=[job.pk]), query))


@pytest.fixture
def card(world, job):
    url = reverse("pages:unit", args=[job.pk])
    return lambda unit, **more: world.owner.browser.get(url, {"unit": unit}, headers=HTMX | more)


def test_the_page_says_where_the_map_is_and_works_without_it(look, job):
    found = look()
    (root,) = [a for _, a in found.elements if "data-map" in a]
    assert root["data-map"] == reverse("pages:map", args=[job.pk])
    assert "All 3 units" in found.text
    assert any("unit-map.js" in (a["src"] or "") and a["type"] == "module" for a in found.all("script") if "type" in a)
    assert any(a.get("href") == reverse("pages:filters", args=[job.pk]) for a in found.all("a"))
    assert "Ablated features.1:1" in found.text
    assert "Choose a unit in the map" in found.text


def test_an_address_names_a_unit(look):
    found = look(unit="features.1:1")
    assert "Its presence hurts ablated" in found.text
    assert "−0.10000 (−0.12000 to −0.08000)" in found.text
    assert "99, drawn after it was picked" in found.text
    assert "Next unit" in found.text
    assert "Previous unit" not in found.text
    assert "Not sampled" in look(unit="features.3:3").text
    assert "There is no unit <b>ghost:1</b> in this run" in look(unit="<b>ghost:1</b>").text


def test_a_card_alone_puts_the_unit_into_the_address(card, job, world):
    url = reverse("pages:repair", args=[job.pk])
    answer = card(
        "features.2:2", **{"HX-Current-URL": f"http://testserver{url}?show=newly-right&unit=features.1:1#images"}
    )
    assert answer.status_code == 200
    assert "Its presence helps" in answer.content.decode()
    assert answer["HX-Push-Url"] == f"{url}?show=newly-right&unit=features.2%3A2#unit"
    plain = world.owner.browser.get(reverse("pages:unit", args=[job.pk]), {"unit": "features.2:2"})
    assert (plain.status_code, plain["Location"]) == (302, f"{url}?unit=features.2%3A2#unit")


def test_a_unit_that_is_not_there(card):
    for name in ("ghost:1", "features.1", ""):
        assert card(name).status_code == 404


def test_images_keep_the_unit_in_the_address(world, job):
    with_predictions(job)
    url, pages = reverse("pages:repair", args=[job.pk]), {"HX-Current-URL": "http://testserver/x/?unit=features.1:1"}
    answer = world.owner.browser.get(
        reverse("pages:images", args=[job.pk]), {"show": "newly-right"}, headers=HTMX | pages
    )
    assert answer["HX-Push-Url"] == f"{url}?show=newly-right&unit=features.1%3A1#images"
    answer = world.owner.browser.get(reverse("pages:images", args=[job.pk]), headers=HTMX | pages)
    assert answer["HX-Push-Url"] == f"{url}?unit=features.1%3A1#images"


def test_the_table_leads_to_cards(world, job):
    table = read(world.owner.browser.get(reverse("pages:filters", args=[job.pk]), {"show": "hurts"}))
    links = [a["href"] for a in table.all("a") if "unit=" in (a["href"] or "")]
    assert links == [f"{reverse('pages:repair', args=[job.pk])}?unit=features.1%3A1#unit"]


def test_a_run_that_failed_or_has_no_values_has_no_map(world, job):
    job.artifacts.filter(name="filters.csv").delete()
    found = read(world.owner.browser.get(reverse("pages:repair", args=[job.pk])))
    assert not [a for _, a in found.elements if "data-map" in a]
