"""report.html: the document of a repair as sections, and as one self-contained page without scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from repair_engine.documents.edits import clean_words
from repair_engine.documents.known import row_known
from repair_engine.documents.reasons import ends_of, judged
from repair_engine.pages import (
    attack_wording,
    charts,
    corruption_wording,
    fairness_wording,
    forgetting_wording,
    rendering,
    row_charts,
    trigger_wording,
)
from repair_engine.pages import repair_wording as words
from repair_engine.pages.by_kind import BY_KIND
from repair_engine.pages.calibration import CALIBRATION
from repair_engine.pages.interactions import INTERACTIONS
from repair_engine.pages.measured import MEASURED
from repair_engine.pages.rendering import Section
from repair_engine.pages.svg import responsive

if TYPE_CHECKING:
    from repair_engine.documents.records import CulpritRow, GroupRow, RepairRecord
    from repair_engine.studies.attack_rows import AttackRow


_ORDER = ("subgroups", "cells", "classes")  # of the tables of groups
_MOST_DRAWN = 24  # groups
_MOST_VALUES = 30
_ABSENT = {"transfer": "transfer from other models", "black-box": "a black-box attack"}


def render(document: RepairRecord) -> str:
    """The page for a report document (see `documents.report_document`)."""
    files = rendering.sections([("files", "Files and versions", "files.html")], d=document, **MEASURED)
    return rendering.page("repair/page.html", [*sections(document), *files], d=document, words=words)


def sections(document: RepairRecord) -> list[Section]:
    """The page's parts in the order in which they are read; the web pages show the same."""
    listed = [
        ("figures", "At a glance", "repair/figures.html"),
        *([("trigger", "Trigger", "repair/trigger.html")] if "trigger" in document else []),
        *([("corruption", "Corruptions", "repair/corruption.html")] if "corruption" in document else []),
        *([("forgetting", "Forgetting", "repair/forgetting.html")] if "forgetting" in document else []),
        ("notices", "Findings and warnings", "notices.html"),
        ("groups", "Groups", "repair/groups.html"),
        *([("calibration", "Calibration", "repair/calibration.html")] if "calibration" in document else []),
        ("controls", "Controls", "repair/controls.html"),
        ("choice", "Choice of the number of filters", "repair/choice.html"),
        ("culprits", "Culprits", "repair/culprits.html"),
        *([("by-kind", "By kind of unit", "repair/by_kind.html")] if "by_kind" in document else []),
        *([("attack", "Attack", "repair/attack.html")] if "attack" in document else []),
        *([("compact", "Compact export", "repair/compact.html")] if "compact" in document else []),
        ("method", "How it was measured", "measured.html"),
        ("verification", "Verification", "repair/verification.html"),
        ("limits", "Limits", "repair/limits.html"),
        ("not-players", "Not players", "not_players.html"),
    ]
    return rendering.sections(listed, d=document, words=words, **_SHOWN, **MEASURED)


def glance(document: RepairRecord) -> list[Mapping[str, object]]:
    """Metric, goal, clean accuracy and guard set before and after, each with its number of images."""
    before, after = document["before"]["report"], document["after"]["report"]
    n, _ = words.metric_images(document)
    aim = "lower is better" if words.lowers(document) else "higher is better"
    rows: list[Mapping[str, object]] = [
        {"what": document["metric"]["text"], "aim": aim, "n": n, "before": before["metric"], "after": after["metric"],
         "change": document.get("gain")}
    ]  # fmt: skip
    if (ends := ends_of(document)) is not None:
        change, what, lower = judged(document)
        aim = f"chosen and judged by this; {'lower' if lower else 'higher'} is better"
        row = {"what": what.removeprefix("the "), "aim": aim, "n": document["images_right"]["n"], "change": change}
        rows.append({**row, "before": ends[0], "after": ends[1]})
    if document["metric"]["name"] != "accuracy":
        n = document["images_right"]["n"]
        rows.append(
            {"what": clean_words(document), "aim": "", "n": n, "before": before["accuracy"], "after": after["accuracy"],
             "change": document.get("clean_change")}
        )  # fmt: skip
    if "guard" in document:
        rows.append({"what": "accuracy on the guard set", "aim": "", "change": None, **document["guard"]})
    return rows


def groups(document: RepairRecord) -> list[tuple[str, list[GroupRow]]]:
    """The tables of groups in the order in which they are read."""
    return [(which, document["groups"][which]) for which in sorted(document["groups"], key=_ORDER.index)]


def drawn_groups(rows: Sequence[GroupRow]) -> list[GroupRow]:
    """The groups that changed most; none where all are too small to be drawn."""
    drawn = sorted(rows, key=lambda r: -abs(r["change"]))[:_MOST_DRAWN]
    if all(r["size"] == "too few" for r in drawn):
        return []
    return [r for r in rows if any(r is d for d in drawn)]


def groups_chart(which: str, rows: Sequence[GroupRow], changed: bool) -> Markup:
    heading = f"Recall of {which} on the report images"
    return responsive(lambda w: row_charts.before_after(rows, changed, heading, width=w, ident=f"groups-{which}"))


def controls_chart(document: RepairRecord) -> Markup:
    data = [row_charts.Bar(words.own_row(document), document["after"]["report"]["metric"], marked=True)]
    data += [
        row_charts.Bar(r["name"], r["metric"], *(r.get("metric_range") or (None, None))) for r in document["controls"]
    ]
    heading = f"{document['metric']['text']} by the repair and by its controls"
    reference = ("intact model", document["before"]["report"]["metric"])
    return responsive(lambda w: row_charts.bars(data, heading, reference, width=w, ident="controls"))


def curve_chart(document: RepairRecord) -> Markup:
    steps, metric = document["curve"], document["metric"]
    floor = max(0.0, steps[0]["clean"] - document["limits"]["max_clean_drop"])
    same = metric["name"] == "accuracy"
    return responsive(
        lambda w: charts.removal_curve(
            steps, document["k"], metric["text"], floor=floor, one_line=same, clean=clean_words(document), width=w
        )
    )


def front_chart(document: RepairRecord) -> Markup:
    return responsive(lambda w: charts.front(document, width=w))


def known_rows(rows: Sequence[CulpritRow]) -> list[CulpritRow]:
    """The first candidates whose values are known."""
    return [r for r in rows if row_known(r)][:_MOST_VALUES]


def values_chart(rows: Sequence[CulpritRow], heading: str) -> Markup:
    data = [row_charts.ValueRow(r["id"], r["value"] or 0.0, r["lower"], r["upper"], r["ablated"]) for r in rows]
    return responsive(lambda w: row_charts.interval_plot(data, heading, width=w))


def beyond(document: RepairRecord) -> int:
    """How many candidates have an interval wholly on the culprits' side of zero."""
    up = document["culprit_sign"] > 0
    near = [r["lower" if up else "upper"] for r in document["culprits"]]
    return sum(end is not None and (end > 0 if up else end < 0) for end in near)


def not_measured(rows: Sequence[AttackRow]) -> list[str]:
    """Which kinds of attack have no row."""
    return [what for kind, what in _ABSENT.items() if not any(r.get("kind") == kind for r in rows)]


_SHOWN: dict[str, Any] = {
    **rendering.named(glance, groups, drawn_groups, groups_chart, controls_chart, curve_chart, front_chart),
    **rendering.named(known_rows, values_chart, beyond, not_measured),
    **BY_KIND,
    **CALIBRATION,
    **INTERACTIONS,
    "SIZES": words.SIZES,
    "fairness_words": fairness_wording,
    "attack_words": attack_wording,
    "trigger_words": trigger_wording,
    "corruption_words": corruption_wording,
    "forgetting_words": forgetting_wording,
}
