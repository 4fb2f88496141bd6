"""Checkpoints: layouts of other people's files."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path

from tests.repair_engine import layouts
from tests.repair_engine.formats.rows import Row
from tests.repair_engine.layouts import LAYOUTS, Layout


def _checkpoint(layout: Layout, folder: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch's own weight norm and quantization are old
        source = layouts.read(layout, folder).source
    said = [f"wrapper {{{level.key}}}" for level in source.wrapper]
    said += [f"prefix `{source.prefix}`"] if source.prefix else []
    beside = [key for key in source.order if key not in source.names.values()]
    said += [f"kept beside: {', '.join(beside)}"] if beside else []
    said += [f"not written back: {', '.join(source.dropped)}"] if source.dropped else []
    return "; ".join(said)


CHECKPOINTS = [Row(name, partial(_checkpoint, layout)) for name, layout in LAYOUTS.items()]
