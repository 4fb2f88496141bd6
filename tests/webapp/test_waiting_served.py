"""Waiting for a run to change, over the real web server: it costs no thread and no connection to the database, and ends
with the run, the rights, the client or the server."""

from __future__ import annotations

import json
import signal
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException

import psutil
import pytest

from tests.webapp.real_server import Server

SEED = """
import django, json; django.setup()
from django.contrib.sessions.backends.base import UpdateError
from django.test import Client
from tests.webapp.helpers import ready_dataset, ready_model
from tests.webapp.pages.helpers import at_work
from webapp.accounts import services
from webapp.accounts.models import Membership, Role, Team, User
ada = User.objects.get(username="ada")
bob = services.create_user(username="bob", password="correct horse battery")
team = Team.objects.create(name="ours", payer=ada)
for person, role in ((ada, Role.OWNER), (bob, Role.VIEWER)):
    Membership.objects.create(team=team, user=person, role=role)
model, dataset = ready_model(ada, b"seed"), ready_dataset(ada, b"seed")
runs = []
for _ in range(5):
    run = at_work(ada, model, dataset)
    run.team = team
    run.save()
    runs.append(str(run.pk))
client = Client()
client.force_login(ada)
print(json.dumps({"runs": runs, "bob": services.create_token(owner=bob, name="read", scope="read")[1],
                  "bob_id": bob.pk, "session": client.cookies["sessionid"].value}))
"""


class Watched(Server):
    def __init__(self, folder) -> None:
        super().__init__(folder)
        known = json.loads(self.run("-c", SEED).splitlines()[-1])
        self.runs, self.bob, self.bob_id, self.session = (known[k] for k in ("runs", "bob", "bob_id", "session"))

    def write(self, sql: str, *values: object) -> None:
        with closing(sqlite3.connect(self.data / "db.sqlite3", timeout=60)) as base, base:
            base.execute(sql, values)

    def work(self, run: str) -> None:
        """As a worker does once a second."""
        self.write("UPDATE jobs_shard SET done = done + 1 WHERE job_id = ? AND state = 'leased'", run.replace("-", ""))

    def get(self, path: str, tag: str = "", wait: int = 0, key: str = "", **more: str) -> tuple[int, dict, bytes]:
        headers = {"Host": "localhost", "Authorization": f"Bearer {key or self.key}", **more}
        headers |= {"If-None-Match": tag} if tag else {}
        headers |= {"Prefer": f"wait={wait}"} if wait else {}
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()

    def seen(self, path: str, **more: str) -> str:
        status, head, _ = self.get(path, **more)
        assert status == 200
        return head["etag"]

    @property
    def worker(self) -> psutil.Process:
        return max(self.family(), key=lambda process: process.num_threads())


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Watched(tmp_path_factory.mktemp("waiting"))
    yield server
    server.kill()


@contextmanager
def waiting(server: Watched, n: int, path: str, tag: str, wait: int = 30, **more: str):
    """So many who wait; gives the list of (status, headers, body, when it came)."""
    answers: list = []

    def one() -> None:
        answers.append((*server.get(path, tag, wait, **more), time.monotonic()))

    people = [threading.Thread(target=one) for _ in range(n)]
    for person in people:
        person.start()
    time.sleep(2)
    yield answers
    for person in people:
        person.join(60)
    assert len(answers) == n


def test_an_answer_comes_when_the_time_is_over(server):
    path = f"/api/v1/repairs/{server.runs[0]}/"
    status, head, _ = server.get(path, wait=2)
    assert (status, head["preference-applied"]) == (200, "wait=2")  # nothing was seen yet
    began = time.monotonic()
    status, again, body = server.get(path, head["etag"], wait=2)
    assert (status, again["etag"], body) == (304, head["etag"], b"")
    assert 2 <= time.monotonic() - began < 10
    began = time.monotonic()
    assert server.get(path, head["etag"])[0] == 304
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(("path", "shows"), [("/api/v1/repairs/{}/", 200), ("/api/v1/repairs/{}/events/", 200)])
def test_many_wait_for_nothing_and_hear_of_a_change(server, path, shows):
    run = server.runs[0]
    path = path.format(run)
    tag = server.seen(path)
    with waiting(server, 60, path, tag) as answers:
        assert not answers
        assert server.worker.num_threads() < 40
        used = server.worker.cpu_times()
        time.sleep(3)
        assert server.worker.cpu_times().user - used.user < 1.5
        files = [file.path for file in server.worker.open_files() if file.path.endswith("db.sqlite3")]
        assert len(files) <= 8 + 2 + 1  # threads that work, threads that ask who sends, and the one that looks
        assert server.well()
        changed = time.monotonic()
        server.work(run)
    assert {status for status, *_ in answers} == {shows}
    assert all(head["etag"] != tag for _, head, *_ in answers)
    assert min(at for *_, at in answers) > changed


def test_a_page_waits_too(server):
    run = server.runs[0]
    who = {"Cookie": f"sessionid={server.session}", "HX-Request": "true", "Authorization": ""}
    for path in (f"/repairs/{run}/progress/", f"/repairs/rows/?run={run}&run={server.runs[1]}"):
        tag = server.seen(path, **who)
        status, _, body = server.get(path, tag, wait=1, **who)
        assert (status, body) == (204, b"")
        with waiting(server, 1, path, tag, **who) as answers:
            server.work(run)
        status, head, body, _ = answers[0]
        assert status == 200
        assert b"51" in body or b"progress" in body
        assert head["etag"] != tag


def test_a_run_that_is_deleted_ends_the_wait(server):
    path = f"/api/v1/repairs/{server.runs[2]}/"
    with waiting(server, 3, path, server.seen(path)) as answers:
        server.write("UPDATE jobs_job SET deleted_at = '2030-01-01' WHERE id = ?", server.runs[2].replace("-", ""))
    assert {status for status, *_ in answers} == {404}


def test_rights_that_are_withdrawn_are_looked_at_again(server):
    run = server.runs[3]
    path = f"/api/v1/repairs/{run}/"
    tag = server.seen(path, key=server.bob)
    with waiting(server, 1, path, tag, key=server.bob) as answers:
        server.write("DELETE FROM accounts_membership WHERE user_id = ?", server.bob_id)
        server.work(run)
    assert answers[0][0] == 404
    with waiting(server, 1, f"/api/v1/repairs/{server.runs[4]}/", server.seen(f"/api/v1/repairs/{server.runs[4]}/"),
                 wait=4) as answers:  # fmt: skip
        server.write("UPDATE accounts_apitoken SET revoked_at = '2026-01-01' WHERE name = 'run'")
    assert answers[0][0] == 401
    server.write("UPDATE accounts_apitoken SET revoked_at = NULL WHERE name = 'run'")


def test_who_hangs_up_leaves_nothing(server):
    path = f"/api/v1/repairs/{server.runs[0]}/"
    tag = server.seen(path)

    def open_connections() -> int:
        return sum(1 for one in server.worker.net_connections("tcp") if one.status != psutil.CONN_LISTEN)

    before = open_connections()
    connections = [HTTPConnection("127.0.0.1", server.port, timeout=60) for _ in range(20)]
    for one in connections:
        one.request("GET", path, headers={"Host": "localhost", "Authorization": f"Bearer {server.key}",
                                          "If-None-Match": tag, "Prefer": "wait=60"})  # fmt: skip
    time.sleep(2)
    assert open_connections() >= before + 20
    for one in connections:
        one.close()
    end = time.monotonic() + 20
    while open_connections() > before:
        assert time.monotonic() < end, "connections of clients that are gone are kept"
        time.sleep(0.2)
    assert server.well()


def test_a_server_that_stops_answers_those_who_wait(server):
    path = f"/api/v1/repairs/{server.runs[0]}/"
    tag = server.seen(path)
    with ThreadPoolExecutor(5) as people:
        asked = [people.submit(server.get, path, tag, 50) for _ in range(5)]
        time.sleep(2)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert [one.result(60)[0] for one in asked] == [304] * 5
        assert time.monotonic() - began < 10
    server.process.wait(60)
    server.start()
    assert server.get(path, tag, 1)[0] == 304  # the tag is the run's, not the process'


def test_a_server_that_dies_is_asked_again(server):
    path = f"/api/v1/repairs/{server.runs[0]}/"
    tag = server.seen(path)
    with ThreadPoolExecutor(1) as people:
        asked = people.submit(server.get, path, tag, 50)
        time.sleep(2)
        server.kill()
        with pytest.raises((OSError, HTTPException)):
            asked.result(60)
    server.start()
    assert server.get(path, tag, 1)[0] == 304
