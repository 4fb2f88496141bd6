"""Links to a finished run: seen without an account, to read, that run alone, until they end."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.webapp.helpers import blob_of
from tests.webapp.pages.helpers import read, succeed
from tests.webapp.pages.pictures import NAMES, with_pictures, with_predictions
from webapp.accounts import attempts
from webapp.jobs import removal, sharing
from webapp.jobs.models import Artifact, ShareLink, UnitStudy
from webapp.pages.views import shared

HTMX = {"HX-Request": "true"}


@pytest.fixture
def job(world):
    succeed(world.owner.job)
    with_pictures(world.owner.dataset)
    with_predictions(world.owner.job)
    Artifact.objects.create(job=world.owner.job, name="edit.safetensors", media_type="x/y", blob=blob_of(b"tensors"))
    return world.owner.job


def link_to(job, **more) -> str:
    return reverse("shared:run", args=[sharing.create_link(job=job, **more)[1]])


def test_an_owner_makes_a_link_and_it_is_shown_once(world, job):
    url = reverse("pages:share", args=[job.pk])
    made = world.owner.browser.post(url, {"name": "Bea", "days": "7"})
    (address,) = re.findall(r"http://testserver(/shared/[\w-]+/)", made.content.decode())
    assert made["Cache-Control"] == "no-store"
    listed = read(world.owner.browser.get(url))
    assert "Bea" in listed.text
    assert "never opened" in listed.text
    assert address not in listed.text
    token = address.split("/")[2]
    assert token not in str(ShareLink.objects.values()), "only its hash is stored"
    assert Client().get(address).status_code == 200
    assert "last opened" in read(world.owner.browser.get(url)).text


def test_a_visitor_sees_the_result_and_can_change_nothing(world, job):
    url = link_to(job)
    page = read(Client().get(url))
    assert "Repaired" in page.text
    assert "shared with you to read" in page.text
    for part in ("summary", "images", "network", "statistics", "asked", "files"):
        assert any(a.get("id") == part for _, a in page.elements), part
    assert page.all("img"), "its images, too"
    links = {a.get(key) for _, a in page.elements for key in ("href", "src", "action", "hx-get") if a.get(key)}
    own = ("#", "?", url, "data:", "/static/", reverse("accounts:sign_in"), reverse("accounts:sign_up"), "/api/docs/")
    assert {link for link in links if not link.startswith(own)} == {"/"}, "nothing of the owner's but this run"
    assert not [a for a in page.all("form") if a.get("method") == "post"]
    for method in ("post", "put", "patch", "delete"):
        assert getattr(Client(), method)(url).status_code == 405


def test_every_address_on_the_page_answers_a_visitor(world, job):
    url = link_to(job)
    page = read(Client().get(url))
    for link in {a.get(key) for _, a in page.elements for key in ("href", "src", "hx-get")}:
        if link and link.startswith(url):
            answer = Client().get(link, headers=HTMX if re.search(r"/(images|unit)/(\?|#|$)", link) else {})
            assert answer.status_code == 200, link
            assert answer["Cache-Control"] == "private, no-store"
            assert answer["Referrer-Policy"] == "no-referrer"
    fragment = Client().get(f"{url}images/?show=newly-right", headers=HTMX)
    assert "cat/1.png" in fragment.content.decode()
    one = read(Client().get(f"{url}images/0/"))
    assert "cat/1.png" in one.text
    assert not [a for a in one.all("a") if (a.get("href") or "").startswith(("/datasets/", "/repairs/"))]


def test_a_visitor_sees_the_map_and_what_the_run_found_of_each_unit(world, job):
    url = link_to(job)
    page = read(Client().get(url))
    data = next(a for a in page.all("div") if "data-map" in a)
    assert (data["data-map"], data["data-card"]) == (f"{url}map/", f"{url}unit/")
    drawn = Client().get(f"{url}map/")
    assert drawn.content == world.owner.browser.get(reverse("pages:map", args=[job.pk])).content
    assert drawn["Cache-Control"] == "private, no-store"
    unit = "features.1:1"
    for answer in (Client().get(f"{url}unit/", {"unit": unit}, headers=HTMX), Client().get(url, {"unit": unit})):
        html = answer.content.decode()
        assert "Its presence hurts" in html
        assert f"<code>{unit}</code></h4>" in html
        assert "unit-effect" not in html, "a worker's part shows images of select"
        assert "/repairs/" not in html
        assert "Tick" not in html
    assert not UnitStudy.objects.exists(), "who looks on asks nobody for anything"
    assert Client().get(f"{url}unit/", {"unit": unit})["Location"] == f"{url}?unit=features.1%3A1#unit"
    assert Client().get(f"{url}unit/", {"unit": "features.9:9"}, headers=HTMX).status_code == 404
    sharing.revoke_link(link=job.share_links.get())
    for address in (f"{url}map/", f"{url}unit/?unit={unit}"):
        assert Client().get(address, headers=HTMX).status_code == 410


def test_files_to_be_read_and_weights_where_the_owner_says_so(world, job):
    plain, whole = link_to(job), link_to(job, weights=True)
    for name in ("report.html", "report.json", "filters.csv"):
        assert Client().get(f"{plain}files/{name}").status_code == 200, name
    for name in ("repaired.safetensors", "edit.safetensors"):
        assert Client().get(f"{plain}files/{name}").status_code == 404, name
        assert name not in Client().get(plain).content.decode()
        assert b"".join(Client().get(f"{whole}files/{name}").streaming_content)
        assert name in Client().get(whole).content.decode()
    assert Client().get(f"{whole}files/nothing.json").status_code == 404


def test_images_of_the_report_and_no_others(world, job):
    url, found = link_to(job), with_pictures(world.owner.dataset)
    pictures = [f"{url}thumbnails/{found.blob_id[:16]}/{i}/small/" for i in range(len(NAMES))]
    assert [Client().get(one).status_code for one in pictures] == [200, 200, 404, 200, 200], (
        "cat/3.png is a score image"
    )
    other = with_pictures(world.team_mate.dataset, b"")
    assert Client().get(f"{url}thumbnails/{other.blob_id[:16]}/0/small/").status_code == 404
    assert Client().get(f"{url}images/9/").status_code == 404


def test_a_link_leads_to_no_other_run(world, job):
    succeed(world.team_mate.job)
    url = link_to(job)
    client = Client()
    client.get(url)
    for name in ("repair", "filters", "images", "share"):
        for one in (job, world.team_mate.job):
            assert client.get(reverse(f"pages:{name}", args=[one.pk])).status_code == 302, "signing in comes first"
    assert client.get(reverse("pages:model", args=[job.model_id])).status_code == 302
    assert client.get(f"/api/v1/repairs/{job.pk}/").status_code == 401


@pytest.mark.parametrize(
    ("how", "said"),
    [("revoked", "has revoked it"), ("expired", "This link worked until"), ("deleted", "was deleted")],
)
def test_a_link_that_has_ended(world, job, how, said):
    url = link_to(job)
    link = ShareLink.objects.get()
    picture = f"{url}thumbnails/{with_pictures(world.owner.dataset).blob_id[:16]}/0/small/"
    assert Client().get(picture).status_code == 200
    if how == "revoked":
        world.owner.browser.post(reverse("pages:revoke_link", args=[job.pk, link.pk]))
    elif how == "expired":
        ShareLink.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    else:
        removal.delete_job(job)
    assert said in read(Client().get(url), 410).text
    for address in (picture, f"{url}files/report.json", f"{url}images/0/"):
        assert Client().get(address).status_code == 410
    open_page = Client().get(f"{url}images/", headers=HTMX)
    assert (open_page.status_code, open_page["HX-Refresh"]) == (410, "true"), "a page that is open says so, too"
    if how == "deleted":
        removal.restore([job])
        assert Client().get(url).status_code == 200
        removal.delete_job(job)
        removal.purge(job)
        assert Client().get(url).status_code == 404


def test_addresses_that_are_none(world, job, monkeypatch):
    monkeypatch.setattr(shared, "MISSES_PER_ADDRESS", 3)
    url = link_to(job)
    client = Client()
    wrong = [client.get(f"/shared/{'x' * 32}/").status_code for _ in range(5)]
    assert wrong == [404, 404, 404, 429, 429]
    assert client.get(url).status_code == 200, "a link that works goes on working"
    assert attempts.take(attempts.Counter("link:127.0.0.1", 3)) is False


def test_only_a_finished_run_is_shared(world):
    page = world.owner.browser.post(reverse("pages:share", args=[world.owner.job.pk]), {"days": ""})
    assert "There is no result to share" in read(page, 422).text
    assert not ShareLink.objects.exists()


def test_by_the_api(world, job, monkeypatch):
    url = f"/api/v1/repairs/{job.pk}/links/"
    over = world.owner.api.post(url, {"expires_at": "2020-01-01T00:00:00Z"}, format="json")
    assert "This time is over" in over.json()["detail"]
    made = world.owner.api.post(url, {"name": "CI", "weights": True}, format="json")
    assert made.status_code == 201
    assert Client().get(made.json()["url"]).status_code == 200
    (row,) = world.owner.api.get(url).json()
    assert "url" not in row
    assert (row["name"], row["weights"], row["expires_at"]) == ("CI", True, None)
    assert world.owner.api.delete(f"{url}{row['id']}/").status_code == 204
    assert world.owner.api.delete(f"{url}{row['id']}/").status_code == 404
    assert Client().get(made.json()["url"]).status_code == 410
    monkeypatch.setattr(sharing, "MOST", 0)
    assert world.owner.api.post(url, {}, format="json").status_code == 409


def test_a_run_deleted_while_its_owner_looks_at_it(world, job):
    removal.delete_job(job)
    answer = world.owner.browser.get(reverse("pages:images", args=[job.pk]), headers=HTMX)
    assert (answer.status_code, answer["HX-Refresh"]) == (404, "true"), "the page is loaded anew, and says so"
    assert "was deleted" in read(world.owner.browser.get(reverse("pages:repair", args=[job.pk])), 410).text
