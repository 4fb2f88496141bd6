"""Starts processes, starts them again when they die, stops them all. Leaves no orphans.

Each child asks the kernel for a signal when this process dies (PR_SET_PDEATHSIG), so even a SIGKILL of the
supervisor ends them. They run in sessions of their own: Ctrl-C reaches only the supervisor, which stops them
in order.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from webapp.jobs.worker_signals import prctl_death_signal

SETTLED = 30.0  # seconds of life after which a death is no longer counted against it
LONGEST = 15.0  # seconds between two attempts to start it again


@dataclass
class Child:
    """A program to keep alive.

    Attributes:
        name: shown before each of its lines.
        command: what to run.
        env: its whole environment.
        grace: seconds between SIGTERM and SIGKILL.
        death_signal: what it gets when the supervisor is killed.
    """

    name: str
    command: list[str]
    env: dict[str, str]
    grace: float = 10.0
    death_signal: int = signal.SIGTERM
    process: subprocess.Popen | None = None
    born: float = 0.0
    deaths: int = 0
    not_before: float = 0.0
    threads: list[threading.Thread] = field(default_factory=list)


class Supervisor:
    """Keeps children alive.

    Args:
        say: shows a line to the person at the terminal.
        log: a file that keeps every line of every child, for when something went wrong. While it cannot be written (a
            full disk), its lines are for the terminal.
        verbose: show the children's lines, too.
    """

    def __init__(self, say: Callable[[str], None], log: Path, *, verbose: bool = True) -> None:
        self.say = say
        self.log = log.open("wb", buffering=0)  # nothing is held back that could not be written
        self.unwritten = False
        self.verbose = verbose
        self.children: list[Child] = []
        self.stopping = False

    def add(self, child: Child) -> Child:
        """Start a child and look after it from now on."""
        self.children.append(child)
        self._start(child)
        return child

    def _start(self, child: Child) -> None:
        parent = os.getpid()

        def in_child() -> None:
            prctl_death_signal(child.death_signal)
            if os.getppid() != parent:  # it died before the line above
                os._exit(1)

        child.process = subprocess.Popen(
            child.command,
            env=child.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=in_child,
            text=True,
            errors="replace",
        )
        child.born = time.monotonic()
        thread = threading.Thread(target=self._relay, args=(child.name, child.process), daemon=True)
        thread.start()

    def _relay(self, name: str, process: subprocess.Popen) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._tell(f"[{name}] {line.rstrip()}", self.verbose)

    def _tell(self, line: str, show: bool = True) -> None:
        try:
            self.log.write(f"{time.strftime('%H:%M:%S')} {line}\n".encode())
            self.unwritten = False
        except OSError as error:
            if not self.unwritten:
                self.say(f"{self.log.name} cannot be written: {error.strerror}. Its lines stand here meanwhile.")
            self.unwritten = show = True
        if show:
            self.say(line)

    def look_after(self) -> None:
        """One round: note who died, and start again whose time has come."""
        now = time.monotonic()
        for child in self.children:
            process = child.process
            if process is not None and process.poll() is not None and not self.stopping:
                child.deaths = 1 if now - child.born > SETTLED else child.deaths + 1
                pause = min(0.5 * 2 ** (child.deaths - 1), LONGEST)
                child.process, child.not_before = None, now + pause
                self._tell(f"[{child.name}] ended with {_cause(process.returncode)}; again in {pause:g} s")
            if child.process is None and now >= child.not_before and not self.stopping:
                self._start(child)

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Look after the children until a signal comes (KeyboardInterrupt) or `until` says so."""
        while not until():
            self.look_after()
            time.sleep(0.2)

    def stop(self) -> None:
        """End the children, the last one started first: workers before the broker that they talk to."""
        self.stopping = True
        for group in _groups(self.children):
            alive = [child for child in group if child.process and child.process.poll() is None]
            for child in alive:
                child.process.send_signal(signal.SIGTERM)
            for child in alive:
                try:
                    child.process.wait(max(0.1, child.grace))
                except subprocess.TimeoutExpired:
                    _kill_session(child.process.pid)
                    child.process.wait()
            for child in group:
                if child.process:
                    _kill_session(child.process.pid)  # whatever it may have left behind


def _groups(children: list[Child]) -> list[list[Child]]:
    """Everything but the broker first, all at once; then the broker."""
    broker = [child for child in children if child.name == "redis"]
    return [[child for child in reversed(children) if child not in broker], broker]


def _kill_session(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


def _cause(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def stop_on_signals() -> None:
    """SIGTERM and SIGHUP end the program the way Ctrl-C does."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, stop)


def print_line(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
