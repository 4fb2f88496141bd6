"""The client's uploads on a real server: lines that break, servers and clients that are killed, files that change."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.faults.line import Line
from tests.webapp.real_server import ROOT, Server

CLIENT = ROOT / "clients" / "neuron_repair.py"
_SPEC = importlib.util.spec_from_file_location("client", CLIENT)
client = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(client)

SIZE = 30 << 20
PIECE = client.PIECE
HEADERS = 200_000  # bytes: of all requests of one upload, generously
SEND = (  # the client's own, in a process that can be killed
    "import importlib.util, json, pathlib, sys, time\n"
    f"spec = importlib.util.spec_from_file_location('client', {str(CLIENT)!r})\n"
    "client = importlib.util.module_from_spec(spec); spec.loader.exec_module(client)\n"
    "server, token, file = sys.argv[1:]\n"
    "api = client.Api(server, token, time.monotonic() + 300)\n"
    "print(json.dumps(api.upload('datasets/', pathlib.Path(file), {})))\n"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("resumed"))
    yield server
    server.kill()


@pytest.fixture
def line(server):
    with Line(server.port) as line:
        yield line


@pytest.fixture
def file(tmp_path, request) -> Path:
    """Another one for each test: what is there is not sent."""
    path = tmp_path / "images.zip"
    path.write_bytes(os.urandom(SIZE))
    return path


def upload(server: Server, line: Line, file: Path) -> dict:
    return client.Api(line.url, server.key, time.monotonic() + 300).upload("datasets/", file, {})


def left(server: Server) -> list[Path]:
    return list((server.data / "incoming").iterdir())


def arrived(server: Server, made: dict, file: Path) -> None:
    """What the server has is the file, and nothing else of it."""
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert (made["sha256"], made["size"]) == (sha256, file.stat().st_size)
    assert (server.data / "blobs" / sha256[:2] / sha256).read_bytes() == file.read_bytes()
    assert left(server) == []


def test_what_is_there_is_not_sent(server, line, file):
    made = upload(server, line, file)
    arrived(server, made, file)
    assert SIZE <= line.sent <= SIZE + HEADERS
    before = line.sent
    assert upload(server, line, file)["id"] == made["id"]
    assert line.sent - before < HEADERS


def test_a_line_that_breaks_again_and_again(server, line, file):
    """Of what a connection carried before it broke the server loses nothing but what was still under way."""
    cuts = 6
    line.at = [(SIZE * (i + 1) // (cuts + 1), line.cut) for i in range(cuts)]
    arrived(server, upload(server, line, file), file)
    assert line.at == [], "it did break"
    assert line.sent < SIZE + cuts * (PIECE // 2) + HEADERS


def test_a_server_that_is_killed_and_comes_back(server, line, file):
    def kill() -> None:
        server.kill()
        threading.Thread(target=server.start).start()

    line.at = [(SIZE // 2, kill)]
    arrived(server, upload(server, line, file), file)
    assert line.at == []
    assert line.sent <= SIZE + PIECE + HEADERS, "one piece was sent twice at most"


def run(server: Server, line: Line, file: Path) -> subprocess.Popen:
    command = [sys.executable, "-I", "-S", "-c", SEND, line.url, server.key, str(file)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_client_that_is_killed_and_started_again(server, line, file):
    first = run(server, line, file)
    line.at = [(SIZE // 2, lambda: os.kill(first.pid, signal.SIGKILL))]
    first.communicate(timeout=120)
    assert first.returncode == -signal.SIGKILL
    said, heard = run(server, line, file).communicate(timeout=120)
    arrived(server, json.loads(said), file)
    assert "are there already" in heard
    assert "\r" not in heard, "a log is no terminal"
    assert line.sent <= SIZE + PIECE + HEADERS


def test_a_file_that_changes_while_it_is_sent(server, line, file):
    content = file.read_bytes()

    def change() -> None:
        with file.open("r+b") as changed:
            changed.seek(SIZE - 10)
            changed.write(b"0123456789")

    line.at = [(SIZE // 4, change)]
    with pytest.raises(client.Refused) as refused:
        upload(server, line, file)
    assert (refused.value.status, refused.value.code) == (422, client.BAD_INPUT)
    assert hashlib.sha256(content).hexdigest() in str(refused.value)
    assert hashlib.sha256(file.read_bytes()).hexdigest() in str(refused.value)
    assert left(server) == []
    arrived(server, upload(server, line, file), file)


def test_a_piece_for_anothers_upload_is_refused_unread(server):
    """By its headers: 200 MB are announced, none sent."""
    told = {
        "Authorization": f"Bearer {server.key}", "X-HTTP-Method-Override": "PATCH", "Upload-Offset": "0",
        "Tus-Resumable": "1.0.0", "Content-Length": str(200 * 10**6), "Expect": "100-continue",
    }  # fmt: skip
    for pk in ("0" * 8 + "-0000-4000-8000-" + "0" * 12, "-" * 36):
        status, body = server.send(told, path=f"/api/v1/uploads/{pk}/")
        assert status == 404, body


def test_progress_is_shown_to_who_watches(server, line, file, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    upload(server, line, file)
    heard = capsys.readouterr().err
    shown = [part for part in heard.split("\r\x1b[K") if "%" in part]
    assert len(shown) > 10
    assert shown[-1].startswith("images.zip: 100.0 % of")
