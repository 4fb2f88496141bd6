"""Runs by the API: names, tags and archive by PATCH, the list's filters, deletion that can be taken back."""

from __future__ import annotations

import pytest

from tests.webapp.pages.helpers import succeed
from webapp.accounts import services as accounts
from webapp.jobs.models import Job

URL = "/api/v1/repairs/"


@pytest.fixture
def one(world):
    return f"{URL}{world.owner.job.pk}/"


def listed(world, **query) -> list[str]:
    answer = world.owner.api.get(URL, query)
    assert answer.status_code == 200, answer.json()
    return [row["id"] for row in answer.json()["results"]]


def test_patch_changes_what_is_sent_and_nothing_else(world, one):
    now = world.owner.api.patch(one, {"name": "Nightly", "tags": ["b", " a ", "b"]}).json()
    assert (now["name"], now["tags"], now["archived"]) == ("Nightly", ["a", "b"], False)
    now = world.owner.api.patch(one, {"archived": True}).json()
    assert (now["name"], now["tags"], now["archived"]) == ("Nightly", ["a", "b"], True)
    now = world.owner.api.patch(one, {"tags": [], "name": ""}).json()
    assert (now["name"], now["tags"], now["archived"]) == ("", [], True)
    assert world.owner.api.get(one).json()["archived"] is True


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "two\nlines"}, "name"),
        ({"name": 3}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"tags": ["a,b"]}, "tags.0"),
        ({"tags": ["x" * 51]}, "tags.0"),
        ({"tags": [" "]}, "tags.0"),
        ({"tags": ["\u0007"]}, "tags.0"),
        ({"tags": [str(i) for i in range(21)]}, "tags"),
        ({"tags": "a"}, "tags"),
        ({"archived": "yes"}, "archived"),
        ({"state": "succeeded"}, "state"),
        ({"owner": 1}, "owner"),
    ],
)
def test_patch_refuses_what_cannot_be(world, one, body, field):
    answer = world.owner.api.patch(one, body)
    assert answer.status_code == 400
    assert [error["field"].partition(".")[0] for error in answer.json()["errors"]] == [field.partition(".")[0]]
    job = Job.objects.get(pk=world.owner.job.pk)
    assert (job.name, job.tags.count(), job.state) == ("", 0, "starting")


def test_a_token_that_reads_changes_nothing(world, one):
    _, key = accounts.create_token(owner=world.owner.user, name="reader", scope="read")
    api = world.owner.api
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    for answer in (api.patch(one, {"name": "x"}), api.post(f"{one}restore/")):
        assert answer.status_code == 403


def test_the_list_shows_and_filters_by_what_runs_are(world, one):
    mine = str(world.owner.job.pk)
    world.owner.api.patch(one, {"name": "Nightly", "tags": ["paper"]})
    row = world.owner.api.get(URL).json()["results"][0]
    assert (row["kind"], row["seed"], row["budget"], row["gain"]) == ("repair", 1, None, None)
    assert (row["tags"], row["archived"]) == (["paper"], False)
    for found in (
        {"tag": "paper"},
        {"q": "night net.pth"},
        {"kind": "repair"},
        {"model": world.owner.model.pk},
        {"dataset": world.owner.dataset.pk},
        {"state": "starting", "sort": "-gain"},
    ):
        assert listed(world, **found) == [mine], found
    for none in (
        {"tag": "pape"},
        {"q": "daily"},
        {"kind": "by-hand"},
        {"model": world.team_mate.model.pk},
        {"outcome": "repaired"},
        {"archived": "true"},
    ):
        assert listed(world, **none) == [], none
    world.owner.api.patch(one, {"archived": True})
    assert (listed(world), listed(world, archived="true"), listed(world, archived="all")) == ([], [mine], [mine])


def test_a_finished_repairs_gain_stands_in_its_row(world):
    found = succeed(world.owner.job)
    row = world.owner.api.get(URL, {"outcome": "repaired"}).json()["results"][0]
    assert row["gain"] == {key: found["gain"][key] for key in ("value", "lower", "upper")}
    assert row["budget"] == found["run"]["budget"]


@pytest.mark.parametrize("query", [{"sort": "color"}, {"kind": "x"}, {"archived": "maybe"}, {"tags": "a"}])
def test_filters_that_cannot_be_are_refused(world, query):
    assert world.owner.api.get(URL, query).status_code == 400


def test_a_deletion_is_taken_back_or_made_for_good(world, one):
    assert world.owner.api.delete(one).status_code == 409
    world.bells.answer()
    assert world.owner.api.post(f"{one}restore/").status_code == 404, "it was not deleted"
    assert world.owner.api.delete(one).status_code == 204
    assert world.owner.api.get(one).status_code == 404
    assert world.owner.api.patch(one, {"name": "x"}).status_code == 404
    assert world.team_mate.api.post(f"{one}restore/").status_code == 404
    back = world.owner.api.post(f"{one}restore/").json()
    assert (back["id"], back["state"]) == (str(world.owner.job.pk), "succeeded")
    assert world.owner.api.delete(f"{one}?for_good=true").status_code == 204
    assert world.owner.api.post(f"{one}restore/").status_code == 404
    assert not Job.objects.filter(pk=world.owner.job.pk).exists()


def test_a_run_that_was_deleted_is_no_follow_up_of_another(world, one):
    world.bells.answer()
    follow = {"from": str(world.owner.job.pk), "filters": ["conv:1"]}
    made = world.owner.api.post(URL, follow).json()["id"]
    assert world.owner.api.get(one).json()["followups"] == [made]
    world.bells.answer()
    world.owner.api.delete(f"{URL}{made}/")
    assert world.owner.api.get(one).json()["followups"] == []
