"""The edit of a repair: what is written, what undoes it, and what the report says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from safetensors.torch import load_file, save_file
from torch import Tensor

from repair_engine.edits.deciding import decide
from repair_engine.edits.kinds import KINDS, touched
from repair_engine.edits.model import changed
from repair_engine.edits.records import EditSection
from repair_engine.edits.workshop import Workshop
from repair_engine.errors import BadInput
from repair_engine.support.outputs import listed, sha256

TUNED = "edit.safetensors"  # the tensors that tuning changed, whole, as the repaired checkpoint has them


@dataclass(frozen=True)
class Edited:
    """What a repair writes.

    Attributes:
        used: the kind of edit; None: the model stays as it is.
        tensors: of the repaired checkpoint.
        ablated: players, in order.
        tuned: key -> tensor that is not what ablation alone would write; empty for "ablate".
        said: see `describe`.
    """

    used: str | None
    tensors: Mapping[str, Tensor]
    ablated: np.ndarray
    tuned: Mapping[str, Tensor]
    said: dict[str, Any]

    def describe(self) -> EditSection:
        """For the report."""
        return cast(EditSection, {**self.said, "tuned": sorted(self.tuned)})


def edit_of(workshop: Workshop) -> Edited:
    """The edit that is asked for: of "ablate" the plan's culprits, of others what `decide` takes.

    Where that is nothing, filters that were chosen by hand are ablated all the same.
    """
    subject, plan, asked = workshop.case.subject, workshop.plan, workshop.case.settings.edit
    intact = subject.checkpoint.tensors

    def ablated(players: np.ndarray) -> dict[str, Tensor]:
        return subject.ablated(int(p) for p in players)

    def plain(said: dict[str, Any]) -> Edited:
        """The plan's culprits ablated, and nothing tuned."""
        tensors = ablated(plan.chosen)
        units, parameters = touched(subject.network, intact, tensors) if plan.k else (0, 0)
        used = "ablate" if plan.k else None
        amount = {"used": used, "words": KINDS["ablate"].words, "units": units, "parameters": parameters}
        return Edited(used, tensors, plan.chosen, {}, said | amount)

    if asked == "ablate":
        return plain({"asked": asked, "evaluations": 0, "rows": [], "retrained": []})
    decision = decide(workshop, asked)
    made = decision.used
    said = decision.describe() | {"retrained": []}
    if made is None and workshop.case.settings.by_hand and KINDS[asked].ablates:
        return plain(said)  # what is chosen by hand is ablated, though it may not help
    if made is None:
        return Edited(None, intact, plan.players[:0], {}, said | {"words": KINDS.get(asked, KINDS["ablate"]).words})
    said["words"] = KINDS[made.name].words
    if KINDS[made.name].tunes == "culprits":
        said["retrained"] = [subject.network.filter_id(int(p)) for p in made.players]
    return Edited(made.name, made.tensors, made.ablated, changed(ablated(made.ablated), made.tensors), said)


def write_tuned(edit: Edited, folder: Path) -> dict[str, dict[str, str]]:
    """Writes what tuning changed beside the checkpoint, so that `apply` can make the edit again; its entry in files."""
    if not edit.tuned:
        return {}
    save_file({key: tensor.detach().contiguous().clone() for key, tensor in edit.tuned.items()}, folder / TUNED)
    return listed(folder, {"edit": TUNED})


def read_tuned(folder: Path, files: Mapping[str, Any]) -> dict[str, Tensor]:
    """What `write_tuned` left; empty where nothing was tuned.

    Raises:
        BadInput: the file is not there, or is not the one that the repair wrote.
    """
    if "edit" not in files:
        return {}
    path = folder / Path(str(files["edit"]["name"])).name
    if not path.is_file():
        raise BadInput(f"{path} is missing: it holds the tensors that the repair tuned.", "It lies beside repair.json.")
    if sha256(path) != files["edit"]["sha256"]:
        raise BadInput(f"{path} is not the file that the repair wrote (its sha256 differs).", "Take the repair's own.")
    return load_file(path)
