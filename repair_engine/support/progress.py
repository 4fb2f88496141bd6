"""What long work reports, and the size of its batches."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, float], None]  # (what is being done, share done of it); may raise to cancel

BATCH = 64  # images per plain forward


def silent(stage: str, share: float) -> None:
    """A progress callback that does nothing."""


class Teller:
    """Who is told how far a run is: of stages the share, of evaluations the count, and sentences in between.

    Args:
        progress: told the shares; may raise to stop the run.
    """

    def __init__(self, progress: Progress = silent) -> None:
        self._progress = progress

    def stage(self, name: str, share: float) -> None:
        """A `Progress`."""
        self._progress(name, share)

    def counting(self, name: str, total: int) -> Callable[[int], None]:
        """A tick for evaluations, of which there are about `total`."""
        done = 0

        def tick(count: int) -> None:
            nonlocal done
            done += count
            self.stage(name, min(done / max(total, 1), 1.0))

        return tick

    def say(self, *sentences: str) -> None:
        """What is known before or while filters are sampled."""

    def close(self) -> None:
        """The run has ended."""
