"""What may wait for a run to change: what a version covers, and what the server and the views say to each other."""

from __future__ import annotations

import asyncio
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.utils import timezone

from tests.webapp.pages.helpers import at_work
from tests.webapp.test_bridge import Pieces, part, scope
from webapp import prepared, waiting
from webapp.jobs import access, live, services
from webapp.jobs.models import Event, Job, PhaseState, Shard, Worker
from webapp.serving import watch
from webapp.serving.bridge import Bridge
from webapp.waiting import KEY


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("wait=25", 25), ("respond-async, wait=10", 10), ('wait="7"; foo', 7), ("WAIT = 3", 3), ("wait=9999", 60),
     ("", 0), ("wait", 0), ("await=5", 0), ("wait=5s", 0), ("wait=-1", 0), ("foo; wait=2", 2)],
)  # fmt: skip
def test_prefer(said, seconds):
    assert waiting.seconds_of(said) == seconds


@pytest.fixture
def run(world) -> Job:
    return at_work(world.owner.user, world.owner.model, world.owner.dataset)


CHANGES = {
    "an evaluation": lambda run: Shard.objects.filter(job=run, state="leased").update(done=60),
    "a note": lambda run: Shard.objects.filter(job=run, state="leased").update(note="writing"),
    "a claim": lambda run: Shard.objects.filter(job=run, state="leased").update(state="pending"),
    "a failure": lambda run: Shard.objects.filter(job=run, state="leased").update(failures=1),
    "a round": lambda run: PhaseState.objects.create(job=run, phase="search", round=21, sha256="0" * 64, snapshot={}),
    "an event": lambda run: Event.objects.create(job=run, kind="retry"),
    "a name": lambda run: services.edit_job(job=run, name="other"),
    "a tag": lambda run: services.edit_job(job=run, add=["good"]),
    "its end": lambda run: services.cancel_job(job=run),
    "a worker": lambda run: Worker.objects.create(
        name="w", incarnation="1", queues=["cpu"], device="cpu", seen_at=timezone.now()
    ),
    "a run that goes on from it": lambda run: Job.objects.create(
        owner=run.owner, model=run.model, dataset=run.dataset, device="cpu", parent=run
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_shown_has_another_version(world, run, change):
    before = live.versions([run.pk])
    assert live.versions([run.pk]) == before
    CHANGES[change](run)
    assert live.versions([run.pk]) != before


def test_time_that_passes_is_no_change(world, run, monkeypatch):
    before = live.versions([run.pk])[run.pk]
    later = timezone.now() + timedelta(seconds=20)
    monkeypatch.setattr("webapp.clock.now", lambda: later)
    row = live.read([run.pk])[0]
    assert live.progress(row).elapsed_seconds > 19
    assert live.version(row) == before


def test_a_run_that_is_deleted_has_none(world, run):
    Job.objects.filter(pk=run.pk).update(deleted_at=timezone.now())
    assert live.versions([run.pk, uuid.uuid4()]) == {}


def test_another_server_answers_at_once(world, run, client):
    """The WSGI client of these tests cannot wait: the tag is told all the same."""
    api, url = world.owner.api, f"/api/v1/repairs/{run.pk}/"
    first = api.get(url, HTTP_PREFER="wait=25")
    assert first.status_code == 200
    assert "Preference-Applied" not in first.headers
    same = api.get(url, HTTP_IF_NONE_MATCH=first["ETag"], HTTP_PREFER="wait=25")
    assert (same.status_code, same.content, same["ETag"]) == (304, b"", first["ETag"])
    Shard.objects.filter(job=run, state="leased").update(done=77)
    assert api.get(url, HTTP_IF_NONE_MATCH=first["ETag"], HTTP_PREFER="wait=25").status_code == 200
    assert world.team_mate.api.get(url, HTTP_IF_NONE_MATCH=first["ETag"]).status_code == 404


def test_the_page_says_what_it_has_seen(world, run):
    page = world.owner.browser.get(f"/repairs/{run.pk}/").content.decode()
    tag = waiting.tag_of(live.versions([run.pk]))
    assert tag.replace('"', "\\&quot;") in page
    assert 'hx-trigger="every 2s"' in page  # nobody holds a request here
    table = world.owner.browser.get("/repairs/").content.decode()
    shown = Job.objects.filter(state__in=Job.ACTIVE, owner=world.owner.user)
    assert waiting.tag_of(live.versions([one.pk for one in shown])).replace('"', "\\&quot;") in table


def test_what_a_view_says_to_a_server_that_waits(world, run):
    api, url, wait = world.owner.api, f"/api/v1/repairs/{run.pk}/events/", waiting.Wait(25)
    tag = api.get(url, **{KEY: wait})["ETag"]
    assert wait.seen == {}
    same = api.get(url, HTTP_IF_NONE_MATCH=tag, **{KEY: wait})
    assert (same.status_code, same["Preference-Applied"]) == (304, "wait=25")
    assert wait.seen == live.versions([run.pk])


# --- the server's side, without a database -------------------------------------------------------------------

RUN = uuid.uuid4()


def served(monkeypatch, *, versions: list, seconds: int = 30, hangs_up: bool = False, stops: bool = False):
    """A bridge whose view has seen version "1"; what it was asked, and what was sent."""
    monkeypatch.setattr(watch, "EVERY", 0.02)
    asked, sent, now = [], [], ["1"]

    def wsgi(environ, start_response):
        wait = environ[KEY]
        asked.append(wait.again)
        same = now[0] == "1"
        wait.seen = {RUN: "1"} if same else {}
        start_response("304 Not Modified" if same else "200 OK", [])
        return Pieces()

    def look(runs):
        assert set(runs) == {RUN}
        found = versions.pop(0) if len(versions) > 1 else versions[0]
        if isinstance(found, Exception):
            raise found
        now[0] = found
        return {RUN: found} if found else {}

    bridge = Bridge(wsgi, threads=2)
    bridge.watch._ask = look
    messages = [part(b"")]

    async def receive() -> dict:
        if messages:
            return messages.pop(0)
        await asyncio.sleep(0.2 if hangs_up else 3600)
        return {"type": "http.disconnect"}

    async def send(message: dict) -> None:
        sent.append(message)

    async def main() -> None:
        asking = scope("GET", headers=[(b"prefer", f"wait={seconds}".encode())])
        if stops:
            asyncio.get_running_loop().call_later(0.2, bridge.watch.stop)
        await bridge(asking, receive, send)
        await asyncio.sleep(0.1)

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, main()).result(30)
    assert not bridge.watch._held
    assert bridge.watch._looking is None
    return asked, sent


def test_it_is_asked_again_when_a_version_changes(monkeypatch, db):
    asked, sent = served(monkeypatch, versions=["1", "1", "2"])
    assert (asked, sent[0]["status"]) == ([False, True], 200)


def test_it_is_asked_again_when_the_run_is_gone(monkeypatch, db):
    assert served(monkeypatch, versions=["1", ""])[0] == [False, True]


def test_it_is_asked_again_when_the_time_is_over(monkeypatch, db):
    asked, sent = served(monkeypatch, versions=["1"], seconds=1)
    assert (asked, sent[0]["status"]) == ([False, True], 304)


def test_a_database_that_is_away_ends_no_wait(monkeypatch, db):
    from django.db import OperationalError

    asked, _ = served(monkeypatch, versions=[OperationalError("away"), OperationalError("away"), "2"])
    assert asked == [False, True]


def test_who_hangs_up_is_not_asked_for_again(monkeypatch, db):
    assert served(monkeypatch, versions=["1"], hangs_up=True) == ([False], [])


def test_a_server_that_stops_lets_go(monkeypatch, db):
    asked, sent = served(monkeypatch, versions=["1"], stops=True)
    assert (asked, sent[0]["status"]) == ([False, True], 304)


def test_a_process_that_is_full_answers_at_once(monkeypatch, db):
    monkeypatch.setattr(watch, "MOST", 0)
    seen = []

    def wsgi(environ, start_response):
        seen.append(KEY in environ)
        start_response("304 Not Modified", [])
        return Pieces()

    async def main() -> None:
        async def receive() -> dict:
            return part(b"")

        async def send(message: dict) -> None:
            pass

        await Bridge(wsgi, threads=2)(scope("GET", headers=[(b"prefer", b"wait=30")]), receive, send)

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, main()).result(30)
    assert seen == [False]


# --- queries that are written once ---------------------------------------------------------------------------


def test_a_prepared_query_gives_what_the_query_set_gives(world, django_assert_num_queries):
    runs = [at_work(world.owner.user, world.owner.model, world.owner.dataset) for _ in range(5)]
    pks = [run.pk for run in runs]
    for asked in (pks[:1], pks[:3], pks):
        with django_assert_num_queries(1):
            found = live.read(asked)
        plain = list(live.watched().filter(pk__in=asked).defer(*live.HEAVY))
        assert [(row.pk, live.version(row), row.get_deferred_fields()) for row in found] == [
            (row.pk, live.version(row), row.get_deferred_fields()) for row in plain
        ]
    assert access.watched_jobs_of(world.team_mate.user, pks) == []
    assert len(access.watched_jobs_of(world.owner.user, pks)) == 5


def test_many_runs_are_asked_for_in_parts():
    pks = [uuid.uuid4() for _ in range(130)]
    parts = list(live.in_parts(pks))
    assert [len(part) for part in parts] == [64, 64, 2]
    assert [pk for part in parts for pk in part] == pks
    assert list(live.in_parts(pks[:3])) == [[*pks[:3], pks[2]]]
    assert list(live.in_parts([])) == []


def test_a_value_that_the_query_does_not_hold_is_a_mistake(world):
    with pytest.raises(AssertionError, match="no parameter"):
        prepared.Prepared(lambda pk: Job.objects.all(), prepared.WHOLE)(1)
