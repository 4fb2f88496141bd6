"""A dataset's images by class and subgroup; pictures are made by a worker when somebody first looks."""

from __future__ import annotations

import io
import zipfile

import pytest
from django.urls import reverse
from PIL import Image

from tests.webapp.helpers import blob_of
from tests.webapp.pages.helpers import read
from tests.webapp.pages.pictures import GROUND, NAMES, pack_of, with_pictures
from webapp.jobs import storage
from webapp.library import quota, services, thumbnails
from webapp.library.models import Blob, DatasetUpload, Thumbnails

HTMX = {"HX-Request": "true"}


def zip_of() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for i, name in enumerate(NAMES):
            image = io.BytesIO()
            Image.new("RGB", (300, 200), (40 * i, 0, 0)).save(image, "PNG")
            archive.writestr(name, image.getvalue())
        table = "".join(f"{name},{ground}\n" for name, ground in zip(NAMES, GROUND))
        archive.writestr("metadata.csv", f"file_name,ground\n{table}")
    return out.getvalue()


@pytest.fixture
def dataset(world) -> DatasetUpload:
    found = world.owner.dataset
    found.blob, found.facts = blob_of(zip_of()), {"images": 5, "folders": {"cat": 3, "dog": 2}, "columns": {}}
    found.save()
    return found


@pytest.fixture
def url(dataset) -> str:
    return reverse("pages:dataset", args=[dataset.pk])


def test_a_worker_makes_them_once_when_somebody_looks(world, url, dataset):
    world.bells.rung.clear()
    page = read(world.owner.browser.get(url))
    assert "The pictures are being made" in page.text
    world.owner.browser.get(url)
    assert world.bells.names() == ["make_thumbnails"], "asked for once"
    state = reverse("pages:dataset_thumbnails", args=[dataset.pk])
    assert "being made" in world.owner.browser.get(state, headers=HTMX).content.decode()
    before = quota.usage(world.owner.user).total
    world.bells.answer()
    assert world.owner.browser.get(state, headers=HTMX)["HX-Refresh"] == "true"
    made = Thumbnails.objects.get(dataset=dataset)
    assert quota.usage(world.owner.user).total == before + made.blob.size, "they count"
    page = read(world.owner.browser.get(url))
    assert [image["alt"] for image in page.all("img")] == [
        "cat/2.png",
        "cat/3.png",
        "cat/1.png",
        "dog/2.png",
        "dog/1.png",
    ]
    large = world.owner.browser.get(page.all("img")[0]["src"].replace("small", "large"))
    assert Image.open(io.BytesIO(large.content)).size == (256, 171)
    blobs = {made.blob_id, dataset.blob_id}
    assert Blob.objects.filter(pk__in=blobs).count() == 2
    world.owner.job.delete()
    services.delete_upload(upload=dataset)
    assert not Blob.objects.filter(pk__in=blobs).exists()
    assert not made.blob.path.exists()


def test_of_two_messages_one_acts(world, dataset, monkeypatch):
    made = []
    monkeypatch.setattr("webapp.library.picturing.make", lambda found: made.append(found.pk))
    world.bells.rung.clear()
    thumbnails.wanted(dataset)
    world.bells.rung *= 2
    world.bells.answer()
    assert len(made) == 1


def test_what_cannot_be_made_says_why_and_can_be_tried_again(world, url, dataset):
    dataset.blob = blob_of(b"no zip at all")
    dataset.save()
    read(world.owner.browser.get(url))
    world.bells.answer(only="make_thumbnails")
    page = read(world.owner.browser.get(url))
    assert "There are no pictures." in page.text
    assert "is not a zip archive" in page.text
    dataset.blob = blob_of(zip_of())
    dataset.save()
    world.owner.browser.post(reverse("pages:make_dataset_thumbnails", args=[dataset.pk]))
    world.bells.answer(only="make_thumbnails")
    assert Thumbnails.objects.get(dataset=dataset).blob is not None


def test_without_room_there_are_none(world, url, dataset, settings):
    settings.USER_QUOTA_BYTES = quota.usage(world.owner.user).total + 10
    read(world.owner.browser.get(url))
    world.bells.answer(only="make_thumbnails")
    assert "you may keep" in read(world.owner.browser.get(url)).text
    assert not any(storage.check()), "nothing is left on the disk"


def test_lost_pictures_are_made_anew(world, url, dataset):
    with_pictures(dataset).blob.path.unlink()
    world.bells.rung.clear()
    assert "being made" in read(world.owner.browser.get(url)).text
    assert world.bells.names() == ["make_thumbnails"]


def test_workers_that_die_three_times_end_it(world, dataset, settings):
    settings.LEASE_SECONDS = -1
    for attempts in range(3):
        found = thumbnails.wanted(dataset)
        assert not found.error
        Thumbnails.objects.filter(pk=found.pk).update(attempts=attempts + 1)
    assert "could not be made" in thumbnails.wanted(dataset).error


def test_classes_by_a_column_and_all_of_a_cell(world, url, dataset):
    with_pictures(dataset)
    page = read(world.owner.browser.get(url))
    for cell in ("light 1", "dark 2"):
        assert cell in " ".join(page.text.split())
    alone = read(world.owner.browser.get(url, {"by": "none"}))
    assert [image["alt"] for image in alone.all("img")] == list(NAMES)
    link = next(a["href"] for a in page.all("a") if "column.ground=dark" in a["href"] and "class=cat" in a["href"])
    listed = read(world.owner.browser.get(link.partition("#")[0]))
    assert [image["alt"] for image in listed.all("img")] == ["cat/2.png", "cat/3.png"]
    one = read(world.owner.browser.get(reverse("pages:dataset_image", args=[dataset.pk, 1]), {"class": "cat"}))
    assert "8 × 8 pixels" in one.text
    assert {a["rel"] for a in one.all("a") if a.get("rel")} == {"prev", "next"}


def test_all_images_stay_all_when_a_filter_is_taken_back(world, dataset):
    with_pictures(dataset, pack_of([f"c{i:02}/1.png" for i in range(60)]))
    fragment = reverse("pages:dataset_images", args=[dataset.pk])
    answer = world.owner.browser.get(fragment, {"class": "", "all": "1"}, headers=HTMX)
    assert answer["HX-Push-Url"].endswith("?all=1#images")
    assert answer.content.count(b"<img") == 30
    cells = world.owner.browser.get(fragment, {"page": "2"}, headers=HTMX).content.decode()
    assert "c08" in cells
    assert "c07/" not in cells
