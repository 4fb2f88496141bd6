"""Landlock (Linux 5.13): files outside of what is named cannot be opened, other processes not traced or signalled.

https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

from repair_engine.support.sandbox.kernel import syscall

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same on all processors
_VERSION = 1
_PATH_BENEATH = 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}  # version -> how many rights about files it knows
_NET, _SCOPES = 0b11, 0b11  # TCP bind and connect (version 4); abstract sockets and signals (version 6)


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]


def version() -> int:
    """What the kernel speaks. Raises OSError where it has none."""
    return syscall("landlock", _CREATE, 0, 0, _VERSION)


def restrict(readable: Iterable[str]) -> None:
    """From now on this thread, and those that it starts, open these files and folders for reading and no others.

    Raises:
        OSError: the kernel has no Landlock, or it is forbidden here.
    """
    spoken = version()
    rights = (1 << max(count for least, count in _FILE_RIGHTS.items() if least <= spoken)) - 1
    rules = _Ruleset(rights, _NET if spoken >= 4 else 0, _SCOPES if spoken >= 6 else 0)
    ruleset = syscall("landlock_create_ruleset", _CREATE, ctypes.byref(rules), ctypes.sizeof(rules), 0)
    try:
        for path in readable:
            _allow(ruleset, path)
        syscall("landlock_restrict_self", _RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # it is not there
    try:
        rights = _READ_FILE | _READ_DIR if os.path.isdir(path) else _READ_FILE
        rule = _Beneath(rights, handle)
        syscall("landlock_add_rule", _ADD, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(handle)
