"""Which architectures a model may name. The web process does not import torch: a child lists them, once."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec

from django.conf import settings

from webapp.library.incoming import write_whole

ONNX = "onnx"  # the architecture of a model that is its own: its graph
TIMM = "timm:"  # before the name of one of timm's
HUGGING_FACE = "huggingface"  # of a zip of a Hugging Face folder: its config.json
_LIST = "import json; from repair_engine.models.architectures import list_architectures as l; print(json.dumps(l()))"


def told_by(file_name: str, architecture: str, num_classes: int | None) -> dict[str, str | int]:
    """What is asked of a model, with what a file brings itself filled in; 0 classes: as the file has.

    Raises:
        Untold: the architecture or the number of classes is missing; or a Hugging Face folder, which brings its own,
            is given another one or cannot be read here.
    """
    if file_name.lower().endswith(".zip"):
        if architecture not in ("", HUGGING_FACE):
            raise Untold("architecture", "A zip is a Hugging Face folder, which brings its own: leave this blank.")
        if find_spec("transformers") is None:
            raise Untold(
                "file",
                "A zip is a Hugging Face folder, and transformers is not installed on this server: ask the operator to "
                "install it, or send an ONNX model, or the weights alone with their architecture.",
            )
        return {"architecture": HUGGING_FACE, "num_classes": num_classes or 0}
    if file_name.lower().endswith(".onnx"):
        return {"architecture": architecture or ONNX, "num_classes": num_classes or 0}
    for field, value in (("architecture", architecture), ("num_classes", num_classes)):
        if not value:
            raise Untold(field)
    return {"architecture": architecture, "num_classes": num_classes or 0}


class Untold(ValueError):
    """What is the matter with a field; by default that only some files can do without it."""

    def __init__(self, field: str, problem: str = "") -> None:
        super().__init__(problem or "Only an ONNX model (.onnx) or a Hugging Face zip brings its own; give it.")
        self.field = field


def architectures() -> dict[str, list[str]]:
    return {"registered": sorted(settings.ARCHITECTURES), "torchvision": _torchvision()}


def _torchvision() -> list[str]:
    kept = settings.DATA_DIR / f"architectures-{version('torchvision')}.json"
    if not kept.exists():
        found = subprocess.run(
            [sys.executable, "-c", _LIST], capture_output=True, check=True, timeout=120, cwd=settings.BASE_DIR
        )
        write_whole(kept, found.stdout.strip().splitlines()[-1])
    return json.loads(kept.read_text())
