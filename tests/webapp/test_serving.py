"""The real web server on loopback: slow people stop nothing, and what nobody may send never reaches the disk."""

from __future__ import annotations

import socket
import time

import psutil
import pytest

from tests.faults.slow_clients import attack
from tests.webapp.real_server import Server
from webapp.serving.bridge import SILENCE


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("serving"))
    yield server
    family = server.family()
    server.process.terminate()
    _, alive = psutil.wait_procs(family, timeout=60)
    for process in alive:
        process.kill()
    assert not alive


FORM = {"Content-Type": "multipart/form-data; boundary=b"}
BIG = (
    b'--b\r\nContent-Disposition: form-data; name="architecture"\r\n\r\nresnet18\r\n'
    b'--b\r\nContent-Disposition: form-data; name="num_classes"\r\n\r\n2\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="net.pth"\r\n\r\n'
    + b"x" * 3 * 2**20
    + b"\r\n--b--\r\n"
)


@pytest.mark.parametrize("signed_in", [False, True])
def test_slow_people_do_not_stop_the_site(server, signed_in):
    """More of them than any pool of threads has: half-sent headers and trickling uploads of 200 MB."""
    key = server.key if signed_in else ""
    with attack("127.0.0.1", server.port, headers=60, uploads=40, key=key, pause=0.1):
        assert [server.well() for _ in range(10)] == [True] * 10
        assert max(process.num_threads() for process in server.family()) < 40
    assert server.well()


def test_headers_have_their_time(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as half:
        half.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        assert half.recv(100) == b""


def bearer(key: str) -> dict[str, str]:
    return {**FORM, "Authorization": f"Bearer {key}"}


def test_a_large_body_of_whoever_may_send_it_arrives(server):
    status, body = server.send(bearer(server.key), BIG)
    assert (status, body["size"]) == (201, 3 * 2**20)


@pytest.mark.parametrize("who", ["nobody", "unknown", "read"])
def test_a_large_body_of_others_is_refused_unread(server, who):
    """Told by the headers alone: 200 GB are announced, none sent."""
    key = {"nobody": "", "unknown": "nr_unknown", "read": server.read_key}[who]
    said = bearer(key) if key else FORM
    status, body = server.send({**said, "Content-Length": str(200 * 10**9), "Expect": "100-continue"})
    assert status == 401, body
    assert "account" in body["detail"]
    assert server.send(said, BIG)[0] == 401
    assert list((server.data / "incoming").iterdir()) == []


def test_more_than_may_be_is_refused_unread(server):
    headers = {**bearer(server.key), "Content-Length": str(200 * 10**9), "Expect": "100-continue"}
    assert server.send(headers)[0] == 413
    assert server.send(headers, path="/api/v1/repairs/")[0] == 413


def test_one_account_has_a_few_uploads_at_once(server):
    """Those that the tests before left may be given up only after SILENCE: then fewer than three get in at first."""
    end = time.monotonic() + 2 * SILENCE + 120

    def refused() -> bool:
        assert time.monotonic() < end
        time.sleep(0.1)
        return server.send(bearer(server.key), BIG)[0] == 429

    full = False
    while not full:
        with attack("127.0.0.1", server.port, headers=0, uploads=3, key=server.key):
            full = any(refused() for _ in range(20)) and refused()
    while refused():
        pass


def test_a_killed_server_leaves_nothing_behind(tmp_path):
    server = Server(tmp_path)
    assert len(server.family()) > 1
    server.kill()
