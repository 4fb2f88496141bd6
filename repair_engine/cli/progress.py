"""A progress bar on a terminal; silence elsewhere. Always on stderr: stdout belongs to the result."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tqdm import tqdm


class Bars:
    """One bar per stage.

    Args:
        quiet: show nothing (`--json`, or stderr is no terminal).
    """

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet or not sys.stderr.isatty()
        self._bar: tqdm | None = None
        self._stage = ""

    def stage(self, name: str, share: float) -> None:
        """`repair_engine.case.Progress`."""
        if self._quiet:
            return
        if name != self._stage:
            self.close()
            self._stage = name
            self._bar = tqdm(total=100, desc=name, unit="%", bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}")
        assert self._bar is not None
        self._bar.update(max(0.0, 100 * share - self._bar.n))

    def counting(self, name: str, total: int) -> Callable[[int], None]:
        """A tick for evaluations."""
        if self._quiet:
            return lambda count: None
        self.close()
        bar = self._bar = tqdm(total=total, desc=name, unit="eval", unit_scale=True)
        return lambda count: bar.update(count) and None

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
            self._stage = ""
