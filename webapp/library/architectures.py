"""Which architectures a model may name. The web process does not import torch: a child lists them, once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version

from django.conf import settings

_LIST = "import json; from repair_engine.architectures import list_architectures as l; print(json.dumps(l()))"


def architectures() -> dict[str, list[str]]:
    return {"registered": sorted(settings.ARCHITECTURES), "torchvision": _torchvision()}


def _torchvision() -> list[str]:
    kept = settings.DATA_DIR / f"architectures-{version('torchvision')}.json"
    if not kept.exists():
        found = subprocess.run(
            [sys.executable, "-c", _LIST], capture_output=True, check=True, timeout=120, cwd=settings.BASE_DIR
        )
        new = kept.with_suffix(f".{os.getpid()}")
        new.write_bytes(found.stdout.strip().splitlines()[-1])
        new.replace(kept)
    return json.loads(kept.read_text())
