"""Uploads by tus 1.0: what the protocol asks for, whose they are, what they may weigh, and what is left of them."""

from __future__ import annotations

import base64
import errno
import fcntl
import hashlib
import io
import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from webapp.accounts import services as accounts
from webapp.jobs import cleanup, reaper
from webapp.library import quota, resumable
from webapp.library.models import DatasetUpload, ModelUpload, Reservation, ResumableUpload

UPLOADS, MODELS, DATASETS = "/api/v1/uploads/", "/api/v1/models/", "/api/v1/datasets/"
TUS = {"Tus-Resumable": "1.0.0"}
WHAT = {"architecture": "resnet18", "num_classes": 2}


def metadata(**said: str) -> str:
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in said.items())


def announce(one, size: int, **said: str):
    told = metadata(**{"filename": "net.pth", **said})
    return one.api.post(UPLOADS, headers={**TUS, "Upload-Length": str(size), "Upload-Metadata": told})


def begin(one, size: int, **said: str) -> str:
    answer = announce(one, size, **said)
    assert answer.status_code == 201, answer.json()
    return answer["Location"]


def send(one, url: str, offset: int, body: bytes, **headers: str):
    told = {**TUS, "Upload-Offset": str(offset), **headers}
    return one.api.generic("PATCH", url, body, content_type="application/offset+octet-stream", headers=told)


def offset_of(one, url: str) -> int:
    answer = one.api.head(url, headers=TUS)
    assert answer.status_code == 200
    assert "no-store" in answer["Cache-Control"]
    return int(answer["Upload-Offset"])


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def parts(settings) -> list:
    return list(settings.INCOMING_DIR.glob("*"))


class BreaksOff(io.BytesIO):
    """The connection goes after so many bytes."""

    def __init__(self, content: bytes, after: int) -> None:
        super().__init__(content)
        self.after = after

    def read(self, size: int = -1) -> bytes:
        if self.tell() >= self.after:
            raise OSError("connection reset")
        return super().read(self.after - self.tell())


def test_in_pieces_and_then_a_model(world, settings):
    content = bytes(range(256)) * 20
    url = begin(world.owner, len(content), sha256=sha256(content), kind="model")
    assert quota.usage(world.owner.user).arriving == len(content), "what is announced counts from the beginning"
    for start in range(0, len(content), 1000):
        assert offset_of(world.owner, url) == start
        answer = send(world.owner, url, start, content[start : start + 1000])
        assert (answer.status_code, answer["Tus-Resumable"]) == (204, "1.0.0")
        assert answer["Upload-Offset"] == str(min(start + 1000, len(content)))
        assert answer["Upload-Expires"].endswith("GMT")
    made = world.owner.api.post(MODELS, {"upload": url.split("/")[-2], **WHAT}, format="json")
    assert (made.status_code, made.json()["sha256"], made.json()["file_name"]) == (201, sha256(content), "net.pth")
    assert ModelUpload.objects.get(pk=made.json()["id"]).blob.path.read_bytes() == content
    assert parts(settings) == []
    assert not Reservation.objects.exists()
    assert world.owner.api.head(url, headers=TUS).status_code == 404
    again = world.owner.api.post(MODELS, {"upload": url.split("/")[-2], **WHAT}, format="json")
    assert again.status_code == 404, "used once"
    by_hash = world.owner.api.post(MODELS, {"sha256": sha256(content), **WHAT}, format="json")
    assert (by_hash.status_code, by_hash.json()["id"]) == (200, made.json()["id"])


def test_what_the_server_can(world):
    answer = world.owner.api.options(UPLOADS)
    assert answer.status_code == 204
    assert answer["Tus-Version"] == "1.0.0"
    assert set(answer["Tus-Extension"].split(",")) == {"creation", "checksum", "expiration", "termination"}
    assert "sha1" in answer["Tus-Checksum-Algorithm"].split(",")
    assert int(answer["Tus-Max-Size"]) == 4 * 2**30


def test_another_version_is_refused(world):
    url = begin(world.owner, 10)
    for method, to in (("post", UPLOADS), ("head", url), ("patch", url), ("delete", url)):
        for told in ({}, {"Tus-Resumable": "0.2.2"}):
            answer = getattr(world.owner.api, method)(to, headers=told)
            assert (answer.status_code, answer["Tus-Version"]) == (412, "1.0.0")


def test_what_was_announced_is_told_again(world):
    url = begin(world.owner, 10, sha256="0" * 64)
    answer = world.owner.api.head(url, headers=TUS)
    assert answer["Upload-Metadata"] == metadata(filename="net.pth", sha256="0" * 64)
    assert answer["Upload-Length"] == "10"
    (listed,) = world.owner.api.get(UPLOADS, {"sha256": "0" * 64}).json()["results"]
    assert (listed["file_name"], listed["size"], listed["offset"]) == ("net.pth", 10, 0)
    assert world.owner.api.get(UPLOADS, {"sha256": "1" * 64}).json()["count"] == 0


@pytest.mark.parametrize(
    ("length", "said", "about"),
    [
        ("", metadata(filename="a"), "Upload-Length"),
        ("-1", metadata(filename="a"), "Upload-Length"),
        ("1e3", metadata(filename="a"), "Upload-Length"),
        ("0", metadata(filename="a"), "is empty"),
        ("5", "", "filename"),
        ("5", "filename", "filename"),
        ("5", "filename not-base-64", "base 64"),
        ("5", metadata(filename="a") + "," + metadata(filename="b"), "once"),
        ("5", metadata(filename="a\0b"), "line of text"),
        ("5", metadata(filename="a", sha256="12"), "64 hexadecimal"),
        ("5", metadata(filename="a", kind="song"), "model or dataset"),
        ("5", metadata(filename="a" * 4000), "4096"),
    ],
)
def test_an_announcement_that_cannot_be_understood(world, settings, length, said, about):
    answer = world.owner.api.post(UPLOADS, headers={**TUS, "Upload-Length": length, "Upload-Metadata": said})
    assert answer.status_code == 400
    assert about in answer.json()["detail"]
    assert not ResumableUpload.objects.exists()


def test_a_path_is_no_name(world):
    url = begin(world.owner, 5, filename="C:\\tmp\\../net.pth")
    assert world.owner.api.get(url).json()["file_name"] == "net.pth"


def test_too_large_is_refused_before_a_byte_comes(world, settings):
    settings.MAX_MODEL_BYTES, settings.MAX_DATASET_BYTES = 10, 20
    assert announce(world.owner, 11, kind="model").status_code == 413
    assert announce(world.owner, 21).status_code == 413
    assert "ask the operator" in announce(world.owner, 21).json()["mend"]
    url = begin(world.owner, 20)
    send(world.owner, url, 0, b"x" * 20)
    answer = world.owner.api.post(MODELS, {"upload": url.split("/")[-2], **WHAT}, format="json")
    assert answer.status_code == 413, "as a model it is too large, whatever it was announced as"
    assert world.owner.api.post(DATASETS, {"upload": url.split("/")[-2]}, format="json").status_code == 201


def test_the_quota_counts_what_is_announced(world, settings):
    settings.USER_QUOTA_BYTES = quota.usage(world.owner.user).total + 100
    url = begin(world.owner, 80)
    refused = announce(world.owner, 30)
    assert refused.status_code == 413
    assert "arriving 80" in refused.json()["detail"]
    assert "Delete" in refused.json()["mend"]
    assert world.owner.api.delete(url, headers=TUS).status_code == 204
    assert announce(world.owner, 30).status_code == 201


def test_many_at_once_get_no_more_room_than_there_is(world, settings):
    settings.USER_QUOTA_BYTES = quota.usage(world.owner.user).total + 350
    codes, start = [], threading.Barrier(8)

    def one() -> None:
        try:
            start.wait()
            codes.append(announce(world.owner, 100).status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [201] * 3 + [413] * 5


def test_too_many_that_are_not_used(world, monkeypatch):
    monkeypatch.setattr(resumable, "MOST", 2)
    assert [announce(world.owner, 1).status_code for _ in range(3)] == [201, 201, 429]


def test_a_disk_that_is_too_full_for_it(world, monkeypatch):
    monkeypatch.setattr(resumable.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 4})())
    assert announce(world.owner, 5).status_code == 507


def test_a_disk_that_fills_up_keeps_what_is_there(world, settings, monkeypatch):
    content = b"0123456789" * 1000
    url = begin(world.owner, len(content))
    send(world.owner, url, 0, content[:4000])
    plain = resumable.os.fsync

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(resumable.os, "fsync", full)
    answer = send(world.owner, url, 4000, content[4000:])
    assert answer.status_code == 507
    assert offset_of(world.owner, url) == 4000
    assert parts(settings)[0].stat().st_size == 4000, "the room is free for others"
    monkeypatch.setattr(resumable.os, "fsync", plain)
    assert send(world.owner, url, 4000, content[4000:]).status_code == 204
    assert world.owner.api.get(url).json()["sha256"] == sha256(content)


def test_another_offset_is_a_conflict(world):
    url = begin(world.owner, 10)
    send(world.owner, url, 0, b"01234")
    for offset in (0, 4, 6, 10):
        answer = send(world.owner, url, offset, b"x")
        assert answer.status_code == 409
        assert "5 bytes" in answer.json()["detail"]
    assert offset_of(world.owner, url) == 5


def test_two_that_write_at_once(world, settings):
    url = begin(world.owner, 10)
    (path,) = parts(settings)
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for answer in (send(world.owner, url, 0, b"x" * 10), world.owner.api.delete(url, headers=TUS)):
            assert answer.status_code == 423
        assert offset_of(world.owner, url) == 0
    assert send(world.owner, url, 0, b"x" * 10).status_code == 204


def test_many_that_write_the_same_piece_at_once(world, settings):
    """One of them counts. What is stored is one body, and no mixture."""
    size = 3 << 20
    url = begin(world.owner, size)
    codes, start = [], threading.Barrier(4)

    def one(i: int) -> None:
        try:
            start.wait()
            codes.append(send(world.owner, url, 0, bytes([i]) * size).status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=one, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes.count(204) == 1
    assert set(codes) <= {204, 409, 423}
    (path,) = parts(settings)
    assert len(set(path.read_bytes())) == 1


def test_more_than_was_announced(world):
    url = begin(world.owner, 10)
    assert send(world.owner, url, 0, b"x" * 11).status_code == 413
    assert offset_of(world.owner, url) == 0


def test_a_body_of_another_kind(world):
    url = begin(world.owner, 10)
    answer = world.owner.api.generic(
        "PATCH", url, b"x", content_type="text/plain", headers={**TUS, "Upload-Offset": "0"}
    )
    assert answer.status_code == 415


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_a_piece_with_a_checksum(world, algorithm):
    url = begin(world.owner, 10)
    right = base64.b64encode(hashlib.new(algorithm, b"01234").digest()).decode()
    wrong = send(world.owner, url, 0, b"01235", **{"Upload-Checksum": f"{algorithm} {right}"})
    assert (wrong.status_code, wrong.json()["title"]) == (460, "Checksum Mismatch")
    assert offset_of(world.owner, url) == 0
    assert send(world.owner, url, 0, b"01234", **{"Upload-Checksum": f"{algorithm} {right}"}).status_code == 204
    assert send(world.owner, url, 5, b"56789", **{"Upload-Checksum": "crc32 AAAA"}).status_code == 400
    assert send(world.owner, url, 5, b"56789", **{"Upload-Checksum": f"{algorithm} §"}).status_code == 400


def test_another_file_than_was_announced_is_refused_and_gone(world, settings):
    url = begin(world.owner, 10, sha256=sha256(b"0123456789"))
    send(world.owner, url, 0, b"01234")
    answer = send(world.owner, url, 5, b"56780")
    assert answer.status_code == 422
    assert sha256(b"0123456789") in answer.json()["detail"]
    assert sha256(b"0123456780") in answer.json()["detail"]
    assert parts(settings) == []
    assert quota.usage(world.owner.user).arriving == 0
    assert world.owner.api.head(url, headers=TUS).status_code == 404


@pytest.mark.parametrize("summed", [False, True])
def test_a_body_that_breaks_off_counts_as_far_as_it_came(world, summed):
    """Under a checksum it counts whole or not at all."""
    content = b"x" * 300_000
    url = begin(world.owner, len(content))
    told = {**TUS, "Upload-Offset": "0"}
    if summed:
        told["Upload-Checksum"] = "sha1 " + base64.b64encode(hashlib.sha1(content).digest()).decode()
    world.owner.api.generic(
        "PATCH", url, b"", content_type="application/offset+octet-stream", headers=told,
        **{"wsgi.input": BreaksOff(content, 200_000), "CONTENT_LENGTH": len(content)},
    )  # fmt: skip
    assert offset_of(world.owner, url) == (0 if summed else 200_000)


def test_what_a_crash_wrote_and_did_not_count_is_overwritten(world, settings):
    url = begin(world.owner, 10)
    send(world.owner, url, 0, b"0123")
    (path,) = parts(settings)
    path.write_bytes(b"0123garbage that was never counted")
    assert send(world.owner, url, 4, b"456789").status_code == 204
    assert path.read_bytes() == b"0123456789"


@pytest.mark.parametrize("how", ["shorter", "missing"])
def test_what_the_disk_has_lost_is_begun_anew(world, settings, how):
    url = begin(world.owner, 10)
    send(world.owner, url, 0, b"0123")
    (path,) = parts(settings)
    path.write_bytes(b"01") if how == "shorter" else path.unlink()
    assert send(world.owner, url, 4, b"456789").status_code == 404
    assert quota.usage(world.owner.user).arriving == 0


def test_what_is_not_all_here_is_nothing_yet(world):
    url = begin(world.owner, 10)
    send(world.owner, url, 0, b"0123")
    answer = world.owner.api.post(DATASETS, {"upload": url.split("/")[-2]}, format="json")
    assert answer.status_code == 409
    assert "4 of 10 bytes" in answer.json()["detail"]


def test_a_refused_form_costs_no_upload(world):
    url = begin(world.owner, 4)
    send(world.owner, url, 0, b"0123")
    body = {"upload": url.split("/")[-2], **WHAT}
    assert world.owner.api.post(MODELS, {**body, "num_classes": -1}, format="json").status_code == 400
    assert world.owner.api.post(MODELS, body, format="json").status_code == 201


def test_two_that_use_it_at_once(world):
    url = begin(world.owner, 1 << 20)
    send(world.owner, url, 0, b"x" * (1 << 20))
    codes, start = [], threading.Barrier(4)

    def one(i: int) -> None:
        try:
            start.wait()
            body = {"upload": url.split("/")[-2], **WHAT, "num_classes": i + 2}
            codes.append(world.owner.api.post(MODELS, body, format="json").status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=one, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [201, 404, 404, 404]


def test_neither_or_both_names_of_a_file(world):
    for body in ({}, {"upload": "0" * 8 + "-0000-4000-8000-" + "0" * 12, "sha256": "0" * 64}):
        answer = world.owner.api.post(DATASETS, body, format="json")
        assert answer.status_code == 400
        assert "upload or sha256" in answer.json()["detail"]


def test_what_is_anothers_is_not_there(world):
    url = begin(world.owner, 4)
    send(world.owner, url, 0, b"0123")
    mate = world.team_mate
    assert mate.api.head(url, headers=TUS).status_code == 404
    assert mate.api.get(url).status_code == 404
    assert send(mate, url, 4, b"x").status_code == 404
    assert mate.api.delete(url, headers=TUS).status_code == 404
    assert mate.api.post(DATASETS, {"upload": url.split("/")[-2]}, format="json").status_code == 404
    assert mate.api.get(UPLOADS).json()["count"] == 0
    assert offset_of(world.owner, url) == 4


def test_who_may_only_read_begins_none(world, settings):
    _, key = accounts.create_token(owner=world.owner.user, name="read", scope="read")
    world.owner.key = key
    assert announce(world.owner, 5).status_code == 403
    assert world.stranger.post(UPLOADS, headers={**TUS, "Upload-Length": "5"}).status_code == 401
    assert not settings.INCOMING_DIR.exists() or parts(settings) == []


def test_a_page_needs_its_secret(world):
    """From a browser's session, as all of the API."""
    from django.test import Client

    page = Client(enforce_csrf_checks=True)
    page.force_login(world.owner.user)
    told = {**TUS, "Upload-Length": "5", "Upload-Metadata": metadata(filename="a")}
    assert page.post(UPLOADS, headers=told).status_code == 403
    url = begin(world.owner, 5)
    told = {**TUS, "Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
    body = {"content_type": "application/offset+octet-stream", "headers": told}
    assert page.post(url, b"x", **body).status_code == 403
    assert offset_of(world.owner, url) == 0


def test_where_a_proxy_lets_no_patch_through(world):
    url = begin(world.owner, 5)
    told = {**TUS, "Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
    answer = world.owner.api.generic(
        "POST", url, b"01234", content_type="application/offset+octet-stream", headers=told
    )
    assert answer.status_code == 204
    assert offset_of(world.owner, url) == 5


def test_it_goes_when_its_time_is_over(world, settings):
    url = begin(world.owner, 10)
    send(world.owner, url, 0, b"0123")
    kept = begin(world.owner, 10)
    upload = ResumableUpload.objects.get(pk=url.split("/")[-2])
    old = timezone.now() - timedelta(seconds=1)
    ResumableUpload.objects.filter(pk=upload.pk).update(expires_at=old)
    Reservation.objects.filter(pk=upload.reservation_id).update(touched_at=old - quota.STALE)
    assert world.owner.api.head(url, headers=TUS).status_code == 404, "from that moment on"
    past = old.timestamp() - resumable.KEPT.total_seconds()
    resumable.os.utime(upload.path, (past, past))
    reaper.reap(force=True)
    assert [path.name for path in parts(settings)] == [f"tus-{kept.split('/')[-2]}"]
    assert not ResumableUpload.objects.filter(pk=upload.pk).exists()
    assert offset_of(world.owner, kept) == 0


def test_every_byte_puts_the_end_off(world):
    url = begin(world.owner, 10)
    pk = url.split("/")[-2]
    soon = timezone.now() + timedelta(minutes=1)
    ResumableUpload.objects.filter(pk=pk).update(expires_at=soon)
    send(world.owner, url, 0, b"0123")
    row = ResumableUpload.objects.select_related("reservation").get(pk=pk)
    assert row.expires_at > soon
    assert row.reservation.touched_at + quota.STALE == row.expires_at, "its room is held for as long"


def test_crash_leftovers_are_the_kinds_own(world, settings):
    """A part that is written to for days is no leftover of a crash."""
    begin(world.owner, 10)
    (path,) = parts(settings)
    resumable.os.utime(path, (1, 1))
    for kind in cleanup.KINDS.values():
        assert path not in [one for thing in kind.things() for one in thing.paths], kind.name


def test_a_dataset_of_it_counts_once(world):
    content = b"x" * 5000
    before = quota.usage(world.owner.user).total
    url = begin(world.owner, len(content))
    send(world.owner, url, 0, content)
    world.owner.api.post(DATASETS, {"upload": url.split("/")[-2], "name": "Mine"}, format="json")
    assert quota.usage(world.owner.user).total == before + len(content)
    assert DatasetUpload.objects.get(name="Mine").file_name == "net.pth"
