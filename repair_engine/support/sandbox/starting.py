"""The parent's side of `forkserver`: one server for each process that calls, begun at need, ended when idle."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from typing import Any

CODE = struct.Struct("i")  # how a child ended, as subprocess.Popen.returncode says it
FORK, IMPORT = b"+", b"i"  # what is asked of the server
IDLE = 120.0  # seconds; a server that has torchvision holds a third of a GB


class _Server:
    """A running forkserver, its socket, and how many calls it is at."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self.control, theirs = socket.socketpair()
        self.calls = 0
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-s", "-B", "-m", "repair_engine.support.sandbox", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=self.environment,
                cwd="/",
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )

    def end(self) -> None:
        """Also while it imports; the kernel ends its children with it."""
        self.control.close()
        self.process.terminate()
        self.process.wait()


class Servers:
    """The server of this process.

    A process that was forked from this one begins one of its own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._timer: threading.Timer | None = None

    def begin(self, asked: Mapping[str, Any], environment: Mapping[str, str], descriptors: Sequence[int]) -> Call:
        """Have a child forked.

        Args:
            asked: what `child.run` takes.
            environment: all that server and child have.
            descriptors: its standard input, output and error, then those of `asked["writes"]`, in this order.
        """
        mine, theirs = socket.socketpair()
        with theirs, self._lock:
            server = self._send(FORK, asked, environment, [theirs.fileno(), *descriptors])
            server.calls += 1
        return Call(mine, server, self)

    def warm(self, asked: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        """Have imported what a call will need, beside whatever this process does meanwhile."""
        with self._lock:
            self._send(IMPORT, asked, environment, [])
            self._wind()

    def _send(
        self, what: bytes, asked: Mapping[str, Any], environment: Mapping[str, str], descriptors: Sequence[int]
    ) -> _Server:
        with tempfile.TemporaryFile() as file:
            file.write(json.dumps(dict(asked)).encode())
            file.seek(0)
            server = self._ready(environment)
            try:
                socket.send_fds(server.control, [what], [file.fileno(), *descriptors])
            except OSError:  # it was ended from outside
                server.end()
                self._server = None
                server = self._ready(environment)
                socket.send_fds(server.control, [what], [file.fileno(), *descriptors])
            return server

    def _ready(self, environment: Mapping[str, str]) -> _Server:
        if self._server is not None and (
            self._server.process.poll() is not None or self._server.environment != environment
        ):
            stale, self._server = self._server, None
            if stale.calls == 0 or stale.process.returncode is not None:
                stale.end()
            # one that is at a call ends with the last of its calls
        if self._server is None:
            self._server = _Server(environment)
        return self._server

    def done(self, server: _Server) -> None:
        """One call of it is at its end."""
        with self._lock:
            server.calls -= 1
            if server.calls == 0 and server is not self._server:
                server.end()
            self._wind()

    def _wind(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(IDLE, self.rest)
        self._timer.daemon = True
        self._timer.start()

    def rest(self) -> None:
        """End the server, where it has nothing to do."""
        with self._lock:
            if self._server is not None and self._server.calls == 0:
                self._server.end()
                self._server = None

    def _forget(self) -> None:
        """In a fork: the server is the other process's."""
        server, self._server, self._timer, self._lock = self._server, None, None, threading.Lock()
        if server is not None:
            server.control.close()
            server.process.returncode = 0  # nothing to wait for


class Call:
    """One child: how it ended, and its end."""

    def __init__(self, line: socket.socket, server: _Server, servers: Servers) -> None:
        self._line, self._server, self._servers = line, server, servers
        self.code: int | None = None

    def wait(self, seconds: float) -> int:
        """Its exit code, or minus the signal that ended it. Raises TimeoutError."""
        self._line.settimeout(max(seconds, 0.001))
        return self._hear()

    def end(self) -> None:
        """Kills it and all of its group, if it is there still, and returns when it is gone."""
        try:
            if self.code is None:
                self._line.settimeout(None)
                with contextlib.suppress(OSError):
                    self._line.shutdown(socket.SHUT_WR)
                self._hear()
        finally:
            self._line.close()
            self._servers.done(self._server)

    def _hear(self) -> int:
        if self.code is None:
            try:
                said = self._line.recv(CODE.size)
            except ConnectionError:
                said = b""
            self.code = CODE.unpack(said)[0] if len(said) == CODE.size else -9  # the server was killed, and it too
        return self.code


servers = Servers()
atexit.register(servers.rest)
os.register_at_fork(after_in_child=servers._forget)
