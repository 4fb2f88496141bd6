"""Every page with an id: another person's does not exist, nobody's either, and no account leads to signing in."""

from __future__ import annotations

import re
import secrets
import uuid

import pytest
from django.test import Client
from django.urls import reverse

from tests.webapp.pages.helpers import succeed
from tests.webapp.pages.pictures import attack_pack, with_attacked, with_pictures, with_predictions
from webapp.jobs import removal
from webapp.jobs.files import ADVERSARIAL
from webapp.jobs.models import ShareLink
from webapp.library import resumable
from webapp.pages.urls import urlpatterns

POSTS = {"delete_model", "delete_dataset", "delete_upload", "make_dataset_thumbnails", "cancel", "retry",
         "delete_repair", "restore", "selected", "undo", "revoke_link", "pause", "resume", "priority"}  # fmt: skip
KINDS = {"model": "model", "dataset": "dataset"}
STAFF = {"operator", "operator_retry", "operator_priority", "allowance"}  # have tests of their own
TEAMS = {p.name for p in urlpatterns if re.search("<int:pk>|<str:token>", str(p.pattern))} | {"webhook_again"}  # too
WITH_ID = [p.name for p in urlpatterns if "<uuid:pk>" in str(p.pattern) and p.name not in STAFF | TEAMS]
WITHOUT = [p.name for p in urlpatterns if "<uuid:pk>" not in str(p.pattern) and p.name not in STAFF | POSTS | TEAMS]


def link_of(person) -> int:
    return ShareLink.objects.create(job=person.job, digest=secrets.token_hex(32)).pk


def address(name: str, person) -> str:
    thing = next((getattr(person, kind) for kind in KINDS if kind in name), person.job)
    if name == "delete_upload":
        thing = resumable.create(owner=person.user, size=5, name="net.pth")
    more = {
        "file": ["report.json"],
        "image": [0],
        "dataset_image": [0],
        "unit_study": ["effect"],
        "model_baseline": [person.dataset.pk],
        "revoke_link": [link_of(person)] if name == "revoke_link" else [],
    }.get(name, [])
    if name == "dataset_thumbnail":
        more = [with_pictures(person.dataset).blob_id[:16], 0, "small"]
    if name == "adversarial":
        with_attacked(person.job, attack_pack())
        more = [person.job.artifacts.get(name=ADVERSARIAL).blob_id[:16], 0, "small"]
    query = "?unit=features.1:1" if name in ("unit", "unit_study") else ""
    return reverse(f"pages:{name}", args=[thing.pk, *more]) + query


def ask(client: Client, name: str, url: str):
    return client.post(url) if name in POSTS else client.get(url)


def shown(answer) -> str:
    """Without the form's secret, which is another one each time."""
    return re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "", answer.content.decode())


def test_every_page_is_covered():
    assert len(WITH_ID) >= 12
    assert {pattern.name for pattern in urlpatterns} >= POSTS


@pytest.mark.parametrize("name", WITH_ID)
def test_what_is_anothers_does_not_exist(world, name):
    succeed(world.team_mate.job)
    with_pictures(world.team_mate.dataset)
    with_predictions(world.team_mate.job)
    if name == "restore":
        removal.delete_job(world.team_mate.job)
    url = address(name, world.team_mate)
    theirs = ask(world.owner.browser, name, url)
    assert theirs.status_code == 404
    nobodys = ask(world.owner.browser, name, url.replace(url.split("/")[2], str(uuid.uuid4())))
    assert nobodys.status_code == 404
    assert shown(theirs) == shown(nobodys), "the answer does not tell whether it exists"
    answered = (200, 302, 409)  # 409: this run kept no outcomes to choose from
    assert ask(world.team_mate.browser, name, url).status_code in answered, "the owner gets an answer"


@pytest.mark.parametrize("name", WITH_ID)
def test_without_an_account_one_signs_in_first(world, name):
    answer = ask(Client(), name, address(name, world.owner))
    assert answer.status_code == 302
    assert answer["Location"].startswith(reverse("accounts:sign_in"))


@pytest.mark.parametrize("name", WITHOUT)
def test_lists_and_forms_need_an_account_and_show_ones_own(world, name):
    url = reverse(f"pages:{name}")
    assert Client().get(url)["Location"].startswith(reverse("accounts:sign_in"))
    named = {"run": world.team_mate.job.pk} if name == "rows" else {}
    shown = world.owner.browser.get(url, named, HTTP_HX_REQUEST="true")
    assert shown.status_code == 200
    for thing in (world.team_mate.model, world.team_mate.dataset, world.team_mate.job):
        assert str(thing.pk) not in shown.content.decode()


@pytest.mark.parametrize("name", sorted(POSTS))
def test_what_changes_something_is_posted_with_the_forms_secret(world, name):
    url = reverse(f"pages:{name}") if name not in WITH_ID else address(name, world.owner)
    assert world.owner.browser.get(url).status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(world.owner.user)
    assert strict.post(url).status_code == 403


@pytest.mark.parametrize("field", ["model", "dataset", "like"])
def test_a_repair_cannot_name_anothers_things(world, field):
    thing = world.team_mate.job if field == "like" else getattr(world.team_mate, field)
    assert world.owner.browser.get(reverse("pages:new_repair"), {field: thing.pk}).status_code == 404


def test_a_repair_cannot_be_guarded_by_anothers_dataset(world):
    data = {"metric": "accuracy", "model": world.owner.model.pk, "dataset": world.owner.dataset.pk}
    answer = world.owner.browser.post(reverse("pages:new_repair"), {**data, "guard": world.team_mate.dataset.pk})
    assert answer.status_code == 422
    assert world.owner.user.jobs.count() == 1
