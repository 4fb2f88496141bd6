"""The parts of a card that a worker makes: asked for by who looks, once, with progress, failure said, tried again."""

from __future__ import annotations

import pytest
from django.urls import reverse
from django.utils import timezone

from tests.webapp.pages.helpers import read, succeed
from webapp.jobs import removal
from webapp.jobs.models import UnitStudy, Worker

HTMX = {"HX-Request": "true"}
UNIT, OTHER, BROKEN = "features.1:1", "features.2:2", "features.3:3"
STUDY = "study_unit"


@pytest.fixture
def job(world):
    succeed(world.owner.job)
    Worker.objects.create(name="cpu1", queues=["cpu", "light"], seen_at=timezone.now())
    world.bells.rung.clear()
    return world.owner.job


@pytest.fixture
def look(world, job):
    return lambda unit=UNIT: read(world.owner.browser.get(reverse("pages:repair", args=[job.pk]), {"unit": unit}))


def part(world, job, what="effect", unit=UNIT, post=False):
    url = reverse("pages:unit_study", args=[job.pk, what])
    ask = world.owner.browser.post if post else world.owner.browser.get
    return ask(url, {"unit": unit}, headers=HTMX)


def polls(html: str) -> bool:
    return "every 1s" in html


def test_who_opens_a_card_asks_and_the_part_comes_by_polling(world, job, look):
    assert "Waiting for a worker" in look().text
    assert world.bells.names() == [STUDY], "once, of all that the page shows"
    ((_, _, queue),) = world.bells.rung
    assert queue == "light", "it does not wait behind the shards of runs"
    look()
    answer = part(world, job)
    assert world.bells.names() == [STUDY], "whoever looks again does not ask again"
    assert polls(answer.content.decode())
    world.bells.answer()
    made = part(world, job).content.decode()
    assert not polls(made)
    assert "&lt;b&gt;cat" in made
    assert "<b>cat" not in made
    found = look()
    _, metric, accuracy = found.tables["Metric and accuracy with and without it"]
    assert (metric[0], accuracy) == ("recall of shirt", ["accuracy", "50.0%", "75.0%", "+25.0 +12.5 to +37.5"])
    assert "2 that change less" in found.text
    assert "Turned wrong, 1 of 12" in found.text
    assert "Turned right" not in found.text
    (ring,) = [a for _, a in found.elements if a.get("class") == "ring"]
    assert (ring["cx"], ring["cy"]) == ("4.0", "6.0"), "x and y in the picture's own units"
    assert world.bells.names() == [], "it is made once"


def test_pictures_are_made_when_asked_for(world, job, look):
    look()
    world.bells.answer()
    assert "Make it" in look().text
    assert "Make it" in part(world, job, "picture").content.decode()
    assert world.bells.names() == []
    assert polls(part(world, job, "picture", post=True).content.decode())
    world.bells.answer()
    found = look()
    assert "as much as possible: 2.50" in found.text
    assert len([a for a in found.all("img") if "respond" in (a.get("alt") or "")]) == 2
    plain = world.owner.browser.post(reverse("pages:unit_study", args=[job.pk, "picture"]), {"unit": OTHER})
    assert plain["Location"] == f"{reverse('pages:repair', args=[job.pk])}?unit=features.2%3A2#unit-picture"


def test_a_failure_is_said_and_can_be_tried_again(world, job, look, monkeypatch):
    look(BROKEN)
    world.bells.answer()
    assert "There is no such unit. Take another one." in look(BROKEN).text
    assert world.bells.names() == [], "nobody asks again by looking"
    monkeypatch.setattr("tests.webapp.tiny_engine.TinyEngine.study", lambda *_: {"rows": []})
    assert polls(part(world, job, unit=BROKEN, post=True).content.decode())
    world.bells.answer(only=STUDY)
    assert UnitStudy.objects.get(unit=BROKEN).result == {"rows": []}


def test_workers_that_die_three_times_end_it(world, job, look, settings, monkeypatch):
    settings.LEASE_SECONDS = -1

    def die(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("tests.webapp.tiny_engine.TinyEngine.study", die)
    for _ in range(3):
        look()
        world.bells.answer()
    assert "The card of this unit could not be made. Try again" in look().text
    assert "out of memory" in UnitStudy.objects.get().detail
    assert "out of memory" not in look().text


def test_progress_and_a_run_deleted_meanwhile(world, job, look, monkeypatch):
    def slow(engine, request, work, unit, what, note):
        note("reading the images", 0.25)
        said.append(part(world, job).content.decode())
        removal.delete_job(job)
        removal.purge(job)
        note("capturing the network")
        raise AssertionError("it goes on")

    said: list[str] = []
    monkeypatch.setattr("tests.webapp.tiny_engine.TinyEngine.study", slow)
    look()
    world.bells.answer()
    assert "Reading the images, 25%" in said[0]
    assert '<progress max="1" value="0.25"' in said[0]
    assert not UnitStudy.objects.exists()


def test_without_workers_it_is_said(world, job, look):
    Worker.objects.all().delete()
    assert "No worker has been heard of lately" in look().text


def test_what_is_not_there(world, job):
    assert part(world, job, unit="ghost:1").status_code == 404
    assert part(world, job, "weather").status_code == 404
    assert part(world, job, unit="ghost:1", post=True).status_code == 404
    assert not UnitStudy.objects.exists()


def test_a_poll_costs_little(world, job, look, django_assert_max_num_queries):
    look()
    browser, url = world.owner.browser, reverse("pages:unit_study", args=[job.pk, "effect"])
    with django_assert_max_num_queries(7):
        browser.get(url, {"unit": UNIT}, headers=HTMX)
