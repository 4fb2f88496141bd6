"""Who may not upload leaves nothing on the disk, and no end of a request leaves anything; the quota counts it all."""

from __future__ import annotations

import errno
import io
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.utils import timezone

from tests.webapp.helpers import blob_of
from webapp.jobs.models import Artifact, Job
from webapp.library import quota, uploads
from webapp.library.models import DatasetUpload, ModelUpload, Reservation

MODELS, DATASETS = "/api/v1/models/", "/api/v1/datasets/"
BOUNDARY = "multipart/form-data; boundary=b"
MIB = 1 << 20


def body(content: bytes, *, field: str = "file", end: bytes = b"\r\n--b--\r\n") -> bytes:
    head = f'--b\r\nContent-Disposition: form-data; name="{field}"; filename="a.pth"\r\n\r\n'.encode()
    return head + content + end


MALFORMED = (  # the file is no base64, which shows at its end only
    body(b"A" * 300_001).replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: base64\r\n\r\n", 1)
)


class BreaksOff(io.BytesIO):
    """The connection goes after the first part of the body."""

    def read(self, *args):
        if self.tell() >= 200_000:
            raise OSError("connection reset")
        return super().read(65536)


@pytest.fixture
def seen(monkeypatch) -> list:
    """The paths of all files that were opened under `incoming/`."""
    opened: list = []
    plain = uploads.incoming.new_file
    monkeypatch.setattr(uploads.incoming, "new_file", lambda prefix: opened.append(plain(prefix)) or opened[-1])
    return opened


@pytest.mark.parametrize("content", [MALFORMED, body(b"x" * 300_000)])
@pytest.mark.parametrize(
    "path", ["/account/sign-in/", "/account/sign-up/", "/datasets/new/", DATASETS, MODELS, "/api/v1/repairs/", "/none/"]
)
def test_a_stranger_writes_nothing(world, seen, path, content):
    answer = Client().post(path, content, content_type=BOUNDARY)
    assert answer.status_code < 500
    assert seen == []
    assert not Reservation.objects.exists()


def test_an_address_that_takes_no_files_writes_none(world, seen):
    for path in ("/account/tokens/", f"/repairs/{world.owner.job.pk}/cancel/", "/repairs/new/"):
        assert world.owner.browser.post(path, body(b"x" * 100_000), content_type=BOUNDARY).status_code < 500
    assert world.owner.api.post("/api/v1/repairs/", body(b"x"), content_type=BOUNDARY).status_code == 415
    assert seen == []


ENDS = {
    "malformed": MALFORMED,
    "cut short": body(b"x" * 300_000, end=b""),
    "a field is missing": body(b"x"),
    "empty": body(b""),
}


@pytest.mark.parametrize("way", ["api", "browser"])
@pytest.mark.parametrize("name", ENDS)
def test_an_upload_that_is_refused_leaves_nothing(world, settings, monkeypatch, name, way):
    monkeypatch.setattr("webapp.library.architectures._torchvision", lambda: ["resnet18"])  # a child takes seconds
    path = {"api": MODELS, "browser": "/models/new/"}[way]
    answer = getattr(world.owner, way).post(path, ENDS[name], content_type=BOUNDARY)
    assert answer.status_code in ((400,) if way == "api" else (200, 400, 422))
    assert ModelUpload.objects.filter(owner=world.owner.user).count() == 1
    kept = 1 if (name, way) == ("a field is missing", "browser") else 0  # the form gives it back: test_kept_files
    assert len(list(settings.INCOMING_DIR.glob("*"))) == Reservation.objects.count() == kept


def test_a_client_that_goes_away_leaves_nothing(world, settings):
    content = body(b"x" * 600_000)
    client = Client(raise_request_exception=False)
    client.force_login(world.owner.user)
    client.post("/datasets/new/", **{"wsgi.input": BreaksOff(content), "CONTENT_LENGTH": len(content),
                                     "CONTENT_TYPE": BOUNDARY})  # fmt: skip
    assert list(settings.INCOMING_DIR.glob("*")) == []
    assert not Reservation.objects.exists()


@pytest.mark.parametrize("where", ["write", "keep", "service"])
def test_a_full_disk_or_an_error_leaves_nothing(world, settings, monkeypatch, where):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    at = {
        "write": "webapp.library.uploads.StreamToDisk.receive_data_chunk",
        "keep": "webapp.library.store._sync",
        "service": "webapp.library.services.ring",
    }
    monkeypatch.setattr(at[where], full)
    answer = world.owner.api.post(DATASETS, body(b"x" * 300_000), content_type=BOUNDARY)
    assert answer.status_code == 507
    page = world.owner.browser
    page.raise_request_exception = False
    answer = page.post("/datasets/new/", body(b"x" * 300_000), content_type=BOUNDARY)
    assert answer.status_code == 507
    assert b"disk is full" in answer.content
    assert list(settings.INCOMING_DIR.glob("*")) == []
    assert not Reservation.objects.exists()


def test_a_start_on_a_full_disk_is_507(world, monkeypatch):
    if connection.vendor != "sqlite":
        pytest.skip("fills an SQLite database")
    request = {
        "model": str(world.owner.model.pk),
        "dataset": str(world.owner.dataset.pk),
        "metric": "accuracy",
        "name": "n" * 200,
    }
    codes = []
    with connection.cursor() as cursor:
        cursor.execute("VACUUM")  # no free pages that earlier tests left
        pages = cursor.execute("PRAGMA page_count").fetchone()[0]
        cursor.execute(f"PRAGMA max_page_count={pages}")
        try:
            while len(codes) < 200 and set(codes) <= {202}:
                codes.append(world.owner.api.post("/api/v1/repairs/", request, format="json").status_code)
        finally:
            cursor.execute("PRAGMA max_page_count=1073741823")
    assert codes[-1] == 507


def test_uploads_at_once_share_the_quota(world, settings):
    """Six of 2 MiB where there is room for three: what is arriving counts."""
    used = quota.usage(world.owner.user).total
    settings.USER_QUOTA_BYTES = used + 3 * (2 * MIB + 400) + 1000
    start, answers = threading.Barrier(6), []

    def upload(i: int) -> None:
        try:
            content = bytes([i]) * (2 * MIB)
            start.wait()
            answers.append(world.owner.api.post(DATASETS, body(content), content_type=BOUNDARY).status_code)
        finally:
            connection.close()

    most = []
    plain = uploads.StreamToDisk.file_complete

    def size_of(path: Path) -> int:
        try:
            return path.stat().st_size
        except FileNotFoundError:  # another request ended since the folder was read
            return 0

    def complete(self, size):
        most.append(sum(map(size_of, settings.INCOMING_DIR.glob("up-*"))))
        return plain(self, size)

    threads = [threading.Thread(target=upload, args=(i,)) for i in range(6)]
    uploads.StreamToDisk.file_complete = complete
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        uploads.StreamToDisk.file_complete = plain
    assert set(answers) <= {201, 413}
    assert 1 <= answers.count(201) <= 3
    assert max(most) <= 3 * 2 * MIB
    assert quota.usage(world.owner.user).total <= settings.USER_QUOTA_BYTES
    assert not Reservation.objects.exists()


def test_room_is_held_until_the_holder_is_silent(world, settings):
    user = world.owner.user
    settings.USER_QUOTA_BYTES = quota.usage(user).total + 100
    first = quota.reserve(user, 80)
    assert first is not None
    assert quota.reserve(user, 30) is None
    assert quota.reserve(world.team_mate.user, 30) is not None
    Reservation.objects.filter(pk=first.pk).update(touched_at=timezone.now() - timedelta(hours=1))
    assert quota.reserve(user, 30) is not None
    quota.release_stale()
    assert not Reservation.objects.filter(pk=first.pk).exists()


def test_the_same_file_again_needs_no_room(world, settings):
    content = b"x" * 50_000
    settings.USER_QUOTA_BYTES = quota.usage(world.owner.user).total + 50_500
    send = lambda: world.owner.api.post(DATASETS, body(content), content_type=BOUNDARY)  # noqa: E731
    assert [send().status_code, send().status_code] == [201, 200]
    assert DatasetUpload.objects.filter(owner=world.owner.user).count() == 2


def test_results_and_runs_count(world, settings):
    user, job = world.owner.user, world.owner.job
    before = quota.usage(user)
    assert before.expected == world.owner.model.blob.size
    Artifact.objects.create(job=job, name="report.json", media_type="application/json", blob=blob_of(b"r" * 5000))
    assert quota.usage(user).results == before.results + 5000
    settings.USER_QUOTA_BYTES = quota.usage(user).total + 300
    answer = world.owner.api.post(DATASETS, body(b"x" * 1000), content_type=BOUNDARY)
    assert (answer.status_code, "results 5,000" in answer.json()["detail"]) == (413, True)
    settings.USER_QUOTA_BYTES = quota.usage(user).total
    request = {"model": str(world.owner.model.pk), "dataset": str(world.owner.dataset.pk), "metric": "accuracy"}
    answer = world.owner.api.post("/api/v1/repairs/", request, format="json")
    assert answer.status_code == 413
    assert Job.objects.filter(owner=user).count() == 1


def test_the_page_says_how_much_is_kept(world):
    page = world.owner.browser.get("/datasets/new/").content.decode()
    assert "You keep" in page
    assert "results" in page


def test_a_class_list_beside_the_model_arrives(world):
    data = {"architecture": "resnet18", "num_classes": "2", "file": SimpleUploadedFile("n.pth", b"net"),
            "classes_file": SimpleUploadedFile("c.txt", b"cat\ndog\n")}  # fmt: skip
    assert world.owner.api.post(MODELS, data, format="multipart").status_code == 201
    assert "cat" in ModelUpload.objects.get(file_name="n.pth").classes_text
