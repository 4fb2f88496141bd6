"""What the attack verb leaves: its document, the page of it, and files that let an outsider recompute every rate."""

from __future__ import annotations

import json
from pathlib import Path

from repair_engine.documents.attack_files import write_attacked, write_attacks
from repair_engine.pages import attack_page
from repair_engine.verbs.attack import Audit


def write_all(found: Audit, out: Path) -> None:
    """attack.json, attack.html, attack.csv and attack.npz."""
    document = found.document
    write_attacks(found.rows, found.dataset, out / "attack.csv", repaired="repaired" in document)
    write_attacked(found.images, found.fixed, found.dataset, out / "attack.npz")
    (out / "attack.json").write_text(json.dumps(document, indent=1))
    (out / "attack.html").write_text(attack_page.render(document), encoding="utf-8")
