"""The apply verb: filters of a finished repair chosen by hand, and undo."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from repair_engine.cli import options
from repair_engine.cli.emit import emit
from repair_engine.errors import BadInput
from repair_engine.models import formats
from repair_engine.support.outputs import sha256
from repair_engine.verbs.redo import chosen_filters, edited, read_plan


def apply(args: argparse.Namespace) -> int:
    """Writes the original checkpoint with other filters of a repair's list ablated, or with none."""
    out, plan = Path(args.out), read_plan(args.plan)
    if out.exists():
        raise BadInput(f"--out: {out} exists already.", "Name a file that does not.")
    if not out.parent.is_dir():
        raise BadInput(f"--out: there is no folder {out.parent}.", "Make it first.")
    filters = chosen_filters(plan, _listed(args.without), _listed(args.filters))
    model = plan.model
    if not Path(args.model).is_file():
        raise BadInput(f"--model: there is no file {args.model}.")
    args.architecture = args.architecture or model["architecture"]
    args.num_classes = args.num_classes or model["num_classes"]
    args.arch_option = args.arch_option or [
        f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in model["options"].items()
    ]
    args.key, args.strip_prefix = args.key or model.get("key", ""), args.strip_prefix or model.get("strip_prefix", "")
    checkpoint = formats.read(args.model, options.architecture_of(args), args.weights or model.get("weights"))
    if out.suffix != checkpoint.source.suffix:
        raise BadInput(
            f"--out: {out.name} does not end in {checkpoint.source.suffix}.", "The format is that of the original file."
        )
    formats.write(checkpoint.edited(edited(checkpoint, plan, filters)), out)
    digest = sha256(out)
    document: dict[str, Any] = {
        "verb": "apply",
        "plan": str(args.plan),
        "filters": list(filters),
        "left_out": [name for name in plan.ablated if name not in filters],
        "added": [name for name in filters if name not in plan.ablated],
        "file": str(out),
        "sha256": digest,
        "same_as_repaired": digest == plan.checkpoint,
    }
    emit(args, document, apply_text)
    return 0


def apply_text(document: dict[str, Any]) -> str:
    """What the verb prints for people."""
    n = len(document["filters"])
    said = f"{n} filter{'' if n == 1 else 's'} ablated" if n else "Nothing ablated: the tensors are the original ones"
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


def _listed(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())
