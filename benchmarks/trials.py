"""Repairs that are made by several methods from the same samples: which they are, and the samples, kept on disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.backdoor import PATCH, TARGET
from benchmarks.engine import Job, State, job_of, searched
from benchmarks.sources import SOURCES


@dataclass(frozen=True)
class Trial:
    """A repair to be made.

    Attributes:
        source: a name of `SOURCES`.
        trigger: the patch that is pasted on the images, as `repair_engine.repair` takes it.
    """

    name: str
    source: str
    metric: str
    max_clean_drop: float = 0.02
    trigger: Any = field(default=None, compare=False)


STOCK_TAGS = Trial("stock_tags, subgroup", "stock_tags", "subgroup-recall:subgroup")
CATDOG = Trial("catdog, breeds", "catdog", "subgroup-recall:subgroup", 0.05)
RESNET8 = Trial("resnet8, recall of cat", "resnet8", "recall:cat", 0.05)
FASHION = Trial("fashion, recall of shirts", "fashion", "recall:6_shirt", 0.05)
WRITERS = Trial("mnist, writers", "writers", "subgroup-recall:subgroup")
TAG = Trial("stock_tags, tag", "stock_tags", "subgroup-recall:tag")
ATTACKED = Trial("resnet8, attacked", "resnet8", "attack-success", 0.07)  # the paper's price
BACKDOOR = Trial("backdoor", "backdoor", f"trigger-success:{TARGET}", trigger=np.repeat(PATCH[None], 3, axis=0))


@contextmanager
def sampled(
    trial: Trial, seed: int, budget: int, keep: Path, say: Callable[[str], None]
) -> Iterator[tuple[Job, State, State | None]]:
    """The trial's job with the final states of its search and confirmation.

    Args:
        keep: a folder where the states are left, and taken from where they are.

    Raises:
        MissingData: the trial's files are not here.
    """
    source, options = SOURCES[trial.source], {"seed": seed, "budget": budget, "max_clean_drop": trial.max_clean_drop}
    if trial.trigger is not None:
        options["trigger"] = trial.trigger
    with job_of("repair", *source.open(), trial.metric, **options) as job:
        files = keep / "search.bin", keep / "confirm.bin"
        if not files[0].exists():
            began = time.process_time()
            states = searched(job)
            keep.mkdir(parents=True, exist_ok=True)
            for file, state in reversed([*zip(files, states, strict=True)]):  # the search last: then both are there
                if state is not None:
                    file.write_bytes(state.to_bytes())
            say(f"{trial.name}, seed {seed}: searched in {time.process_time() - began:.0f} s")
        search, confirm = (State.from_bytes(file.read_bytes()) if file.exists() else None for file in files)
        assert search is not None
        yield job, search, confirm
