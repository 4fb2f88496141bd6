"""A world of its own for the child: other processes, the network and nearly all files are not there at all.

Works as root and as anybody, by a user namespace. Of the files it sees Python's libraries, the code on the import path
and its input, read-only. There is no /proc, so nothing has to be hidden in it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NoReturn

from repair_engine.support.sandbox.kernel import PR_SET_PDEATHSIG, checked, libc, prctl, syscall

_NEW = 0x00020000 | 0x08000000 | 0x04000000 | 0x10000000 | 0x20000000 | 0x40000000  # NS, IPC, UTS, USER, PID, NET
_BIND, _REC, _PRIVATE, _NOSUID, _NODEV, _NOEXEC, _RDONLY, _REMOUNT = 4096, 16384, 1 << 18, 2, 4, 8, 1, 32
_MNT_DETACH = 2
_MOUNT_SETATTR, _PIVOT_ROOT = 442, {"x86_64": 155, "aarch64": 41}
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_BASE, _OLD = "/tmp", "/.old"
INPUT = "/input"
_DEVICES = ("/dev/null", "/dev/urandom")
# What libraries look up while they work: processors, memory, shared libraries, the time zone.
_FACTS = ("/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu", "/etc/ld.so.cache", "/etc/localtime")
_MOST_CHILDREN = 4096  # of a folder on the import path


class _Attributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


def code_paths() -> list[str]:
    """Python's own libraries, and of every other folder on the import path what can be imported from it.

    Not such a folder whole: it may be where the program was started, with its data.
    """
    roots = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", "/usr/share/zoneinfo", "/nix/store"]
    roots += [os.path.join(prefix, name) for prefix in (sys.prefix, sys.base_prefix) for name in ("lib", "lib64")]
    roots += [folder for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder.startswith("/")]
    found = [root for root in dict.fromkeys(roots) if os.path.isdir(root)]
    for entry in sys.path:
        if not os.path.isabs(entry) or any(entry == root or entry.startswith(f"{root}/") for root in found):
            continue
        found += _importable(entry)
    return [*found, *(path for path in (*_FACTS, *_DEVICES) if os.path.exists(path))]


def _importable(entry: str) -> list[str]:
    if os.path.isfile(entry):
        return [entry]
    if entry.rstrip("/").endswith(("site-packages", "dist-packages")):
        return [entry]
    try:
        with os.scandir(entry) as children:
            listed = [child for _, child in zip(range(_MOST_CHILDREN), children, strict=False)]
    except OSError:
        return []
    return [
        child.path
        for child in listed
        if child.name.endswith((".py", ".so")) or os.path.isfile(os.path.join(child.path, "__init__.py"))
    ]


def enter(paths: Iterable[str], inputs: Mapping[str, str]) -> dict[str, str] | None:
    """Goes on in a new process, the first of its own world; the one that called waits for it and ends as it ended.

    Must be called before there are threads.

    Args:
        paths: what is to be seen, read-only.
        inputs: name -> file.

    Returns:
        Where the inputs are seen now; None where this platform does not allow it: then nothing has changed.
    """
    receive, send = os.pipe()
    middle = os.fork()
    if middle == 0:
        os.close(receive)
        try:
            _unshare()
            seen = _make_view(paths, inputs)
        except (OSError, KeyError, AttributeError) as error:
            with contextlib.suppress(OSError):
                os.write(send, f"{type(error).__name__}: {error}".encode()[:500])
            os._exit(1)
        os.write(send, b"+")
        os.close(send)
        inner = os.fork()
        if inner:
            _follow(inner)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        return seen
    os.close(send)
    said = os.read(receive, 500)
    os.close(receive)
    if said == b"+":
        _follow(middle)
    os.waitpid(middle, 0)
    return None


def _follow(process: int) -> NoReturn:
    with contextlib.suppress(OSError):  # set before the fork only for the one that forks
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.pause()
    os._exit(os.waitstatus_to_exitcode(status))


def _unshare() -> None:
    user, group = os.geteuid(), os.getegid()
    checked(libc.unshare(_NEW), "unshare")
    for name, line in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        Path(f"/proc/self/{name}").write_text(line)


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    texts = [text.encode() for text in (source, target, kind)]
    checked(libc.mount(*texts, ctypes.c_ulong(flags), data.encode()), f"mount {target}")


def _make_view(paths: Iterable[str], inputs: Mapping[str, str]) -> dict[str, str]:
    _mount("none", "/", "", _REC | _PRIVATE)
    _mount("tmpfs", _BASE, "tmpfs", _NOSUID | _NODEV | _NOEXEC, "size=4m,mode=755")
    os.mkdir(_BASE + _OLD)
    os.chdir(_BASE)
    syscall("pivot_root", _PIVOT_ROOT[os.uname().machine], b".", _OLD[1:].encode())
    os.chdir("/")
    # Its own /tmp: some libraries make sure of one when they are imported. Before the code, which may lie in it.
    os.mkdir("/tmp")
    _mount("tmpfs", "/tmp", "tmpfs", _NOSUID | _NODEV | _NOEXEC, "size=16m,mode=700")
    for path in sorted(set(paths), key=lambda path: (path.count("/"), path)):
        _show(path)
    seen = {}
    os.mkdir(INPUT)
    for name, path in inputs.items():
        seen[name] = f"{INPUT}/{name}"
        _bind(_OLD + _real(path), seen[name])
    checked(libc.umount2(_OLD.encode(), _MNT_DETACH), "umount")
    os.rmdir(_OLD)
    _mount("none", "/", "", _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV | _NOEXEC)
    return seen


def _real(path: str) -> str:
    """A path without links, as the old root has it. `path` itself is no longer what its first / says."""
    done = ""
    left = [part for part in path.split("/") if part not in ("", ".")][::-1]
    for _ in range(4096):
        if not left:
            return done or "/"
        part = left.pop()
        if part == "..":
            done = done.rpartition("/")[0]
        elif os.path.islink(f"{_OLD}{done}/{part}"):
            target = os.readlink(f"{_OLD}{done}/{part}")
            done = "" if target.startswith("/") else done
            left += [one for one in target.split("/") if one not in ("", ".")][::-1]
        else:
            done = f"{done}/{part}"
    raise OSError(f"too many links in {path}")


def _show(path: str) -> None:
    """Bind a path read-only under its own name, and where it is a link, under both."""
    real = _real(path)
    if not os.path.lexists(real):
        _bind(_OLD + real, real, device=path in _DEVICES)
    if path != real and not os.path.lexists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(real, path)


def _bind(source: str, target: str, device: bool = False) -> None:
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o600))
    _mount(source, target, "", _BIND | _REC)
    attributes = _Attributes(_RDONLY | _NOSUID | (0 if device else _NODEV), 0, 0, 0)
    syscall(
        "mount_setattr", _MOUNT_SETATTR, _AT_FDCWD, target.encode(), _AT_RECURSIVE,
        ctypes.byref(attributes), ctypes.sizeof(attributes),
    )  # fmt: skip
