"""The attack verb."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from repair_engine.cli import options
from repair_engine.cli.emit import emit
from repair_engine.pages.text import attack_text
from repair_engine.settings import AttackHere
from repair_engine.support.bars import Bars
from repair_engine.support.outputs import claimed, results
from repair_engine.support.scratch import scratch
from repair_engine.verbs.attack import run


def attack(here: AttackHere, to: TextIO) -> int:
    """What adversaries achieve against a checkpoint; with --repaired, before and after."""
    request, bars = options.request_of(here), Bars(here.json)
    out = Path(here.out) if here.out else None
    with claimed(out), scratch("attack") as folder:
        found = run(request, here.repaired, here.all_images, folder, bars.stage)
        bars.close()
        if out is not None:
            with results(out) as made:
                found.write(made)
    document = found.document
    emit(here, to, document, attack_text)
    return 0
