"""Downloads: whole, in ranges, conditional, verified."""

from __future__ import annotations

import base64
import hashlib

import pytest

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def url(world) -> str:
    world.bells.answer()
    return f"/api/v1/repairs/{world.owner.job.pk}/results/repaired.safetensors"


def body(answer) -> bytes:
    return b"".join(answer.streaming_content) if answer.streaming else answer.content


def test_whole(world, url):
    answer = world.owner.api.get(url)
    assert (answer.status_code, body(answer)) == (200, CONTENT)
    digest = hashlib.sha256(CONTENT).digest()
    assert answer["ETag"] == f'"{digest.hex()}"'
    assert answer["X-Checksum-Sha256"] == digest.hex()
    assert answer["Repr-Digest"] == f"sha-256=:{base64.b64encode(digest).decode()}:"
    assert answer["Content-Length"] == str(len(CONTENT))
    assert answer["Content-Disposition"] == 'attachment; filename="repaired.safetensors"'
    assert answer["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("0-0", 0, 0), ("5-9", 5, 9), ("10000-", 10000, 10239), ("-3", 10237, 10239), ("5-99999", 5, 10239)],
)
def test_ranges(world, url, asked, first, last):
    answer = world.owner.api.get(url, HTTP_RANGE=f"bytes={asked}")
    assert answer.status_code == 206
    assert body(answer) == CONTENT[first : last + 1]
    assert answer["Content-Range"] == f"bytes {first}-{last}/{len(CONTENT)}"
    assert answer["Content-Length"] == str(last - first + 1)


@pytest.mark.parametrize("asked", ["bytes=10240-", "bytes=9-5", "bytes=-0"])
def test_ranges_that_cannot_be(world, url, asked):
    answer = world.owner.api.get(url, HTTP_RANGE=asked)
    assert answer.status_code == 416
    assert answer["Content-Range"] == f"bytes */{len(CONTENT)}"


@pytest.mark.parametrize("asked", ["bytes=-", "lines=1-2", "bytes=1-2,4-5", "bytes=a-b"])
def test_ranges_that_are_not_understood_give_the_whole(world, url, asked):
    assert body(world.owner.api.get(url, HTTP_RANGE=asked)) == CONTENT


def test_resuming_a_file_that_has_changed_gives_the_whole(world, url):
    answer = world.owner.api.get(url, HTTP_RANGE="bytes=5-", HTTP_IF_RANGE='"another"')
    assert (answer.status_code, len(body(answer))) == (200, len(CONTENT))


def test_not_sent_again_to_who_has_it(world, url):
    etag = world.owner.api.get(url)["ETag"]
    answer = world.owner.api.get(url, HTTP_IF_NONE_MATCH=etag)
    assert (answer.status_code, body(answer)) == (304, b"")


def test_head(world, url):
    answer = world.owner.api.head(url)
    assert answer.status_code == 200
    assert answer["Content-Length"] == str(len(CONTENT))


def test_the_report_may_be_shown_but_cannot_run_anything(world, url):
    answer = world.owner.api.get(url.replace("repaired.safetensors", "report.html"), {"inline": "1"})
    assert answer["Content-Type"].startswith("text/html")
    assert answer["Content-Disposition"].startswith("inline")
    assert answer["Content-Security-Policy"].startswith("sandbox; default-src 'none'")


def test_names_that_are_not_there(world, url):
    for name in ("secret", "..", "%2e%2e%2fdb.sqlite3"):
        assert world.owner.api.get(url.replace("repaired.safetensors", name)).status_code == 404
