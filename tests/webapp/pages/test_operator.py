"""The operator's page: staff see who works on what, what waits, who keeps what, and try failed runs again."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from tests.webapp.pages.helpers import read, succeed
from webapp.accounts import services
from webapp.jobs import fair, leases
from webapp.jobs.models import Allowance, Job, Shard, Worker
from webapp.library.models import DatasetUpload
from webapp.pages import operation

URL = "/operator/"


@pytest.fixture
def staff(world):
    world.owner.user.is_staff = True
    world.owner.user.save()
    return world.owner.browser


def test_only_staff_see_it_and_try_again(world):
    retry = reverse("pages:operator_retry", args=[world.team_mate.job.pk])
    Job.objects.filter(pk=world.team_mate.job.pk).update(state="failed", fault="server")
    assert Client().get(URL)["Location"].startswith(reverse("accounts:sign_in"))
    assert Client().post(retry)["Location"].startswith(reverse("accounts:sign_in"))
    assert world.owner.browser.get(URL).status_code == 404
    assert world.owner.browser.post(retry).status_code == 404
    assert world.team_mate.browser.post(retry).status_code == 404, "the owner has a page of their own for it"
    assert Job.objects.get(pk=world.team_mate.job.pk).state == "failed"


def test_says_who_works_on_what_since_when(world, staff):
    leases.worker_seen(name="cpu1@here", incarnation="1", queues=["cpu", "light"], device="here")
    leases.worker_seen(name="gpu1@there", incarnation="1", queues=["gpu"], device="there")
    Worker.objects.filter(name="gpu1@there").update(seen_at="2020-01-01T00:00Z")
    shard = world.team_mate.job.shards.get()
    lease = leases.claim(shard.pk, "cpu1@here/1/99.100")
    leases.renew(lease, note="reading the model, 40%")
    page = read(staff.get(URL))
    assert "cpu1@here" in page.text
    assert "gpu1@there" not in page.text, "silent for more than a day"
    assert "of mate" in page.text
    assert "reading the model, 40%" in page.text
    found = operation.queues(operation.stations())
    assert [(one.name, one.waiting, one.runs, one.workers) for one in found] == [
        ("cpu", 1, 1, 1),  # the owner's run waits
        ("gpu", 0, 0, 0),
        ("light", 0, 0, 1),
    ]


def test_a_worker_that_fell_silent_is_told_from_one_that_lives(world, staff):
    leases.worker_seen(name="cpu1@here", incarnation="1", queues=["cpu"], device="here")
    assert "alive" in read(staff.get(URL)).text
    Worker.objects.update(seen_at=Worker.objects.get().seen_at - 2 * leases.SILENT)
    text = read(staff.get(URL)).text
    assert "silent" in text
    assert operation.queues(operation.stations())[0].workers == 0


def test_each_person_has_a_row_and_the_page_asks_no_more_for_many(world, staff, django_assert_num_queries, settings):
    settings.USER_RUNNING, settings.USER_QUEUED = 2, 50
    Allowance.objects.create(user=world.team_mate.user, weight=2.5, queued=7)
    Job.objects.filter(pk=world.team_mate.job.pk).update(admitted_at=timezone.now())
    with CaptureQueriesContext(connection) as few:
        staff.get(URL)
    for i in range(3):
        person = services.create_user(username=f"person{i}", password="correct horse battery")
        for priority in (Job.Priority.LOW, *[Job.Priority.NORMAL] * operation.SHOWN, Job.Priority.HIGH):
            job = start_one(world, person, priority)
    found = {one.user.username: one for one in operation.shares()}
    assert next(iter(found)) == "mate", "who runs most comes first"
    mate = found["mate"]
    assert (mate.running, mate.waiting, mate.weight, mate.limits) == (1, 0, 2.5, fair.Limits(2, 7, 0))
    own = found["person2"]
    assert (own.running, own.waiting, own.limits) == (0, operation.SHOWN + 2, fair.Limits(2, 50, 0))
    assert [one.priority for one in own.runs] == [1, *[0] * (operation.SHOWN - 1)]
    assert own.runs[0] == job, "of the highest priority"
    with django_assert_num_queries(len(few)):
        staff.get(URL)


def start_one(world, person, priority) -> Job:
    given = world.owner.job
    return Job.objects.create(
        owner=person, made_by=person, model=given.model, dataset=given.dataset, device="cpu", priority=priority,
        request=given.request,
    )  # fmt: skip


def test_uploads_that_are_checked_wait_in_the_light_queue(world, staff):
    DatasetUpload.objects.update(state="validating")
    light = operation.queues([])[-1]
    assert (light.waiting, light.workers) == (2, 0)
    assert light.since is not None
    read(staff.get(URL))


def test_accounts_stand_in_the_order_of_what_they_keep(world, staff):
    succeed(world.team_mate.job)
    rows = operation.accounts()
    assert [row.user.username for row in rows] == ["mate", "owner"]
    mate = rows[0]
    assert mate.uploads == world.team_mate.model.blob.size + world.team_mate.dataset.blob.size
    assert mate.results == sum(one.blob.size for one in world.team_mate.job.artifacts.select_related("blob"))
    assert [(row.runs, row.active) for row in rows] == [(1, 0), (1, 1)]
    assert "mate" in read(staff.get(URL)).text


def test_a_failed_run_is_shown_with_its_traceback_and_goes_on(world, staff):
    world.bells.answer(most=3)
    job = world.team_mate.job
    Shard.objects.filter(job=job, state="pending").update(state="failed", error="Traceback\nRuntimeError: <b>fire</b>")
    Job.objects.filter(pk=job.pk).update(
        state="failed", fault="server", error="The worker failed.", detail="Traceback\nRuntimeError: <b>fire</b>"
    )
    page = read(staff.get(URL))
    assert "RuntimeError: <b>fire</b>" in page.text
    assert reverse("pages:operator_retry", args=[job.pk]) in {a.get("action") for a in page.all("form")}
    told = read(staff.post(reverse("pages:operator_retry", args=[job.pk]), follow=True))
    assert "goes on from what was done" in told.text
    world.bells.answer()
    assert Job.objects.get(pk=job.pk).state == "succeeded"
    again = read(staff.post(reverse("pages:operator_retry", args=[job.pk]), follow=True))
    assert "has not failed" in again.text


def test_failures_of_the_input_are_their_owners_business(world, staff):
    Job.objects.filter(pk=world.team_mate.job.pk).update(state="failed", fault="input", error="No class of that name.")
    assert operation.failed() == []
    assert "No class of that name" not in read(staff.get(URL)).text


def test_what_is_working_is_looked_at_again_by_itself(world, staff):
    now = next(a for a in read(staff.get(URL)).all("div") if a.get("id") == "now")
    assert (now["hx-get"], now["hx-select"]) == (URL, "#now")
