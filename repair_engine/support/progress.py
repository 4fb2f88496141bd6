"""What long work reports, and the size of its batches."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, float], None]  # (what is being done, share done of it); may raise to cancel

BATCH = 64  # images per plain forward


def silent(stage: str, share: float) -> None:
    """A progress callback that does nothing."""
