"""The explain verb."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, TextIO

from repair_engine.cli import options
from repair_engine.cli.emit import emit
from repair_engine.cli.progress import Bars
from repair_engine.cli.text import players_text
from repair_engine.documents.known import is_known, unknown_words
from repair_engine.pages.explain_page import at_ends, samples_of, shown
from repair_engine.pages.explain_wording import advantage_line, headline, shift_text
from repair_engine.settings import ExplainHere
from repair_engine.support.outputs import claimed, results
from repair_engine.support.scratch import scratch
from repair_engine.verbs import pipeline

_SHOWN = 10


def explain(here: ExplainHere, to: TextIO) -> int:
    """Values of all filters, removal curves of every ranking, pictures of filters."""
    request, bars, out = options.request_of(here), Bars(here.json), Path(here.out)
    with claimed(out, "explain.json"), scratch("explain") as folder:
        job = pipeline.prepare_job(request, folder, bars.stage)
        for note in (players_text(job.case.network), *job.notes):
            print(note, file=sys.stderr)
        search = confirm = None
        settings = pipeline.phase_settings(job, "search")
        if settings is not None:
            search = pipeline.run_phase(job, settings, bars.counting("searching", settings.budget))
            again = pipeline.phase_settings(job, "confirm", search)
            if again is not None:
                confirm = pipeline.run_phase(job, again, bars.counting("confirming", again.budget))
        with results(out) as made:
            document = pipeline.run_finish(job, search, confirm, made, bars.stage)
        bars.close()
    emit(here, to, {**document, "out": str(out)}, explain_text)
    return 0


def explain_text(document: dict[str, Any]) -> str:
    """What the verb prints for people."""
    run = document["run"]
    lines = [
        f"{document['metric']['text']}: {run['estimator']}, {run['evaluations']:,} evaluations, seed {run['seed']}",
        *headline(document),
    ]
    for end, rows in zip(("Most", "Least"), at_ends(document), strict=True):
        known = [r for r in rows if is_known(*shown(r))]
        if not known:
            lines.append(f"{end} critical filters: not known. {_nothing_known(rows)}")
            continue
        lines.append(f"{end} critical filters (value, interval):")
        lines += [_filter_line(r) for r in rows[:_SHOWN]]
    lines.append("Mean of the metric over the removal curve:")
    lines += [f"  {advantage_line(document, row)}" for row in document["curves"]["advantages"]]
    lines.append(shift_text(document))
    lines.append(f"Page: {document['out']}/explain.html")
    return "\n".join([*lines, *(f"warning: {w}" for w in document["warnings"])])


def _nothing_known(rows: list[dict[str, Any]]) -> str:
    if all(shown(r)[0] is None for r in rows):
        return "None of them was sampled."
    return "Their intervals go from −1 to 1, all that a value can be; a larger --budget would narrow them."


def _filter_line(row: dict[str, Any]) -> str:
    value, low, high = shown(row)
    if value is None or low is None or high is None or not is_known(value, low, high):
        return f"  {row['id']:<44}  {unknown_words(samples_of(row), value)}"
    return f"  {row['id']:<44}{value:>+10.5f} [{low:+.5f}, {high:+.5f}]"
