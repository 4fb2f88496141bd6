"""What a parser that was taken over tries, in the child. The tests put it among the tasks; users cannot."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

libc = ctypes.CDLL(None, use_errno=True)


def run_task(payload: dict[str, Any]) -> dict[str, Any]:
    """Name of the attempt -> what it got, or None where it failed."""
    found: dict[str, Any] = {}
    for name, attempt in ATTEMPTS.items():
        try:
            found[name] = attempt(payload)
        except (OSError, ValueError, RuntimeError):
            found[name] = None
    with os.fdopen(payload["out"], "wb", closefd=False) as file:
        file.write(Path(payload["path"]).read_bytes())  # what it is there for
    return found


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result


def _write(path: str) -> str:
    with open(path, "ab") as file:
        file.write(b"changed")
    return path


def _connect(kind: int, address: Any) -> str:
    with socket.socket(kind, socket.SOCK_STREAM) as connection:
        connection.settimeout(2)
        connection.connect(address)
    return "connected"


def _daemon(payload: dict[str, Any]) -> str:
    process = os.fork()
    if process == 0:
        os.setsid()
        time.sleep(60)
        os._exit(0)
    return str(process)


def _exec(payload: dict[str, Any]) -> str:
    return subprocess.run(["/bin/sh", "-c", "id"], capture_output=True, check=True).stdout.decode()


def _exec_here(payload: dict[str, Any]) -> str:
    os.execv("/bin/true", ["true"])


def _kill(payload: dict[str, Any]) -> str:
    os.kill(payload["parent"], 0)
    os.kill(payload["victim"], signal.SIGKILL)
    return "killed"


def _owner_signal(payload: dict[str, Any]) -> str:
    """Has the kernel signal another process when a pipe can be read."""
    import fcntl

    receive, _ = os.pipe()
    fcntl.fcntl(receive, fcntl.F_SETOWN, payload["victim"])
    return "owner set"


def _memory(payload: dict[str, Any]) -> int:
    """process_vm_readv of the parent (x86-64 310, arm64 270)."""
    number = 310 if os.uname().machine == "x86_64" else 270
    vector = (ctypes.c_void_p * 2)(ctypes.addressof(ctypes.create_string_buffer(8)), 8)
    return _checked(libc.syscall(number, payload["parent"], vector, 1, vector, 1, 0))


def _ptrace(payload: dict[str, Any]) -> int:
    return _checked(libc.ptrace(16, payload["victim"], None, None))


def _mount(payload: dict[str, Any]) -> int:
    return _checked(libc.mount(b"none", b"/tmp", b"tmpfs", 0, None))


def _unshare(payload: dict[str, Any]) -> int:
    return _checked(libc.unshare(0x10000000))


def _secret_in(text: str, payload: dict[str, Any]) -> str | None:
    return "secret" if payload["secret"][::-1] in text else None


def _own_environment(payload: dict[str, Any]) -> str | None:
    return _secret_in(str(dict(os.environ)), payload)


def _environment_of(process: str) -> Callable[[dict[str, Any]], str | None]:
    return lambda p: _secret_in(Path(f"/proc/{p.get(process, process)}/environ").read_text(errors="replace"), p)


def _inherited(payload: dict[str, Any]) -> list[int] | None:
    """Descriptors beyond the standard ones and its output."""
    found = []
    for handle in range(3, 256):
        if handle == payload["out"]:
            continue
        try:
            kind = os.fstat(handle)
        except OSError:
            continue
        if kind.st_ino == payload["inode"]:
            found.append(handle)
    return found or None


def _executable_file(payload: dict[str, Any]) -> str:
    handle = os.memfd_create("code")
    os.close(handle)
    return "made"


def _shared_memory(payload: dict[str, Any]) -> str:
    with mmap.mmap(os.open(payload["database"], os.O_RDWR), 0) as mapped:
        mapped[0] = 0
    return "mapped"


ATTEMPTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "secrets in its environment": _own_environment,
    "its parent's environment": _environment_of("parent"),
    "any process's environment": _environment_of("victim"),
    "its parent's memory": lambda p: open(f"/proc/{p['parent']}/mem", "rb").fileno(),  # noqa: SIM115
    "process_vm_readv": _memory,
    "ptrace": _ptrace,
    "a descriptor that it was not given": _inherited,
    "read the database": lambda p: Path(p["database"]).read_bytes()[:4].decode(),
    "write the database": lambda p: _write(p["database"]),
    "map the database": _shared_memory,
    "read a blob": lambda p: Path(p["blob"]).read_bytes()[:4].decode(),
    "write a blob": lambda p: _write(p["blob"]),
    "list the data directory": lambda p: os.listdir(os.path.dirname(p["blob"])),
    "write its own input": lambda p: _write(p["path"]),
    "remove a blob": lambda p: os.unlink(p["blob"]) or "removed",
    "a new file": lambda p: _write("/tmp/left-behind"),
    "redis by its socket": lambda p: _connect(socket.AF_UNIX, p["redis"]),
    "TCP to loopback": lambda p: _connect(socket.AF_INET, ("127.0.0.1", p["port"])),
    "a shell": _exec,
    "another program in its place": _exec_here,
    "a daemon": _daemon,
    "kill another process": _kill,
    "signals by F_SETOWN": _owner_signal,
    "mount": _mount,
    "new namespaces": _unshare,
    "a file in memory": _executable_file,
}
