"""The gate verb."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TextIO

from repair_engine.cli.emit import emit
from repair_engine.documents import gates
from repair_engine.errors import BadInput
from repair_engine.pages.gate_wording import gates_text, junit, summary
from repair_engine.settings import GateHere
from repair_engine.support.outputs import claimed, results

GATE_FAILED = 1


def gate(here: GateHere, to: TextIO) -> int:
    """Judge a report by a file of gates."""
    try:
        text = Path(here.gates).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{here.gates} cannot be read: {error}.", "", "gates") from None
    asked = gates.parse(text, here.gates)
    document, sha256 = gates.read_report(here.report)
    judged = gates.judge(document, asked, sha256)
    if here.out:
        out = Path(here.out)
        with claimed(out), results(out) as made:
            (made / "gate.json").write_text(json.dumps(judged, indent=1) + "\n", encoding="utf-8")
            (made / "summary.md").write_text(summary(judged, document), encoding="utf-8")
            (made / "junit.xml").write_text(junit(judged), encoding="utf-8")
    emit(here, to, judged, gates_text)
    return 0 if judged["verdict"] == "passed" else GATE_FAILED
