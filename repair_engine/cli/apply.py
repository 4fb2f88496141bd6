"""The apply verb: filters of a finished repair chosen by hand, and undo."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from repair_engine.cli.emit import emit
from repair_engine.errors import BadInput
from repair_engine.models import formats
from repair_engine.settings import Apply, Network
from repair_engine.settings import options as fields
from repair_engine.support.outputs import sha256
from repair_engine.verbs import opening
from repair_engine.verbs.redo import chosen_filters, edited, read_plan


def apply(here: Apply, to: TextIO) -> int:
    """Writes the original checkpoint with other filters of a repair's list ablated, or with none."""
    out, plan = Path(here.out), read_plan(here.plan)
    if out.exists():
        raise BadInput(f"--out: {out} exists already.", "Name a file that does not.")
    if not out.parent.is_dir():
        raise BadInput(f"--out: there is no folder {out.parent}.", "Make it first.")
    filters = chosen_filters(plan, here.without, here.filters)
    model = plan.model
    if not Path(here.model).is_file():
        raise BadInput(f"--model: there is no file {here.model}.")
    own = {name: getattr(here, name) or model.get(name) or one.default for name, one in fields(Network).items()}
    architecture, weights_file = opening.architecture_of(replace(here, **own))
    checkpoint = formats.read(weights_file, architecture, own["weights"])
    if out.suffix != checkpoint.source.suffix:
        raise BadInput(
            f"--out: {out.name} does not end in {checkpoint.source.suffix}.", "The format is that of the original file."
        )
    whole = here.without is None and here.filters is None
    formats.write(checkpoint.edited(edited(checkpoint, plan, filters, whole)), out)
    digest = sha256(out)
    document: dict[str, Any] = {
        "verb": "apply",
        "plan": str(here.plan),
        "filters": list(filters),
        "left_out": [name for name in plan.ablated if name not in filters],
        "added": [name for name in filters if name not in plan.ablated],
        "file": str(out),
        "sha256": digest,
        "edit": plan.edit if whole else "ablate" if filters else None,
        "same_as_repaired": digest == plan.checkpoint,
    }
    emit(here, to, document, apply_text)
    return 0


def apply_text(document: dict[str, Any]) -> str:
    """What the verb prints for people."""
    n = len(document["filters"])
    said = f"{n} filter{'' if n == 1 else 's'} ablated" if n else "Nothing changed: the tensors are the original ones"
    if document["edit"] not in (None, "ablate"):
        said = f"The repair's edit {document['edit']} made again" + (f" with {said}" if n else "")
    lines = [f"{said}; {document['file']} (sha256 {document['sha256']})"]
    if document["left_out"]:
        lines.append(f"Of the repair's filters left as they were: {', '.join(document['left_out'])}")
    if document["added"]:
        lines.append(f"Beyond the repair: {', '.join(document['added'])}")
    if document["same_as_repaired"]:
        lines.append("This is the repaired checkpoint, byte for byte.")
    elif n:
        lines.append(
            "Nothing was measured of this file: `evaluate --model` it on images that no choice of filters has seen."
        )
    return "\n".join(lines)
