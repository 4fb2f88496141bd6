"""The compare verb."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from repair_engine.cli.emit import emit
from repair_engine.documents.compare import compare as compare_results
from repair_engine.pages.compare_page import render
from repair_engine.pages.compare_wording import compare_text
from repair_engine.support.outputs import claimed, results


def compare(args: argparse.Namespace) -> int:
    """Rank correlation and overlap of two results; histograms and removal curves side by side."""
    document = compare_results(args.first, args.second)
    if args.out:
        out = Path(args.out)
        with claimed(out), results(out) as made:
            (made / "compare.json").write_text(json.dumps(document, indent=1))
            (made / "compare.html").write_text(render(document), encoding="utf-8")
        document = {**document, "out": str(out)}
    emit(args, document, compare_text)
    return 0
