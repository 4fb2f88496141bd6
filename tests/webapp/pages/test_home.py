"""The start page says what to do first, and then what there is."""

from __future__ import annotations

from django.urls import reverse

from tests.webapp.conftest import person
from tests.webapp.pages.helpers import read
from webapp.accounts import services
from webapp.library.models import Upload


def test_a_new_account_is_told_what_to_do_first(world, client):
    client.force_login(services.create_user(username="new", password="correct horse battery"))
    page = read(client.get("/"))
    assert "Upload the model" in page.text
    assert {reverse("pages:new_model"), reverse("pages:new_dataset")} <= {a["href"] for a in page.all("a")}
    assert reverse("pages:new_repair") not in {a["href"] for a in page.all("a")}, "there is nothing to repair yet"
    assert "hx-get" not in dict(page.elements)["div"], "nothing moves, so nothing is polled"


def test_the_steps_that_are_done_are_marked(world, client):
    new = person("new", b"of the new one")
    page = read(new.browser.get("/"))
    assert [a.get("class") for a in page.all("li")].count("done") == 2
    assert reverse("pages:new_repair") in {a["href"] for a in page.all("a")}


def test_lists_ones_things_with_their_states(world):
    page = read(world.owner.browser.get("/"))
    assert "waiting to start" in page.text
    assert {reverse("pages:repair", args=[world.owner.job.pk])} <= {a["href"] for a in page.all("a")}
    watch = next(a for a in page.all("div") if a.get("id") == "watch")
    assert watch["hx-get"] == f"/repairs/rows/?run={world.owner.job.pk}&", "the row that runs is looked at again"
    type(world.owner.model).objects.update(state=Upload.State.VALIDATING)
    lists = next(a for a in read(world.owner.browser.get("/")).all("div") if a.get("id") == "lists")
    assert lists["hx-get"] == "/", "an upload is being checked, so the lists are looked at again"


def test_polling_stops_when_nothing_moves(world):
    world.bells.answer()
    page = read(world.owner.browser.get("/"))
    assert all("hx-get" not in a for a in page.all("div"))
    assert "repaired" in page.text


def test_long_lists_are_paged(world):
    for i in range(60):
        model = world.owner.model
        model.pk, model.settings_digest, model.name = None, str(i), f"net {i}"
        model._state.adding = True
        model.state = Upload.State.READY
        model.id = __import__("uuid").uuid4()
        model.save()
    first = read(world.owner.browser.get(reverse("pages:models")))
    assert "Page 1 of 2" in first.text
    assert "?page=2" in {a["href"] for a in first.all("a")}
    assert "Page 2 of 2" in read(world.owner.browser.get(reverse("pages:models"), {"page": 2})).text
