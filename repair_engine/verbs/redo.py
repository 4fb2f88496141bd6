"""Another choice of filters from the list of a finished repair, from its repair.json and the original checkpoint.

Nothing is searched and no image is needed: repair.json holds for each ranked filter the edits that ablate it, and the
file edit.safetensors beside it the tensors that a repair tuned.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from repair_engine.errors import BadInput
from repair_engine.models.formats import Checkpoint
from repair_engine.network.write_back import Edit, apply_edits
from repair_engine.verbs.editing import read_tuned

_AGAIN = "It is the repair.json of a `repair` by this version; an older one holds no edits: run `repair` again."


@dataclass(frozen=True)
class Recorded:
    """What a repair.json says of its filters.

    Attributes:
        path: of the file, for messages.
        model: its inputs.model: file, sha256, architecture, num_classes, options, weights, key, strip_prefix.
        edits: of every ranked filter, worst first.
        ablated: the filters that the repair ablated, in order.
        checkpoint: sha256 of the checkpoint that it wrote, None where it wrote none.
        edit: what the repair did, such as "ablate+head"; None where it did nothing.
        files: name and sha256 of what lies beside it.
    """

    path: str
    model: Mapping[str, Any]
    edits: Mapping[str, tuple[Edit, ...]]
    ablated: tuple[str, ...]
    checkpoint: str | None
    edit: str | None
    files: Mapping[str, Any]


def read_plan(path: str | Path) -> Recorded:
    """Reads a repair.json. Raises BadInput where it is none, or is damaged."""
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        rows = [*document["filters"], *document["candidates"]]
        edits = {row["id"]: tuple(_edit(edit) for edit in row["edits"]) for row in rows}
        model = document["inputs"]["model"]
        str(model["sha256"]), str(model["architecture"]), int(model["num_classes"]), dict(model["options"])
        ablated = tuple(row["id"] for row in document["filters"])
        files = dict(document.get("files", {}))
        written = files.get("checkpoint", {}).get("sha256")
        edit = document.get("edit", {}).get("used", "ablate" if ablated else None)  # older: nothing but ablation
    except OSError as error:
        raise BadInput(f"--plan: {path} cannot be read ({error.strerror}).") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"--plan: {path} is no repair.json with a list of edits ({error!r}).", _AGAIN) from error
    return Recorded(str(path), model, edits, ablated, written, edit, files)


def _edit(row: Mapping[str, Any]) -> Edit:
    return Edit(str(row["key"]), int(row["channel"]), float(row["value"]), bool(row["added"]))


def chosen_filters(plan: Recorded, without: Sequence[str] | None, only: Sequence[str] | None) -> tuple[str, ...]:
    """The filters to ablate, in the plan's order.

    Args:
        without: of those that were ablated, these are left; ("all",) leaves all.
        only: these of the plan's filters and candidates; None = those that were ablated.

    Raises:
        BadInput: a filter is not in the plan, or is named twice.
    """
    if only is not None:
        _check("--filters", only, plan.edits, "rank")
        return tuple(name for name in plan.edits if name in only)
    dropped = plan.ablated if without and tuple(without) == ("all",) else without or ()
    _check("--without", dropped, plan.ablated, "ablate")
    return tuple(name for name in plan.ablated if name not in dropped)


def _check(option: str, named: Sequence[str], known: Sequence[str] | Mapping[str, object], did: str) -> None:
    twice = sorted({name for name in named if list(named).count(name) > 1})
    if twice:
        raise BadInput(f"{option} names {twice[0]} twice.", "Name each filter once.")
    foreign = [name for name in named if name not in known]
    if foreign:
        shown = ", ".join(list(known)[:8]) + (", …" if len(known) > 8 else "")
        raise BadInput(
            f"{option}: that repair did not {did} {', '.join(foreign[:5])}.",
            f"It did: {shown or 'none'}. For any other filter run `repair` or `evaluate --ablate`.",
        )


def edited(
    checkpoint: Checkpoint, plan: Recorded, filters: Sequence[str], whole: bool = False
) -> dict[str, torch.Tensor]:
    """The checkpoint's tensors with the filters ablated, in the given order; with none, the intact tensors.

    Args:
        whole: all that the repair did, what it tuned with it.

    Raises:
        BadInput: the plan is of another file, or names tensors that this one does not have; a part is asked for of what
            was tuned as a whole.
    """
    if checkpoint.sha256 != plan.model["sha256"]:
        raise BadInput(
            f"{plan.path} is of a model with sha256 {str(plan.model['sha256'])[:16]}…; this one has "
            f"{checkpoint.sha256[:16]}….",
            f"Give the original checkpoint ({plan.model.get('file', 'unknown')}), not a repaired one.",
        )
    if "edit" in plan.files and filters and not whole:
        raise BadInput(
            f"{plan.path} is of the edit {plan.edit}, which was tuned with all of its culprits as they are: no part of "
            "it can be chosen.",
            "Leave --filters and --without out for all of it; --without all undoes it.",
        )
    found = [edit for name in filters for edit in plan.edits[name]]
    for edit in found:
        tensor = checkpoint.tensors.get(edit.key)
        if tensor is None or tensor.dim() == 0 or not 0 <= edit.channel < len(tensor):
            raise BadInput(
                f"{plan.path} edits row {edit.channel} of {edit.key}, which the model does not have.", _AGAIN
            )
    tensors = apply_edits(checkpoint.tensors, found)
    tuned = read_tuned(Path(plan.path).parent, plan.files) if whole else {}
    if foreign := [key for key, tensor in tuned.items() if key not in tensors or tensors[key].shape != tensor.shape]:
        raise BadInput(f"{plan.path} tunes {foreign[0]}, which the model does not have in that shape.", _AGAIN)
    return tensors | tuned
