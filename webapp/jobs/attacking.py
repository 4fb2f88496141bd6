"""The worker's part of jobs of the kind attack: the engine's attack verb, between prepare and finish."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from repair_engine.case.case import Case
from repair_engine.documents.adversarial_pictures import write_pictures
from repair_engine.models import formats, hf_archive
from repair_engine.question.victims import Victim
from repair_engine.support import tables
from repair_engine.support.progress import Progress
from repair_engine.verbs.attack import run
from webapp.jobs import translation
from webapp.jobs.files import ADVERSARIAL, ATTACK
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
    """Attacks, and writes attack.json, attack.html, attack.csv, attack.npz and pictures. Raises BadInput."""
    asked = at_hand(json.loads((work / ATTACK).read_text()))
    repaired = asked["repaired"]
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        request = translation.repair_request(asked, Path(folder))
        after = str(_checkpoint(repaired, Path(folder))) if repaired else None
        called = repaired["file_name"] if repaired else ""
        found = run(request, after, bool(asked.get("all_images")), Path(folder), note, called)
        found.write(out)
        images, first = found.images, found.rows[0]  # the fixed set
        write_pictures(
            out / ADVERSARIAL, found.dataset, images.indices, found.fixed, images.goals if images.targeted else None,
            first.before, first.after if repaired else None,
        )  # fmt: skip
    return {"attacked": True, **found.document}


def picture(case: Case, out: Path) -> None:
    """Of a repair that lowers attack success: pictures of the report images that were attacked, beside its files."""
    part, targeted = case.question.attacked["report"], case.settings.attack.targeted
    before, after = _replayed(case, out / "attacks.csv")
    targets = part.targets if targeted else None
    write_pictures(out / ADVERSARIAL, case.images.dataset, part.indices, part.pixels, targets, before, after)


def _replayed(case: Case, rows: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Predictions on the fixed set; where nothing was edited there are no rows, and the intact model's are all."""
    part = case.question.attacked["report"]
    if rows.exists():
        number = {name: i for i, name in enumerate(case.images.dataset.class_names)}
        replay = [row for row in tables.read(rows) if row["kind"] == "replay"]
        before, after = (np.array([number[row[f"predicted_{when}"]] for row in replay]) for when in ("before", "after"))
        return before, after
    device = case.subject.device
    module = case.subject.checkpoint.module().to(device)
    return Victim("the intact model", module, case.images.dataset.preprocessing, device).predict(part.pixels), None
