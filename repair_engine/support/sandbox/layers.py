"""Which layers around the child are in force here: found out by a real child that tries to get through each."""

from __future__ import annotations

import os
import resource
import socket
import tempfile
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from repair_engine.errors import BadInput, SandboxTooWeak
from repair_engine.support.sandbox import kernel
from repair_engine.support.sandbox.parent import LAYERS, REQUIRE, Limits, call, environment, required

_SMALL = Limits(1 << 30, 1 << 20, cpu_seconds=10, wall_seconds=60)


def try_layers(layers: Collection[str] = LAYERS) -> dict[str, bool]:
    """Layer -> whether it holds, tried now. Raises SandboxTooWeak, see `call`."""
    with tempfile.NamedTemporaryFile() as outside:
        payload = {"outside": outside.name, "environment": sorted(environment())}
        try:
            found = call("layers", payload, _SMALL, layers=layers)
        except BadInput:
            return dict.fromkeys(LAYERS, False)
    return {name: bool(found.get(name)) for name in LAYERS}


@cache
def in_force() -> dict[str, bool]:
    """`try_layers`, once per process."""
    return try_layers()


def require() -> None:
    """Raises SandboxTooWeak where fewer are in force than the operator asks for."""
    if missing := sorted(required() - {name for name, holds in in_force().items() if holds}):
        raise SandboxTooWeak(f"{REQUIRE} asks for {', '.join(missing)}, which this platform does not give.")


def sentence(found: Mapping[str, bool]) -> str:
    """For people: what holds, and what does not."""
    held = ", ".join(name for name in LAYERS if found.get(name)) or "nothing"
    lacking = [name for name in LAYERS if not found.get(name)]
    return f"uploads are read behind: {held}" + (f"; NOT in force: {', '.join(lacking)}" if lacking else "")


def run_task(payload: Mapping[str, Any]) -> dict[str, bool]:
    """In the child: each attempt is one that no other layer would stop."""
    own = set(os.environ) - {"LC_CTYPE"}  # which Python sets itself
    return {
        "environment": own <= set(payload["environment"]),
        "limits": resource.getrlimit(resource.RLIMIT_FSIZE)[0] == _SMALL.output_bytes,
        "no_new_privs": _says(kernel.PR_GET_NO_NEW_PRIVS, 1),
        "namespaces": os.getpid() == 1 and not Path(payload["outside"]).exists(),
        "landlock": not _lists_root(),
        "seccomp": _says(kernel.PR_GET_SECCOMP, 2) and not _makes_socket(),
    }


def _says(option: int, expected: int) -> bool:
    try:
        return kernel.prctl(option) == expected
    except (OSError, AttributeError):
        return False


def _lists_root() -> bool:
    try:
        os.listdir("/")
    except OSError:
        return False
    return True


def _makes_socket() -> bool:
    try:
        socket.socket(socket.AF_UNIX).close()
    except OSError:
        return False
    return True
