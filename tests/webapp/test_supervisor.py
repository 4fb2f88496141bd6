"""The development stack's supervisor."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from webapp.devserver.supervisor import Child, Supervisor


def test_a_full_disk_ends_nothing() -> None:
    said: list[str] = []
    supervisor = Supervisor(said.append, Path("/dev/full"), verbose=False)
    try:
        child = supervisor.add(Child("one", [sys.executable, "-c", "print('what it says')"], {**os.environ}))
        first, end = child.process, time.monotonic() + 60
        supervisor.run(until=lambda: child.process not in (None, first) or time.monotonic() > end)
        assert child.deaths, "it was started again"
    finally:
        supervisor.stop()
    assert "/dev/full cannot be written: No space left on device. Its lines stand here meanwhile." in said
    assert sum("cannot be written" in line for line in said) == 1
    assert "[one] what it says" in said
    assert any("[one] ended with exit code 0" in line for line in said)


def test_the_log_keeps_what_is_not_shown(tmp_path: Path) -> None:
    said: list[str] = []
    log = tmp_path / "dev.log"
    supervisor = Supervisor(said.append, log, verbose=False)
    try:
        supervisor.add(Child("one", [sys.executable, "-c", "print('h\\u00e9')"], {**os.environ}))
        end = time.monotonic() + 60
        supervisor.run(until=lambda: "[one] hé" in log.read_text() or time.monotonic() > end)
    finally:
        supervisor.stop()
    assert "[one] hé" in log.read_text()
    assert not any("hé" in line for line in said)
