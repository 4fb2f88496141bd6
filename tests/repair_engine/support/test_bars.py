"""Where there is no terminal, a line of progress now and then, on stderr."""

from __future__ import annotations

import pytest

from repair_engine.support import bars as progress


def test_a_line_every_twenty_seconds(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    bars = progress.Bars(quiet=False)
    tick = bars.counting("searching", 1000)
    for _ in range(100):  # a second each
        now[0] += 1.0
        tick(5)
    bars.stage("measuring removal curves", 0.25)
    now[0] += 20.0
    bars.stage("measuring removal curves", 0.5)
    bars.close()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "0:20 searching: 10% of 1,000 evaluations",
        "0:40 searching: 20% of 1,000 evaluations",
        "1:00 searching: 30% of 1,000 evaluations",
        "1:20 searching: 40% of 1,000 evaluations",
        "1:40 searching: 50% of 1,000 evaluations",
        "2:00 measuring removal curves: 50%",
    ]
