"""The server's side: a process that has the libraries imported, and forks one child for each call.

Importing torch and torchvision takes seconds, forking a process that has them takes milliseconds. Nothing untrusted is
read here: an input is opened by a fork alone, after that has shut itself in, and a fork is used once. The server has
the environment that its children have, no descriptor but its sockets, and ends when its parent's socket closes.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from dataclasses import dataclass
from typing import Any, NoReturn

from repair_engine.support.process import importing
from repair_engine.support.sandbox import child
from repair_engine.support.sandbox.starting import CODE, IMPORT
from repair_engine.support.torchvision import import_torchvision

MOST_DESCRIPTORS = 64
# Imported here, once, when a call names them; an operator's own modules by each child, so that they are read again.
_LIBRARIES = ("repair_engine", "timm", "torch", "torchvision")
_FIRST = ("stdin", "stdout", "stderr")


@dataclass(frozen=True)
class _Running:
    pid: int
    line: socket.socket


class Server:
    """Forks on request; one thread, so that a fork has all that there is."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.environment = dict(os.environ)
        self.running: dict[int, _Running] = {}
        self.selector = selectors.DefaultSelector()
        self.woken, wakes = socket.socketpair()
        wakes.setblocking(False)
        self.woken.setblocking(False)
        self.wakes = wakes

    def serve(self) -> None:
        """Until the parent closes its end."""
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only to be woken by it
        signal.set_wakeup_fd(self.wakes.fileno(), warn_on_full_buffer=False)
        self.selector.register(self.control, selectors.EVENT_READ)
        self.selector.register(self.woken, selectors.EVENT_READ)
        try:
            while True:
                for key, _ in self.selector.select():
                    if key.fileobj is self.control:
                        if not self._begin():
                            return
                    elif key.fileobj is self.woken:
                        self._reap()
                    elif key.data.pid in self.running:  # the caller wants nothing more of it
                        self.selector.unregister(key.fileobj)
                        _kill(key.data.pid)
        finally:
            for pid in self.running:
                _kill(pid)

    def _begin(self) -> bool:
        """One request: forks, or only imports. False where there will be no more."""
        try:
            said, descriptors, *_ = socket.recv_fds(self.control, 1, MOST_DESCRIPTORS)
        except OSError:
            said, descriptors = b"", []
        if not said:
            return False
        with os.fdopen(descriptors[0], "rb") as file:
            asked = json.load(file)
        _import(asked)
        if said == IMPORT:
            return True
        line, *given = descriptors[1:]
        asked["parent"] = os.getpid()
        pid = os.fork()
        if pid == 0:
            _be_the_child(asked, given, self.environment)
        for descriptor in given:
            os.close(descriptor)
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)  # the child does so too: whoever comes first
        started = _Running(pid, socket.socket(fileno=line))
        self.running[pid] = started
        self.selector.register(started.line, selectors.EVENT_READ, started)
        return True

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self.woken.recv(4096):
                pass
        for pid, ended in list(self.running.items()):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            _kill(pid)  # what it left in its group, while its number is still its own
            _, status = os.waitpid(pid, 0)
            del self.running[pid]
            with contextlib.suppress(KeyError):
                self.selector.unregister(ended.line)
            with contextlib.suppress(OSError):
                ended.line.send(CODE.pack(os.waitstatus_to_exitcode(status)))
            ended.line.close()


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _import(asked: dict[str, Any]) -> None:
    for name in (asked["target"].partition(":")[0], *asked["imports"]):
        if name.partition(".")[0] in _LIBRARIES:
            with contextlib.suppress(Exception), importing():  # the child meets what fails again, and says so
                if name.startswith("torchvision"):
                    import_torchvision()
                importlib.import_module(name)


def _be_the_child(asked: dict[str, Any], given: list[int], environment: dict[str, str]) -> NoReturn:
    """A process of its own group, with no descriptor but those of its call."""
    code = 1
    try:
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.environ.clear()  # of what libraries set when they are imported
        os.environ.update(environment)
        for number, descriptor in enumerate(given[: len(_FIRST)]):
            os.dup2(descriptor, number)
        kept = given[len(_FIRST) :]
        asked["writes"] = dict(zip(asked["writes"], kept, strict=True))
        _close_all_but(kept)
        child.run(asked)
        code = 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(code)


def _close_all_but(kept: list[int]) -> None:
    last = len(_FIRST) - 1
    for descriptor in [*sorted(kept), max(os.sysconf("SC_OPEN_MAX"), 1 << 16)]:  # -1: no limit
        os.closerange(last + 1, descriptor)
        last = descriptor


def main() -> None:
    Server(socket.socket(fileno=int(sys.argv[1]))).serve()
