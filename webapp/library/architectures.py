"""Which architectures a model may name. The web process does not import torch: a child lists them, once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version

from django.conf import settings

ONNX = "onnx"  # the architecture of a model that is its own: its graph
_LIST = "import json; from repair_engine.architectures import list_architectures as l; print(json.dumps(l()))"


def told_by(file_name: str, architecture: str, num_classes: int | None) -> dict[str, str | int]:
    """What is asked of a model, with what an ONNX file need not be told filled in; 0 classes: as the graph has.

    Raises:
        Untold: the architecture or the number of classes is missing.
    """
    if file_name.lower().endswith(".onnx"):
        return {"architecture": architecture or ONNX, "num_classes": num_classes or 0}
    for field, value in (("architecture", architecture), ("num_classes", num_classes)):
        if not value:
            raise Untold(field)
    return {"architecture": architecture, "num_classes": num_classes or 0}


class Untold(ValueError):
    """A field that only an ONNX model can do without."""

    def __init__(self, field: str) -> None:
        super().__init__("Only an ONNX model (.onnx) brings its own; give it.")
        self.field = field


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
