"""How a running shard tells that it is alive, and learns that it should stop."""

from __future__ import annotations

import time

from webapp.jobs import leases
from webapp.jobs.leases import Lease
from webapp.jobs.selectors import live_count
from webapp.steady import steadily

EVERY = 1.0  # seconds between two writes; the engine may call far more often
MOST = 100  # writes a second of all workers together: of more workers each writes less often
LONGEST = 15.0  # seconds between two writes, however many there are: a lease lasts longer


class Progress:
    """Renews the lease at most once a second, among many workers less often. Raises LeaseLost between two batches when
    it was taken away."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.done = 0
        self._stage = self._note = ""
        self._next = 0.0
        self._every = min(max(EVERY, steadily(live_count) / MOST), LONGEST)

    def evaluations(self, more: int) -> None:
        """More evaluations are done."""
        self.done += more
        self._renew()

    def note(self, stage: str, share: float = 0.0) -> None:
        """What is being done now, for people, and what share of it is done. A new stage is told at once."""
        if stage != self._stage:
            self._stage, self._next = stage, 0.0
        self._note = f"{stage}, {share:.0%}" if 0 < share < 1 else stage
        self._renew()

    def _renew(self) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._every
            leases.renew(self.lease, done=self.done, note=self._note or None)
