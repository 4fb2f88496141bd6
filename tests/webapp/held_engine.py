"""The real engine, whose workers wait in the middle of a block for as long as a file is there.

Where a test kills a worker must not depend on how fast the machine is.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from webapp.jobs.engine import Count, RepairEngine


class HeldEngine(RepairEngine):
    """While $NR_TEST_HOLD/hold exists, a worker that has evaluated something leaves its process id there and waits."""

    def run_block(self, work: Path, phase: str, state: bytes, task: dict, count: Count) -> bytes:
        folder = Path(os.environ["NR_TEST_HOLD"])

        def counted(evaluations: int) -> None:
            count(evaluations)
            if (folder / "hold").exists():
                (folder / f"{os.getpid()}.held").touch()
                while (folder / "hold").exists():
                    time.sleep(0.05)
                    count(0)  # keeps the lease alive, and learns of a cancel

        return super().run_block(work, phase, state, task, counted)
