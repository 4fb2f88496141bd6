"""A progress bar on a terminal; elsewhere a line now and then. Always on stderr: stdout belongs to the result."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from tqdm.auto import tqdm

from repair_engine.support.progress import Teller

EVERY = 20.0  # seconds between two lines


class Bars(Teller):
    """One bar per stage; where stderr is no terminal, a line every 20 seconds.

    Args:
        quiet: no bars (`--json`): lines, as where there is no terminal.
        notebook: there are bars without a terminal, too.
    """

    def __init__(self, quiet: bool, notebook: bool = False) -> None:
        super().__init__()
        self._lines = quiet or not (notebook or sys.stderr.isatty())
        self._bar: tqdm | None = None
        self._stage = ""
        self._began = self._said = time.monotonic()

    def stage(self, name: str, share: float) -> None:
        """`repair_engine.support.progress.Progress`."""
        if self._lines:
            self._line(name, share)
            return
        if name != self._stage:
            self.close()
            self._stage = name
            self._bar = tqdm(total=100, desc=name, unit="%", bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}")
        assert self._bar is not None
        self._bar.update(max(0.0, 100 * share - self._bar.n))

    def counting(self, name: str, total: int) -> Callable[[int], None]:
        """A tick for evaluations."""
        if self._lines:
            done = 0

            def tick(count: int) -> None:
                nonlocal done
                done += count
                self._line(name, min(done / max(total, 1), 1.0), f" of {total:,} evaluations")

            return tick
        self.close()
        bar = self._bar = tqdm(total=total, desc=name, unit="eval", unit_scale=True)
        return lambda count: bar.update(count) and None

    def _line(self, name: str, share: float, of: str = "") -> None:
        now = time.monotonic()
        if now - self._said < EVERY:
            return
        self._said = now
        minutes, seconds = divmod(round(now - self._began), 60)
        print(f"{minutes}:{seconds:02} {name}: {share:.0%}{of}", file=sys.stderr, flush=True)

    def say(self, *sentences: str) -> None:
        for sentence in sentences:
            print(sentence, file=sys.stderr)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
            self._stage = ""
