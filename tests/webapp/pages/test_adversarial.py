"""Images that an adversary changed, in the gallery of a run: with the same filters as others, and their differences."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.urls import reverse

from tests.webapp.pages.helpers import read, succeed
from tests.webapp.pages.pictures import GROUND, attack_pack, pack_of, with_attacked, with_pictures, with_predictions
from webapp.jobs import sharing
from webapp.jobs.models import Artifact
from webapp.library.models import Blob

HTMX = {"HX-Request": "true"}
ADVERSARIAL = {"of": "adversarial"}


@pytest.fixture
def url(world) -> str:
    """A finished repair with report images and attacked ones."""
    succeed(world.owner.job)
    with_predictions(world.owner.job)
    with_attacked(world.owner.job, attack_pack())
    with_pictures(world.owner.dataset, pack_of(columns={"ground": GROUND}))
    return reverse("pages:repair", args=[world.owner.job.pk])


def tiles(page) -> list[str]:
    return [image["alt"] for image in page.all("img")]


CAT = ["cat/1.png, clean", "adversarial", "difference"]
DOG = ["dog/1.png, clean", "adversarial", "difference"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, CAT + DOG),
        ({"show": "newly-right"}, CAT),
        ({"show": "still-wrong"}, DOG),
        ({"class": "dog"}, DOG),
        ({"target": "dog"}, CAT),
        ({"after": "cat"}, CAT + DOG),
        ({"column.ground": "light"}, CAT + DOG),
        ({"column.ground": "dark"}, []),
    ],
)
def test_the_address_says_what_is_shown(world, url, asked, expected):
    page = read(world.owner.browser.get(url, ADVERSARIAL | asked))
    assert tiles(page) == expected
    assert "× 12 around grey" in page.text


def test_report_images_come_first_and_lead_to_the_others_and_back(world, url):
    page = read(world.owner.browser.get(url))
    assert "cat/1.png" in tiles(page)
    assert f"{url}?of=adversarial#images" in [a["href"] for a in page.all("a")]
    other = read(world.owner.browser.get(url, ADVERSARIAL))
    assert f"{url}#images" in [a["href"] for a in other.all("a")]


def test_what_is_chosen_stays_within_the_kind(world, url):
    fragment = reverse("pages:images", args=[world.owner.job.pk])
    answer = world.owner.browser.get(fragment, ADVERSARIAL | {"class": "cat"}, headers=HTMX)
    assert answer["HX-Push-Url"] == f"{url}?class=cat&of=adversarial#images"
    html = answer.content.decode()
    assert '<input type="hidden" name="of" value="adversarial">' in html
    assert f'href="{url}?of=adversarial#images" hx-get="{fragment}?of=adversarial">Show all' in html
    for query in re.findall(r'href="[^"?]*\?([^"#]*)#images" hx-get="[^"]*" id="kind-', html):
        assert "of=adversarial" in query


def test_one_image_with_its_three_pictures(world, url):
    address = reverse("pages:image", args=[world.owner.job.pk, 0])
    page = read(world.owner.browser.get(address, ADVERSARIAL))
    assert [image["alt"] for image in page.all("img")] == [
        f"cat/1.png, {v}" for v in ("clean", "adversarial", "difference")
    ]
    for fact in ("Difference × 12", "adversary's target", "prediction before", "Newly right"):
        assert fact in page.text
    contents = []
    for image in page.all("img"):
        answer = world.owner.browser.get(image["src"])
        assert (answer.status_code, answer["Content-Type"]) == (200, "image/webp")
        contents.append(answer.content)
    assert len(set(contents)) == 3
    assert world.team_mate.browser.get(page.all("img")[0]["src"]).status_code == 404, "of somebody else's run"


def test_an_attack_has_no_other_images(world, url):
    world.owner.job.artifacts.filter(name="predictions.csv").delete()
    with_attacked(world.owner.job, attack_pack(after=False))
    page = read(world.owner.browser.get(url))
    assert tiles(page) == CAT + DOG
    html = world.owner.browser.get(url).content.decode()
    assert "Report images</a>" not in html
    assert 'name="after"' not in html


def test_an_image_that_cannot_be_shown_says_why(world, url):
    with_attacked(world.owner.job, attack_pack(why={0: "It cannot be shown: <b>no numbers</b>."}))
    answer = world.owner.browser.get(url, ADVERSARIAL)
    assert "It cannot be shown: &lt;b&gt;no numbers&lt;/b&gt;." in answer.content.decode()
    assert tiles(read(answer)) == DOG
    one = world.owner.browser.get(reverse("pages:image", args=[world.owner.job.pk, 0]), ADVERSARIAL)
    assert "no numbers" in read(one).text
    version = Artifact.objects.get(job=world.owner.job, name="adversarial.pack").blob_id[:16]
    for number, of in ((0, version), (99, version), (3, "0" * 16), (3, version[:15])):
        address = reverse("pages:adversarial", args=[world.owner.job.pk, of, number, "small"])
        assert world.owner.browser.get(address).status_code == 404


def test_a_file_that_was_lost_takes_nothing_else_with_it(world, url):
    blob = Blob.objects.get(pk=Artifact.objects.get(job=world.owner.job, name="adversarial.pack").blob_id)
    blob.path.unlink()
    assert "cat/1.png" in tiles(read(world.owner.browser.get(url, ADVERSARIAL)))


def test_a_visitor_sees_them_by_their_link(world, url):
    _, token = sharing.create_link(job=world.owner.job)
    page = read(world.owner.browser.get(f"/shared/{token}/", ADVERSARIAL))
    sources = [image["src"] for image in page.all("img")]
    assert len(sources) == 6

    assert all(Client().get(source).status_code == 200 for source in sources)
    assert all(source.startswith(f"/shared/{token}/adversarial/") for source in sources)
