"""The compare verb."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from repair_engine.cli.emit import emit
from repair_engine.documents.compare import compare as compare_results
from repair_engine.pages.compare_page import render
from repair_engine.pages.compare_wording import compare_text
from repair_engine.settings import Compare
from repair_engine.support.outputs import claimed, results, write_json


def compare(here: Compare, to: TextIO) -> int:
    """Rank correlation and overlap of two results; histograms and removal curves side by side."""
    document = compare_results(here.first, here.second)
    if here.out:
        out = Path(here.out)
        with claimed(out), results(out) as made:
            write_json(document, made / "compare.json")
            (made / "compare.html").write_text(render(document), encoding="utf-8")
        document["out"] = str(out)
    emit(here, to, document, compare_text)
    return 0
