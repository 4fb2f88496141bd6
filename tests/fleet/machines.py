"""Machines: each with a network address and a disk of its own, that can be switched off and lose both.

Where this machine allows namespaces they are real: a network namespace on a bridge, a mount namespace with a disk in
memory that nobody else sees, and a process namespace that ends as one. Elsewhere they are folders and addresses of the
loopback network, which says less; the driver says so.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

NETWORK = "10.77.0"
MEGABYTES = 1024  # of a machine's disk


def namespaces_allowed() -> bool:
    """Network and mount namespaces can be made, and a bridge in them."""
    if os.getuid() or not shutil.which("unshare") or not shutil.which("ip"):
        return False
    tried = ["unshare", "--net", "--mount", "--pid", "--fork", "ip", "link", "add", "br0", "type", "bridge"]
    return subprocess.run(tried, capture_output=True).returncode == 0


def enter_network() -> None:
    """Go on in a network of our own, where the services listen; does nothing in there."""
    if "NR_FLEET_NETWORK" in os.environ:
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "br0", "type", "bridge")
        run("ip", "addr", "add", f"{NETWORK}.1/24", "dev", "br0")
        run("ip", "link", "set", "br0", "up")
        return
    os.environ["NR_FLEET_NETWORK"] = "1"
    os.execvp("unshare", ["unshare", "--net", "--mount", sys.executable, "-m", "tests.fleet", *sys.argv[1:]])


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


class Machine:
    """Attributes:
    address: where its programs listen.
    disk: its data directory; the same path on all, and other files.
    """

    def __init__(self, name: str, number: int, folder: Path) -> None:
        self.name, self.number = name, number
        self.address = f"{NETWORK}.{number}"
        self.disk, self.logs = folder / "disk", folder / f"{name}.log"
        self.disk.mkdir(exist_ok=True)
        self.holder: subprocess.Popen | None = None

    def switch_on(self) -> None:
        """With an empty disk."""
        disk = f"mount -t tmpfs -o size={MEGABYTES}m tmpfs {self.disk}"
        self.holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts", "sh", "-c",
             f"hostname {self.name} && ip link set lo up && {disk} && exec sleep infinity"]
        )  # fmt: skip
        deadline = time.monotonic() + 30
        while not (inside := _sleeper(self.holder.pid)):
            assert time.monotonic() < deadline, "a machine did not start"
            assert self.holder.poll() is None, "a machine did not start"
            time.sleep(0.05)
        self.inside = inside
        ours, theirs = f"m{self.number}", f"n{self.number}"
        run("ip", "link", "add", ours, "type", "veth", "peer", "name", theirs)
        run("ip", "link", "set", theirs, "netns", str(inside))
        run("ip", "link", "set", ours, "master", "br0", "up")
        run(*self._within(), "ip", "addr", "add", f"{self.address}/24", "dev", theirs)
        run(*self._within(), "ip", "link", "set", theirs, "up")

    def _within(self) -> list[str]:
        return ["nsenter", "--target", str(self.inside), "--net", "--mount", "--pid", "--uts", f"--wdns={Path.cwd()}"]

    def start(self, command: list[str], environment: dict[str, str]) -> None:
        """Its programs end with it."""
        with self.logs.open("ab") as log:
            subprocess.Popen(
                [*self._within(), *command], stdout=log, stderr=log, env={**environment, "NR_DATA_DIR": str(self.disk)}
            )

    def call(self, command: list[str], environment: dict[str, str]) -> str:
        done = subprocess.run(
            [*self._within(), *command], capture_output=True, text=True, timeout=300,
            env={**environment, "NR_DATA_DIR": str(self.disk)},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def signal(self, number: int) -> None:
        """To its workers' main processes: told to stop (SIGTERM), or hung."""
        for process in self.programs():
            with suppress(psutil.Error):
                process.send_signal(number)

    def programs(self) -> list[psutil.Process]:
        mine = os.readlink(f"/proc/{self.inside}/ns/pid")
        found = []
        for process in psutil.process_iter():
            with suppress(OSError, psutil.Error):
                if process.pid != self.inside and os.readlink(f"/proc/{process.pid}/ns/pid") == mine:
                    found.append(process)
        return found

    def switch_off(self) -> None:
        """As the plug is pulled: no process has a last word, and the disk is gone."""
        if self.holder is None:
            return
        with suppress(ProcessLookupError):
            os.kill(self.inside, signal.SIGKILL)
        self.holder.kill()
        self.holder.wait()
        self.holder = None
        cable = ["ip", "link", "del", f"m{self.number}"]  # it may go by itself, some time after the machine
        subprocess.run(cable, capture_output=True)


class Folder(Machine):
    """Without namespaces: a folder of its own, and loopback; switched off, its programs and files go."""

    def __init__(self, name: str, number: int, folder: Path) -> None:
        super().__init__(name, number, folder)
        self.address, self.disk = "127.0.0.1", folder / f"disk-{name}"
        self.started: list[subprocess.Popen] = []

    def switch_on(self) -> None:
        self.disk.mkdir(exist_ok=True)

    def _within(self) -> list[str]:
        return []

    def start(self, command: list[str], environment: dict[str, str]) -> None:
        with self.logs.open("ab") as log:
            self.started.append(
                subprocess.Popen(command, stdout=log, stderr=log, env={**environment, "NR_DATA_DIR": str(self.disk)})
            )

    def programs(self) -> list[psutil.Process]:
        found = []
        for one in self.started:
            with suppress(psutil.Error):
                main = psutil.Process(one.pid)
                found += [main, *main.children(recursive=True)]
        return found

    def switch_off(self) -> None:
        self.signal(signal.SIGKILL)
        for one in self.started:
            one.wait()
        self.started.clear()
        shutil.rmtree(self.disk, ignore_errors=True)


def _sleeper(pid: int) -> int:
    """The first process within: it is there when the disk is."""
    with suppress(psutil.Error):
        for child in psutil.Process(pid).children():
            if child.name() == "sleep":
                return child.pid
    return 0
