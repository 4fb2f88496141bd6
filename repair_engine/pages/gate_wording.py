"""Judged gates: in the terminal, as a comment on a pull request (summary.md), and as JUnit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape, quoteattr

from repair_engine.documents.edits import clean_words
from repair_engine.documents.reasons import ends_of, judged
from repair_engine.pages.repair_wording import headline, metric_images, title
from repair_engine.support.words import count, percent, points

if TYPE_CHECKING:
    from repair_engine.documents.gates import GateRow, GatesRecord

_MARKS = {"passed": "✅", "failed": "❌", "skipped": "➖"}
_MOST_GROUPS = 8  # rows of subgroups or classes: those that changed most
_WORST_SHOWN = 30  # images below which a group's change says little


def gates_text(judged: GatesRecord) -> str:
    """For the terminal."""
    rows = [f"{row['verdict']:8}{row['text']}: {measured(row)}" for row in judged["gates"]]
    return "\n".join([*rows, f"{judged['verdict']}: {counted(judged)}"])


def counted(judged: GatesRecord) -> str:
    """How many of the gates passed."""
    verdicts = [row["verdict"] for row in judged["gates"]]
    skipped = f", {verdicts.count('skipped')} skipped" if "skipped" in verdicts else ""
    return f"{verdicts.count('passed')} of {count(len(verdicts), 'gate')} passed{skipped}"


def measured(row: GateRow) -> str:
    """The figure with its interval and its images, and what led to the verdict where the figure did not."""
    if row["value"] is None:
        return row["why"]
    said = f"{row['value']:.4g}"
    if row["lower"] is not None and row["upper"] is not None:
        said += f" ({row['lower']:.4g} to {row['upper']:.4g})"
    said += f", n = {row['n']:,}" if row["n"] is not None else ""
    return said + (f"; {row['why']}" if row["why"] else "")


def summary(judged: GatesRecord, document: Mapping[str, Any]) -> str:
    """Markdown: the verdict, what was done in a sentence, the gates, before and after, then what stands behind it."""
    failed = judged["verdict"] == "failed"
    lines = [f"### {_MARKS[judged['verdict']]} Neuron repair: {'gate failed' if failed else 'gates passed'}", ""]
    whole = document.get("verb") == "repair" and "after" in document
    if whole:
        lines += [f"**{title(document)}.** {_cell(headline(document))}", ""]  # type: ignore[arg-type]
    lines += [f"{counted(judged)}.", "", "| | gate | measured |", "|---|---|---|"]
    # What failed comes first: it is what one looks for.
    for row in sorted(judged["gates"], key=lambda row: row["verdict"] != "failed"):
        lines.append(f"| {_MARKS[row['verdict']]} | {_cell(row['text'])} | {_cell(measured(row))} |")
    if whole:
        lines += ["", "| on the report images | n | before | after | change in points |", "|---|--:|--:|--:|---|"]
        lines += [f"| {' | '.join(cells)} |" for cells in _rows(document)]
        lines += [""] * bool(document["warnings"])
        lines += [f"- ⚠️ {_cell(warning)}" for warning in document["warnings"]]
    return "\n".join([*lines, "", *_behind(judged, document)]) + "\n"


def _rows(document: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    before, after = (document[side]["report"] for side in ("before", "after"))
    n, _ = metric_images(document)  # type: ignore[arg-type]
    yield _row(document["metric"]["text"], n, before["metric"], after["metric"], document["gain"])
    images = document["images_right"]["n"]
    if (ends := ends_of(document)) is not None:
        change, what, _ = judged(document)
        assert change is not None
        yield _row(what.removeprefix("the "), images, *ends, change)
    yield _row(
        clean_words(document, "accuracy"), images, before["accuracy"], after["accuracy"], document["clean_change"]
    )
    if guard := document.get("guard"):
        yield _row("accuracy of the guard set", guard["n"], guard["before"], guard["after"], guard["change"])
    if rows := (document.get("fairness") or {}).get("rows"):
        groups = [(row["name"], row["n"], row["before"], row["after"], row["change"]) for row in rows]
    else:
        rows = document["groups"].get("classes", [])
        groups = [(row["name"], row["n"], row["before"], row["after"], {"value": row["change"]}) for row in rows]
    groups = sorted((one for one in groups if one[1] >= _WORST_SHOWN), key=lambda one: -abs(one[4]["value"]))
    for one in groups[:_MOST_GROUPS]:
        yield _row(*one)


def _row(name: str, n: int, before: float, after: float, change: Mapping[str, Any]) -> tuple[str, ...]:
    said = points(change["value"])
    if "lower" in change:
        said += f" ({points(change['lower'])} to {points(change['upper'])})"
    return _cell(name), f"{n:,}", percent(before), percent(after), said


def _behind(judged: GatesRecord, document: Mapping[str, Any]) -> list[str]:
    found = [f"gates SHA-256 `{judged['gates_sha256'][:12]}`, report SHA-256 `{judged['report_sha256'][:12]}`"]
    for what, key in (("model", "model"), ("images", "data")):
        if isinstance(one := document.get(key), dict) and "sha256" in one:
            found.append(f"{what} `{_code(one['file'])}`, SHA-256 `{one['sha256'][:12]}`")
    if isinstance(run := document.get("run"), dict) and "evaluations" in run:
        found.append(f"{run['evaluations']:,} evaluations, seed {run['seed']}, {run['device']}")
    return ["<details><summary>What stands behind it</summary>", "", *(f"- {one}" for one in found), "", "</details>"]


def _cell(text: str) -> str:
    """Of others' text, such as names of classes: neither a column more nor markup."""
    return re.sub(r"([|\\`*_<>\[\]#])", r"\\\1", text).replace("\n", " ")


def _code(text: str) -> str:
    return text.replace("`", "'").replace("\n", " ")


def junit(judged: GatesRecord) -> str:
    """A case for each gate."""
    cases = []
    for row in judged["gates"]:
        kind = {"failed": "failure", "skipped": "skipped", "passed": ""}[row["verdict"]]
        said = _xml(f"measured {measured(row)}")
        inner = f"<{kind} message={quoteattr(said)}>{escape(said)}</{kind}>" if kind else ""
        name = quoteattr(_xml(row["text"]))
        cases.append(f'  <testcase classname="neuron_repair.gates" name={name}>{inner}</testcase>')
    verdicts = [row["verdict"] for row in judged["gates"]]
    head = (
        f'<testsuite name="neuron_repair.gates" tests="{len(cases)}" failures="{verdicts.count("failed")}" errors="0" '
        f'skipped="{verdicts.count("skipped")}">'
    )
    return "\n".join(['<?xml version="1.0" encoding="UTF-8"?>', head, *cases, "</testsuite>"]) + "\n"


def _xml(text: str) -> str:
    """Without what XML cannot hold."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text)
