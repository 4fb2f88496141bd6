"""What stands between an upload and this machine, said to the operator by each program for itself: they may differ."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from repair_engine.support import sandbox
from webapp import private

log = logging.getLogger(__name__)
KEPT = 7 * 24 * 3600  # seconds for which the word of a program that is gone is shown


@dataclass(frozen=True)
class Said:
    """What one program found when it started: its name, the time, layer -> whether it holds."""

    name: str
    at: float
    layers: dict[str, bool]

    @property
    def missing(self) -> list[str]:
        return [layer for layer in sandbox.LAYERS if not self.layers.get(layer)]


def begin(name: str) -> None:
    """At the start of a program: finds out, says so in the log and for the page, and goes no further with too little.

    Raises:
        SystemExit: fewer layers are in force than NR_SANDBOX_REQUIRE asks for.
    """
    try:
        found = sandbox.in_force()
        sandbox.require()
    except (sandbox.SandboxTooWeak, ValueError) as error:
        log.critical("%s", error)
        raise SystemExit(f"{error} See docs/operations.md, “Who reads uploads”.") from error
    (log.info if all(found.values()) else log.warning)("%s: %s", name, sandbox.sentence(found))
    try:
        _tell(name, found)
    except OSError as error:
        log.warning("could not keep for the operator's page what is in force: %s", error)


def said() -> list[Said]:
    """The newest word of each program, by name; what it wrote is looked at, not believed to be whole."""
    found = []
    for path in sorted(_folder().glob("*.json")):
        try:
            one = json.loads(path.read_text())
            word = Said(str(one["name"]), float(one["at"]), {k: bool(v) for k, v in one["layers"].items()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        if time.time() - word.at < KEPT:
            found.append(word)
        else:
            path.unlink(missing_ok=True)
    return found


def _folder() -> Path:
    return Path(settings.DATA_DIR) / "sandbox"


def _tell(name: str, found: dict[str, bool]) -> None:
    full = name if "@" in name else f"{name}@{socket.gethostname()}"
    path = private.folder(_folder()) / f"{''.join(c if c.isalnum() or c in '@.-_' else '_' for c in full)}.json"
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(json.dumps({"name": full, "at": time.time(), "layers": found}))
    new.replace(path)
