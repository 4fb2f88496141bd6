"""Slow people against a web server: half-sent headers, and uploads that trickle, while `/livez` must answer.

  python -m tests.faults.slow_clients --url http://localhost:8000 --headers 500 --uploads 50 [--seconds 30 --token nr_…]

Prints how often /livez was asked, how often it answered, and the longest answer. `attack` is the test's part, too.
"""

from __future__ import annotations

import argparse
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from urllib.parse import urlsplit

PIECE = 16 * 1024


@contextmanager
def attack(host: str, port: int, *, headers: int, uploads: int, key: str = "", pause: float = 0.5) -> Iterator[None]:
    """While it lasts, so many connections have sent half their headers, and so many trickle a body of 200 MB."""
    held = [_half(host, port) for _ in range(headers)] + [_upload(host, port, key) for _ in range(uploads)]
    over = threading.Event()
    trickling = threading.Thread(target=_trickle, args=(held[headers:], over, pause), daemon=True)
    trickling.start()
    try:
        yield
    finally:
        over.set()
        trickling.join()
        for connection in held:
            connection.close()


def _half(host: str, port: int) -> socket.socket:
    connection = socket.create_connection((host, port), timeout=60)
    connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
    return connection


def _upload(host: str, port: int, key: str) -> socket.socket:
    connection = socket.create_connection((host, port), timeout=60)
    said = f"Authorization: Bearer {key}\r\n" if key else ""
    begin = b'--b\r\nContent-Disposition: form-data; name="file"; filename="net.pth"\r\n\r\n'
    connection.sendall(
        f"POST /api/v1/models/ HTTP/1.1\r\nHost: localhost\r\n{said}Content-Length: {200 * 10**6}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n".encode()
        + begin
    )
    return connection


def _trickle(connections: list[socket.socket], over: threading.Event, pause: float) -> None:
    while not over.wait(pause):
        for connection in connections:
            with suppress(OSError):
                connection.sendall(b"x" * PIECE)


def is_well(host: str, port: int, timeout: float = 60) -> bool:
    connection = HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", "/livez", headers={"Host": "localhost"})
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://localhost:8000")
    parser.add_argument("--headers", type=int, default=200)
    parser.add_argument("--uploads", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--token", default="", help="upload as this account; without one the server refuses")
    options = parser.parse_args()
    place = urlsplit(options.url)
    host, port = place.hostname or "localhost", place.port or 80
    took, well = [], 0
    with attack(host, port, headers=options.headers, uploads=options.uploads, key=options.token):
        end = time.monotonic() + options.seconds
        while time.monotonic() < end:
            begun = time.monotonic()
            well += is_well(host, port)
            took.append(time.monotonic() - begun)
            time.sleep(0.1)
    print(f"half-sent headers {options.headers}, slow uploads {options.uploads}: /livez asked {len(took)} times, "
          f"answered {well}, longest {max(took):.3f} s")  # fmt: skip


if __name__ == "__main__":
    main()
