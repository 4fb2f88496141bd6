"""The worker's part of jobs of the kind attack: the engine's attack verb, between prepare and finish."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from repair_engine.models import formats, hf_archive
from repair_engine.support.progress import Progress
from repair_engine.verbs.attack import run
from webapp.jobs import translation
from webapp.jobs.files import ATTACK
from webapp.jobs.requests import at_hand


def prepare(asked: dict[str, Any], work: Path) -> dict[str, Any]:
    """Checks what can be checked without the images, and keeps what was asked. Raises BadInput."""
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        request = translation.repair_request(asked, Path(folder))
        formats.read(request.model, request.architecture, request.weights, request.name_of("model"))
    (work / ATTACK).write_text(json.dumps(asked))
    return {"warnings": []}


def threads(work: Path) -> int:
    return int(json.loads((work / ATTACK).read_text())["threads"])


def _checkpoint(repaired: dict[str, str], folder: Path) -> Path:
    """The repaired checkpoint; the weights of a repaired Hugging Face folder, which came back as a zip."""
    path = Path(repaired["path"])
    if not repaired["file_name"].endswith(hf_archive.SUFFIX):
        return path
    return hf_archive.unpack(path, folder / "repaired", repaired["file_name"]).weights


def finish(work: Path, out: Path, note: Progress) -> dict[str, Any]:
    """Attacks, and writes attack.json, attack.html, attack.csv and attack.npz. Raises BadInput."""
    asked = at_hand(json.loads((work / ATTACK).read_text()))
    repaired = asked["repaired"]
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        request = translation.repair_request(asked, Path(folder))
        after = str(_checkpoint(repaired, Path(folder))) if repaired else None
        called = repaired["file_name"] if repaired else ""
        found = run(request, after, bool(asked.get("all_images")), Path(folder), note, called)
        found.write(out)
    return {"attacked": True, **found.document}
