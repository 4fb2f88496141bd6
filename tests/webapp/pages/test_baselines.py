"""A look before a run: asked for by who opens the form or the page, made once for a pair, shown as it comes."""

from __future__ import annotations

import pytest
from django.urls import reverse
from django.utils import timezone

from tests.webapp.helpers import ready_dataset, ready_model
from tests.webapp.pages.helpers import read
from tests.webapp.tiny_engine import figures, speed
from webapp.jobs import baselines
from webapp.jobs.models import Baseline, Worker
from webapp.jobs.requests import for_engine
from webapp.library import services

API = "/api/v1/baselines/"
HTMX = {"HX-Request": "true"}
LOOK = "look_before"
NEW = "/repairs/new/"


@pytest.fixture
def owner(world):
    Worker.objects.create(name="cpu1", queues=["cpu", "light"], seen_at=timezone.now())
    world.owner.dataset.facts = {
        "columns": {"ground": {"dark": 150, "<i>light": 50}},
        "folders": {"<b>cat": 1, "dog": 1},
    }
    world.owner.dataset.save()
    world.bells.rung.clear()
    return world.owner


def address(one) -> str:
    return reverse("pages:model_baseline", args=[one.model.pk, one.dataset.pk])


def ask(one, **more):
    return one.api.post(API, {"model": one.model.pk, "dataset": one.dataset.pk, **more}, format="json")


def test_the_form_asks_once_and_the_figures_come_by_polling(world, owner):
    page = read(owner.browser.get(NEW))
    assert "Waiting for a worker" in page.text
    assert world.bells.names() == [LOOK]
    ((_, _, queue),) = world.bells.rung
    assert queue == "light"
    owner.browser.get(NEW)
    owner.browser.get(address(owner))
    assert world.bells.names() == [LOOK], "once for all who look at this pair"
    poll = {"seen": "nothing", "in": "form"}
    still = owner.browser.get(address(owner), poll, headers=HTMX)
    assert "HX-Retarget" not in still
    world.bells.answer()
    news = owner.browser.get(address(owner), poll, headers=HTMX)
    assert news["HX-Retarget"] == "#baseline"
    shown = news.content.decode()
    assert "every 1s" not in shown
    assert '<span id="foreseen-quick" hx-swap-oob="true">About 120,000 evaluations here, 42 for each' in shown
    assert world.bells.names() == [], "it is made once"


def test_figures_are_shown_while_the_speed_is_measured(world, owner, monkeypatch):
    def slow(engine, request, work, note, told):
        told(figures())
        note("measuring the speed of this machine", 0.25)
        pages.append(read(owner.browser.get(NEW)).text)
        return speed()

    pages: list[str] = []
    read(owner.browser.get(NEW))
    monkeypatch.setattr("tests.webapp.tiny_engine.TinyEngine.baseline", slow)
    world.bells.answer()
    assert "85.0% of 200 images are recognised" in pages[0]
    assert "Measuring the speed of this machine, 25%" in pages[0]
    assert "expected overlap" not in pages[0]
    assert "lowest 20 with an expected overlap of 0.62 to 0.81." in read(owner.browser.get(NEW)).text


def test_a_run_is_told_that_its_images_were_looked_at(world, owner):
    assert for_engine(owner.job)["looked_before"] is False
    owner.browser.get(NEW)
    assert for_engine(owner.job)["looked_before"] is False, "nothing is known yet"
    world.bells.answer(only=LOOK)
    assert for_engine(owner.job)["looked_before"] is True


def test_the_page_of_the_pair(world, owner):
    owner.browser.get(address(owner))
    world.bells.answer()
    page = read(owner.browser.get(address(owner)))
    assert "Recognised least: dog / <i>light: 40% of 50; dog: 70% of 100." in page.text
    assert "200 of 280 images were looked at: none of those on which a repair with seed 0 is reported" in page.text
    assert "the expected calibration error is 2.5%" in page.text
    assert "About 100,000,000 evaluations here, 34,000 for each of 2,944 units." in page.text, "no overlap is foreseen"
    links = [a["href"] for a in page.all("a") if "metric=" in (a.get("href") or "")]
    assert len(links) == 3


def test_a_suggestion_fills_in_the_form(world, owner):
    owner.browser.get(NEW)
    world.bells.answer()
    page = read(owner.browser.get(NEW))
    links = [a["href"] for a in page.all("a") if "metric=" in (a.get("href") or "")]
    for link, metric, name in zip(links, ("subgroup-recall", "recall", "accuracy"), (None, "dog", None), strict=True):
        form = read(owner.browser.get(link))
        chosen = [a["value"] for a in form.all("input") if a.get("name") == "metric" and "checked" in a]
        assert chosen == [metric]
        fields = {a.get("name"): a.get("value") for a in form.all("input")}
        assert fields["class_name"] == name or name is None
    ticked = [a["value"] for a in read(owner.browser.get(links[0])).all("input") if a.get("name") == "column"]
    assert ticked == ["ground"]
    assert owner.browser.get(NEW, {"metric": "nonsense:x"}).status_code == 200


def test_a_failure_is_said_and_tried_again(world, owner, monkeypatch):
    owner.model.file_name = "broken.pth"
    owner.model.save()
    owner.browser.get(NEW)
    world.bells.answer()
    assert "The model is not a model. Send another one." in read(owner.browser.get(NEW)).text
    assert world.bells.names() == [], "nobody asks again by looking"
    assert ask(owner).json()["state"] == "failed"
    owner.model.file_name = "net.pth"
    owner.model.save()
    assert owner.browser.post(address(owner))["Location"] == address(owner)
    assert ask(owner, again=True).status_code == 202
    world.bells.answer()
    assert ask(owner).json()["state"] == "speed"


def test_an_upload_deleted_meanwhile(world, owner, monkeypatch):
    dataset = ready_dataset(owner.user, b"other")

    def gone(engine, request, work, note, told):
        services.delete_upload(upload=dataset)
        told({})
        raise AssertionError("it goes on")

    baselines.wanted(owner.model, dataset)
    monkeypatch.setattr("tests.webapp.tiny_engine.TinyEngine.baseline", gone)
    world.bells.answer()
    assert not Baseline.objects.exists()


def test_another_preprocessing_is_another_pair(world, owner):
    other = ready_model(owner.user, b"other preprocessing")
    assert baselines.wanted(owner.model, owner.dataset) != baselines.wanted(other, owner.dataset)


def test_by_the_api(world, owner):
    first = ask(owner)
    assert (first.status_code, first.json()["state"], first["Retry-After"]) == (202, "nothing", "1")
    world.bells.answer()
    found = ask(owner)
    assert found.status_code == 200
    assert found.json()["figures"]["accuracy"]["value"] == 0.85
    assert [row["budget"] for row in found.json()["speed"]["efforts"]] == [123_456, 2_000_000, 10**8]
    assert owner.api.post(API, {"model": world.team_mate.model.pk, "dataset": owner.dataset.pk}).status_code == 404
    assert owner.api.post(API, {"model": owner.model.pk, "dataset": world.team_mate.dataset.pk}).status_code == 404
    assert world.stranger.post(API, {}).status_code == 401
    owner.dataset.state = "validating"
    owner.dataset.save()
    assert ask(owner).status_code == 409


def test_anothers_dataset_beside_ones_own_model(world, owner):
    url = reverse("pages:model_baseline", args=[owner.model.pk, world.team_mate.dataset.pk])
    assert owner.browser.get(url).status_code == 404
    assert not Baseline.objects.exists()


def test_the_uploads_lead_to_it(world, owner):
    for upload in (owner.model, owner.dataset):
        kind = "model" if upload is owner.model else "dataset"
        page = read(owner.browser.get(reverse(f"pages:{kind}", args=[upload.pk])))
        assert address(owner) in [a.get("href") for a in page.all("a")]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"effort": "thorough", "budget": "50000", "minutes": "7"}, {"effort": "thorough"}),
        ({"effort": "custom", "budget": "50000"}, {"budget": 50000}),
        ({"effort": "custom", "minutes": "7"}, {"minutes": 7.0}),
        ({"effort": "custom"}, {}),
    ],
)
def test_an_effort_or_numbers(owner, sent, kept):
    data = {"model": owner.model.pk, "dataset": owner.dataset.pk, "metric": "accuracy", **sent}
    assert owner.browser.post(NEW, data).status_code == 302
    job = owner.user.jobs.exclude(pk=owner.job.pk).get()
    assert job.request == {"metric": "accuracy", "seed": 0, **kept}
    again = read(owner.browser.get(NEW, {"like": job.pk}))
    (chosen,) = [a["value"] for a in again.all("input") if a.get("name") == "effort" and "checked" in a]
    assert chosen == (kept.get("effort") or ("custom" if kept else "quick"))


def test_an_effort_excludes_a_budget(owner):
    body = {"model": owner.model.pk, "dataset": owner.dataset.pk, "metric": "accuracy", "effort": "quick"}
    said = owner.api.post("/api/v1/repairs/", body | {"budget": 50_000}, format="json")
    assert said.status_code == 400
    assert "it excludes minutes and a budget" in said.json()["detail"]
