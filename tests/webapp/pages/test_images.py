"""The images of a finished repair: seen, filtered and paged by the address, each larger with its facts."""

from __future__ import annotations

import re
from urllib.parse import urlencode

import pytest
from django.urls import reverse

from repair_engine.support import thumbnail_pack
from tests.webapp.pages.helpers import read, succeed
from tests.webapp.pages.pictures import GROUND, NAMES, ROWS, pack_of, predictions_csv, with_pictures, with_predictions
from webapp.library.models import Thumbnails

HTMX = {"HX-Request": "true"}


@pytest.fixture
def url(world) -> str:
    """A finished repair with predictions and pictures."""
    succeed(world.owner.job)
    with_predictions(world.owner.job, predictions_csv(subgroups=GROUND))
    with_pictures(world.owner.dataset, pack_of(columns={"ground": GROUND, "size": ("big", "big", "", "big", "")}))
    return reverse("pages:repair", args=[world.owner.job.pk])


def tiles(page) -> list[str]:
    return [image["alt"] for image in page.all("img")]


def test_report_images_with_what_was_said_of_them(world, url):
    page = read(world.owner.browser.get(url))
    assert tiles(page) == ["cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"], "no image that a choice was made on"
    for words in ("Newly right", "Newly wrong", "Still wrong", "Still right", "61%", "92%"):
        assert words in page.text
    image = page.all("img")[0]
    answer = world.owner.browser.get(image["src"])
    assert answer["Content-Type"] == "image/webp"
    assert answer["Cache-Control"] == "private, max-age=31536000, immutable"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer.content[8:12] == b"WEBP"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"show": "newly-right"}, ["cat/1.png"]),
        ({"show": "newly-wrong"}, ["cat/2.png"]),
        ({"show": "still-wrong"}, ["dog/1.png"]),
        ({"show": "still-right"}, ["dog/2.png"]),
        ({"class": "cat"}, ["cat/1.png", "cat/2.png"]),
        ({"before": "cat"}, ["cat/2.png", "dog/1.png"]),
        ({"after": "dog"}, ["cat/2.png", "dog/2.png"]),
        ({"subgroup": "light"}, ["cat/1.png", "dog/1.png"]),
        ({"column.size": "(empty)", "class": "dog"}, ["dog/2.png"]),
        ({"order": "unsure"}, ["cat/2.png", "dog/1.png", "cat/1.png", "dog/2.png"]),
        ({"order": "change"}, ["cat/1.png", "cat/2.png", "dog/2.png", "dog/1.png"]),
        ({"show": "still-right", "class": "cat"}, []),
        (
            {"show": "nonsense", "class": "cow", "order": "x", "page": "-3"},
            [name for name in NAMES if name != NAMES[2]],
        ),
    ],
)
def test_the_address_says_what_is_shown(world, url, asked, expected):
    assert tiles(read(world.owner.browser.get(url, asked))) == expected


def test_counts_are_of_what_a_choice_would_leave(world, url):
    html = world.owner.browser.get(url, {"class": "cat"}).content.decode()
    counts = re.findall(r'id="kind-([a-z-]+)"[^>]*>[^<]*<b>(\d+)</b>', html)
    assert counts == [
        ("every", "2"),
        ("newly-right", "1"),
        ("newly-wrong", "1"),
        ("still-wrong", "0"),
        ("still-right", "0"),
    ]
    assert '<option value="cat" selected>cat (2)</option><option value="dog">dog (2)</option>' in html


def test_a_fragment_puts_its_state_into_the_pages_address(world, url):
    fragment = reverse("pages:images", args=[world.owner.job.pk])
    asked = {"show": "newly-right", "class": "", "nonsense": "x"}
    answer = world.owner.browser.get(fragment, asked, headers=HTMX)
    assert answer["HX-Push-Url"] == f"{url}?show=newly-right#images"
    assert answer.content.count(b"<img") == 1
    plain = world.owner.browser.get(fragment, asked)
    assert (plain.status_code, plain["Location"]) == (302, f"{url}?show=newly-right#images")


def test_pages(world, url):
    rows = [(f"cat/{i:03}.png", "report", "cat", "cat", "cat", 0.5, 0.5) for i in range(100)]
    with_predictions(world.owner.job, predictions_csv(rows))
    first, last = (read(world.owner.browser.get(url, {"page": page})) for page in (1, 99))
    assert "1 to 30 of 100 images" in first.text
    assert "91 to 100 of 100 images" in last.text
    assert "cat/096.png" in last.text
    nexts = [a["href"] for a in first.all("a") if a.get("rel") == "next"]
    assert nexts == [f"{url}?page=2#images"]
    assert [a["href"] for a in last.all("a") if a.get("rel") == "prev"] == [f"{url}?page=3#images"]


def test_the_metrics_own_column_is_listed_once(world, url):
    html = world.owner.browser.get(url).content.decode()
    assert re.findall(r'<select id="images-\d" name="([^"]+)"', html) == [
        "class", "subgroup", "before", "after", "column.size", "order",
    ]  # fmt: skip
    assert ">Ground</label>" in html


def test_one_image_with_all_its_facts_and_those_beside_it(world, url):
    address = reverse("pages:image", args=[world.owner.job.pk, 1])
    page = read(world.owner.browser.get(address, {"class": "cat"}))
    for fact in ("cat/2.png", "Newly wrong", "prediction before", "ground", "size", "55.00%", "71.00%", "8 × 8"):
        assert fact in page.text
    beside = {a["rel"]: a["href"] for a in page.all("a") if a.get("rel")}
    assert beside == {"prev": reverse("pages:image", args=[world.owner.job.pk, 0]) + "?class=cat"}
    assert any(a["href"] == f"{url}?class=cat#images" for a in page.all("a"))
    assert world.owner.browser.get(reverse("pages:image", args=[world.owner.job.pk, 4])).status_code == 404


def test_a_run_from_before_confidence_was_kept(world, url):
    with_predictions(world.owner.job, predictions_csv(old=True))
    page = read(world.owner.browser.get(url, {"order": "unsure"}))
    assert tiles(page) == ["cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"]
    assert "before confidence was kept" in page.text
    one = read(world.owner.browser.get(reverse("pages:image", args=[world.owner.job.pk, 0])))
    assert "not kept" in one.text


def test_without_predictions_there_are_no_images(world, url):
    world.owner.job.artifacts.filter(name="predictions.csv").delete()
    page = read(world.owner.browser.get(url))
    assert not tiles(page)
    assert not any(a["href"] == "#images" for a in page.all("a"))
    assert world.owner.browser.get(reverse("pages:images", args=[world.owner.job.pk]), headers=HTMX).status_code == 200


def test_no_repair_has_one_prediction(world, url):
    rows = [(*row[:3], row[3], row[3], row[5], row[5]) for row in ROWS]
    with_predictions(world.owner.job, predictions_csv(rows))
    html = world.owner.browser.get(url).content.decode()
    assert 'name="before"' in html
    assert 'name="after"' not in html


def test_an_image_that_cannot_be_shown_says_why(world, url):
    with_pictures(world.owner.dataset, pack_of(NAMES[:4], why={0: "cat/1.png is a corrupt image: <b>broken</b>."}))
    html = world.owner.browser.get(url).content.decode()
    assert "cat/1.png is a corrupt image: &lt;b&gt;broken&lt;/b&gt;." in html
    assert "The zip has no image by this name" in html
    assert html.count("<img") == 2
    version = Thumbnails.objects.get(dataset=world.owner.dataset).blob_id[:16]
    pk = world.owner.dataset.pk
    for number, size in ((0, "small"), (9, "large")):
        address = reverse("pages:dataset_thumbnail", args=[pk, version, number, size])
        assert world.owner.browser.get(address).status_code == 404
    for wrong in (version[:15], "0" * 16):
        address = reverse("pages:dataset_thumbnail", args=[pk, wrong, 1, "small"])
        assert world.owner.browser.get(address).status_code == 404, "no other content is known by this address"


HOSTILE = [
    '=cmd|"/c calc"!A1',
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "a&b=c#d?e",
    "\u202egnp.exe",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text(world, url, name):
    rows = [(f"x/{name}.png", "report", name, name, "cat", 0.4, 0.6), *ROWS]
    with_predictions(world.owner.job, predictions_csv(rows, [name, *GROUND]))
    names = (*NAMES, f"x/{name}.png")
    with_pictures(world.owner.dataset, pack_of(names, columns={name: [*GROUND, name]}))
    asked = {"class": name, "subgroup": name, f"column.{name}": name}
    shown = name.replace("\u202e", "\ufffd")
    for address in (f"{url}?{urlencode(asked)}", reverse("pages:image", args=[world.owner.job.pk, 0])):
        page = read(world.owner.browser.get(address))
        assert not page.all("script") or all(s["src"].startswith("/static/") for s in page.all("script"))
        assert tiles(page) == [f"x/{shown}.png"]
        assert shown in page.text
    answer = world.owner.browser.get(reverse("pages:images", args=[world.owner.job.pk]), asked, headers=HTMX)
    assert "\n" not in answer["HX-Push-Url"]
    assert tiles(read(world.owner.browser.get(answer["HX-Push-Url"].partition("#")[0]))) == [f"x/{shown}.png"]


def test_the_result_has_parts_that_the_address_names(world, url):
    page = read(world.owner.browser.get(url))
    ids = {a["id"] for _, a in page.elements if "id" in a}
    named = [a["href"][1:] for a in page.all("a") if a["href"].startswith("#")]
    parts = [name for name in dict.fromkeys(named) if name in ("summary", "images", "network", "choice", "statistics")]
    assert parts == ["summary", "images", "network", "choice", "statistics"]
    assert set(named) <= ids
    assert page.text.index("At a glance") < page.text.index("Newly right") < page.text.index("sha256")


def test_pictures_are_read_by_offset(tmp_path):
    path = tmp_path / "pack"
    path.write_bytes(pack_of())
    found = thumbnail_pack.read(path)
    assert found.names == NAMES
    pictures = [thumbnail_pack.picture(path, i, False) for i in range(6)]
    assert len(set(pictures[:5])) == 5
    assert pictures[5] is None
