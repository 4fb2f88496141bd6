"""The web server behind the proxy that compose.yaml brings: a real Caddy with the shipped file."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.webapp.real_server import Server, is_well

CADDY = shutil.which("caddy")
FILE = Path(__file__).resolve().parents[2] / "deploy" / "compose" / "Caddyfile"
ELSEWHERE = "203.0.113.9"
pytestmark = pytest.mark.skipif(CADDY is None, reason="caddy is not installed: the proxy's file is NOT CHECKED")


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    declared = {"NR_BEHIND_PROXY": "1", "NR_PROXY_NETWORKS": "127.0.0.1", "NR_METRICS_NETWORKS": ELSEWHERE}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in declared.items():
            patch.setenv(name, value)
        server = Server(tmp_path_factory.mktemp("behind"))
    yield server
    server.kill()


@pytest.fixture(scope="module")
def proxy(server, tmp_path_factory) -> Iterator[int]:
    """Its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = tmp_path_factory.mktemp("caddy")
    told = {"NR_SITE": f"http://localhost:{port}", "NR_UPSTREAM": f"127.0.0.1:{server.port}", "HOME": str(home)}
    process = subprocess.Popen(
        [CADDY, "run", "--config", FILE, "--adapter", "caddyfile"],
        env={**os.environ, **told},
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 60
    while not is_well("localhost", port, 5):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.1)
    yield port
    process.terminate()
    process.wait(30)


def ask(port: int, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
    with closing(HTTPConnection("localhost", port, timeout=60)) as connection:
        connection.request(method, path, body, {"Host": "localhost", **headers})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def test_a_client_is_not_believed_where_it_says_it_comes_from(server, proxy):
    named = {"X-Forwarded-For": ELSEWHERE}
    assert ask(server.port, "GET", "/metrics", **named)[0] == 200, "the proxy itself is believed"
    assert ask(proxy, "GET", "/metrics", **named)[0] == 403
    assert ask(proxy, "GET", "/metrics")[0] == 403


def test_pages_and_uploads_pass(server, proxy):
    status, _, page = ask(proxy, "GET", "/account/sign-in/")
    assert (status, b"password" in page) == (200, True)
    key = {"Authorization": f"Bearer {server.key}", "Tus-Resumable": "1.0.0"}
    content = os.urandom(3 << 20)
    status, head, _ = ask(
        proxy,
        "POST",
        "/api/v1/uploads/",
        **key,
        **{"Upload-Length": str(len(content)), "Upload-Metadata": "filename bg=="},
    )
    assert status == 201
    piece = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    where = "/api/" + head["location"].partition("/api/")[2]
    status, head, _ = ask(proxy, "PATCH", where, content, **key, **piece)
    assert (status, head["upload-offset"]) == (204, str(len(content)))
