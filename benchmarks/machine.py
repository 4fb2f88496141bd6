"""What it was measured on: one line under every table."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path
from typing import Any

import torch

from benchmarks.references import commit

_LOAD = os.getloadavg()[0]  # processes of the last minute, read before anything is measured here


def machine(device: str) -> dict[str, Any]:
    """JSON-able: processor, threads, load before, GPU where one is used, versions, date, commit."""
    return {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "load": round(_LOAD, 1),
        "device": torch.cuda.get_device_name(0) if device == "cuda" else "cpu",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit(),
    }


def line(of: dict[str, Any]) -> str:
    """The same for people."""
    gpu = "" if of["device"] == "cpu" else f", {of['device']}"
    load = f", load {of['load']} before" if "load" in of else ""  # results of earlier versions do not say it
    return (
        f"{of['processor']}, {of['threads']} thread{'s' * (of['threads'] != 1)}{gpu}{load}; torch {of['torch']}, "
        f"Python {of['python']}; {of['date']}, commit {of['commit']}"
    )


def _processor() -> str:
    try:
        for row in Path("/proc/cpuinfo").read_text().splitlines():
            if row.startswith("model name"):
                return row.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()
