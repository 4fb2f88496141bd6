"""Bodies in, answers out: the bridge alone, driven by messages."""

from __future__ import annotations

import asyncio
import errno
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from webapp.serving import bridge
from webapp.serving.bridge import Bridge
from webapp.serving.gate import Pass


def scope(method="POST", path="/x", headers=()) -> dict:
    return {
        "type": "http", "method": method, "path": path, "query_string": b"a=1", "http_version": "1.1",
        "scheme": "http", "client": ("192.0.2.1", 1), "server": ("localhost", 80), "headers": list(headers),
    }  # fmt: skip


def call(wsgi, scope: dict, messages: list[dict], *, then_silent: bool = False, send=None) -> list[dict]:
    """What the application sends when it receives these."""
    sent: list[dict] = []
    waiting = list(messages)

    async def receive() -> dict:
        if waiting:
            return waiting.pop(0)
        if then_silent:
            await asyncio.sleep(3600)
        return {"type": "http.disconnect"}

    async def keep(message: dict) -> None:
        sent.append(message)

    async def answer() -> None:
        await Bridge(wsgi, threads=2)(scope, receive, send or keep)

    # In a thread of its own: the browser tests leave a running loop in the thread of the tests that come after them.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, answer()).result()
    return sent


def part(body: bytes, more: bool = False) -> dict:
    return {"type": "http.request", "body": body, "more_body": more}


class Pieces(list):
    streaming = True
    closed = False

    def close(self) -> None:
        self.closed = True


def echo(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Length", environ["CONTENT_LENGTH"])])
    return Pieces([body])


def environ_of(headers: list) -> dict:
    seen = {}

    def wsgi(environ, start_response):
        seen.update(environ)
        start_response("204 No Content", [])
        return Pieces()

    call(wsgi, scope(headers=headers), [part(b"")])
    return seen


@pytest.mark.parametrize("size", [0, 10, 70_000, 1_500_000])
def test_a_body_in_parts_comes_out_whole(settings, size):
    body = bytes(i % 251 for i in range(size))
    parts = [body[i : i + 9_999] for i in range(0, size, 9_999)] or [b""]
    messages = [part(piece, i + 1 < len(parts)) for i, piece in enumerate(parts)]
    start, *rest = call(echo, scope(headers=[(b"content-length", str(size).encode())]), messages)
    assert start["status"] == 200
    assert (b"x-length", str(size).encode()) in start["headers"]
    assert b"".join(message["body"] for message in rest) == body
    assert list(settings.INCOMING_DIR.iterdir()) == []


def test_a_header_with_underscores_is_dropped():
    """A proxy drops X-Forwarded-Proto of its clients, but not X_Forwarded_Proto, which WSGI cannot tell from it."""
    seen = environ_of([(b"x_forwarded_proto", b"https"), (b"x-other", b"1")])
    assert "HTTP_X_FORWARDED_PROTO" not in seen
    assert (seen["HTTP_X_OTHER"], seen["REMOTE_ADDR"], seen["QUERY_STRING"]) == ("1", "192.0.2.1", "a=1")


def refusal(sent: list[dict]) -> tuple[int, str]:
    return sent[0]["status"], json.loads(sent[1]["body"])["detail"]


def never(environ, start_response):
    raise AssertionError("it must not get this far")


def test_silence_in_a_body_is_ended(monkeypatch):
    monkeypatch.setattr(bridge, "SILENCE", 0.05)
    assert refusal(call(never, scope(headers=[(b"content-length", b"9")]), [part(b"1", True)], then_silent=True)) == (
        408, "The rest of the body did not come.",
    )  # fmt: skip


def test_a_trickle_is_ended(monkeypatch):
    monkeypatch.setattr(bridge, "GRACE", -1.0)
    sent = call(never, scope(headers=[(b"content-length", b"9")]), [part(b"1", True)] * 9)
    assert refusal(sent) == (408, "The body came too slowly.")


def test_a_chunked_body_is_counted(monkeypatch):
    piece = b"x" * 500_000
    sent = call(never, scope(headers=[(b"transfer-encoding", b"chunked")]), [part(piece, True)] * 9 + [part(b"")])
    assert refusal(sent)[0] == 413


def test_who_hangs_up_is_not_answered():
    assert call(never, scope(headers=[(b"content-length", b"9")]), [part(b"1", True)]) == []


KEPT = Pass(1 << 30, broken_off=True)


@pytest.mark.parametrize("size", [10, 70_000, 1_500_000])
@pytest.mark.parametrize("silent", [False, True])
def test_what_came_of_a_piece_is_not_lost(monkeypatch, size, silent):
    """Of a resumable upload, whose sender hangs up or falls silent."""
    monkeypatch.setattr(bridge, "SILENCE", 0.2)
    monkeypatch.setattr(bridge, "admit", lambda *asked: KEPT)
    taken = []

    def wsgi(environ, start_response):
        taken.append((environ["wsgi.input"].read(), environ["CONTENT_LENGTH"]))
        start_response("204 No Content", [])
        return Pieces()

    body = bytes(i % 251 for i in range(size))
    asked = scope("PATCH", "/api/v1/uploads/x/", [(b"content-length", b"9000000")])
    sent = call(wsgi, asked, [part(body, more=True)], then_silent=silent)
    assert taken == [(body, str(size))]
    assert refusal(sent)[0] == 408 if silent else sent == []


def test_of_a_piece_that_is_too_large_nothing_is_taken(monkeypatch):
    monkeypatch.setattr(bridge, "admit", lambda *asked: Pass(5, broken_off=True))
    asked = scope("PATCH", "/api/v1/uploads/x/", [(b"transfer-encoding", b"chunked")])
    assert refusal(call(never, asked, [part(b"x" * 6, more=True), part(b"")]))[0] == 413


def test_a_full_disk_is_told(monkeypatch):
    async def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(Bridge, "_write", full)
    sent = call(never, scope(headers=[(b"content-length", b"600000")]), [part(b"x" * 300_000, True), part(b"")])
    assert refusal(sent)[0] == 507


@pytest.mark.parametrize("stops", [TimeoutError, ConnectionResetError])
def test_an_answer_that_nobody_takes_is_left_and_its_file_closed(stops):
    pieces = Pieces([b"1", b"2"])

    def wsgi(environ, start_response):
        start_response("200 OK", [])
        return pieces

    async def send(message: dict) -> None:
        if message["type"] == "http.response.body":
            raise stops

    call(wsgi, scope("GET"), [part(b"")], send=send)
    assert pieces.closed
