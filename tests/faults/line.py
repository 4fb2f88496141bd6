"""A line to a server that counts, is slow, and breaks: a TCP proxy on loopback."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress

PIECE = 1 << 16
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close that tells nobody politely


class Line:
    """Attributes:
    sent: bytes that came from the client, in all connections together.
    at: bytes at which something happens, once: what is called breaks the line, or kills somebody.
    rate: bytes per second and connection; 0: as fast as it goes.
    """

    def __init__(self, port: int, *, rate: float = 0) -> None:
        self.to, self.rate, self.sent = port, rate, 0
        self.at: list[tuple[int, Callable[[], object]]] = []
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}/"

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._door.close()
        self.cut()

    def cut(self) -> None:
        """All connections, on both sides, in the middle of whatever they carry."""
        with self._lock:
            ends, self._open = self._open, []
        _reset(*ends)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._door.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.to), timeout=60)
            except OSError:  # it is away
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                self._open += [client, server]
            for ends in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, upward: bool) -> None:
        try:
            while data := source.recv(PIECE):
                target.sendall(data)
                if upward:
                    self._count(len(data))
                    if self.rate:
                        time.sleep(len(data) / self.rate)
            target.shutdown(socket.SHUT_WR)
        except OSError:  # one end is gone: so is the other
            _reset(source, target)

    def _count(self, more: int) -> None:
        with self._lock:
            self.sent += more
            due = [what for size, what in self.at if size <= self.sent]
            self.at = [(size, what) for size, what in self.at if size > self.sent]
        for what in due:
            what()


def _reset(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.shutdown(socket.SHUT_RDWR)
        end.close()
