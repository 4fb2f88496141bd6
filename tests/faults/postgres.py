"""A throw-away PostgreSQL server: a cluster in a folder of its own, on a free port of this machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path


def programs() -> Path | None:
    """The folder of initdb and pg_ctl: of the newest version that is installed; None if there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    return Path(found_).parent if (found_ := shutil.which("initdb")) else None


class Cluster:
    """Started on entry; stopped and removed on exit. As root it runs as the user postgres, as PostgreSQL insists."""

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        bin_ = programs()
        assert bin_ is not None, "PostgreSQL is not installed"
        self.bin, self.folder, self.host = bin_, folder, host
        with socket.socket() as probe:
            probe.bind((host, 0))
            self.port = probe.getsockname()[1]
        self.url = f"postgres://nr@{host}:{self.port}/postgres"

    def __enter__(self) -> Cluster:
        self.folder.mkdir(parents=True)
        if os.getuid() == 0:
            shutil.chown(self.folder, "postgres")
        self._run("initdb", "-D", "data", "-U", "nr", "--auth=trust", "-E", "UTF8")
        with (self.folder / "data" / "pg_hba.conf").open("a") as file:
            file.write("host all all samenet trust\n")
        options = f"-p {self.port} -c listen_addresses={self.host} -c unix_socket_directories={self.folder}"
        self._run("pg_ctl", "-D", "data", "-l", "log", "-w", "-o", options, "start")
        return self

    def __exit__(self, *_: object) -> None:
        self._run("pg_ctl", "-D", "data", "-m", "immediate", "-w", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.bin / program), *arguments]
        as_user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
        done = subprocess.run(
            command, cwd=self.folder, stdout=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,
            stderr=subprocess.STDOUT, text=True, timeout=120, env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            **as_user,
        )  # fmt: skip
        assert done.returncode == 0, f"{program}: {done.stdout}"
