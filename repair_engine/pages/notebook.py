"""Results in a notebook's cell: the head of their page and the curve, styled inside one element."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from markupsafe import Markup

from repair_engine.pages import (
    attack_page,
    attack_wording,
    compare_page,
    compare_wording,
    explain_page,
    explain_wording,
    rendering,
    repair_page,
    repair_wording,
    score_page,
    verify_text,
)
from repair_engine.pages.rendering import Section

if TYPE_CHECKING:
    from repair_engine.case.inspection import InspectRecord
    from repair_engine.documents.attack import AuditRecord
    from repair_engine.documents.compare import CompareRecord
    from repair_engine.documents.explain import ExplainRecord
    from repair_engine.documents.objectives import ScoreRecord
    from repair_engine.documents.records import EvaluateRecord, RepairRecord
    from repair_engine.verbs.checks import VerifyRecord


def repair(document: RepairRecord) -> str:
    """Outcome, figures, and the curve by which the number of filters was chosen."""
    outcome = rendering.render("repair/outcome.html", d=document, words=repair_wording)
    parts = _picked(repair_page.sections(document), "figures", "trigger", "corruption", "choice", "notices")
    return _cell(repair_wording.title(document), parts, outcome=outcome)


def explanation(document: ExplainRecord) -> str:
    """The sentences at the head, and the removal curves."""
    parts = _picked(explain_page.sections(document), "curves", "notices")
    return _cell(f"What {document['metric']['text']} is made of", parts, explain_wording.headline(document))


def scores(document: ScoreRecord) -> str:
    """The filters of lowest and of highest value."""
    parts = _picked(score_page.sections(document), "filters", "notices")
    return _cell(f"Values for {document['metric']['text']}", parts, score_page.headline(document))


def attack(document: AuditRecord) -> str:
    """Figures, and rows before and after where there is a repaired model."""
    parts = _picked(attack_page.sections(document), "figures", "rows", "curves", "warnings")
    return _cell("Under attack", parts, attack_wording.headline(document))


def comparison(document: CompareRecord) -> str:
    """Agreement in sentences, and the overlaps of the ends."""
    parts = _picked(compare_page.sections(document), "agreement", "overlap", "notices")
    return _cell("Two results compared", parts, compare_wording.headline(document))


def evaluation(document: EvaluateRecord) -> str:
    """Metric and clean accuracy by split."""
    models = [("intact", document["figures"])]
    if "figures_ablated" in document:
        models.append((f"{len(document['ablated'])} ablated", document["figures_ablated"]))
    rows = [{"model": name, "part": part, **row} for name, figures in models for part, row in figures.items()]
    body = rendering.render("notebook/evaluation.html", d=document, rows=rows)
    return _cell(f"{document['metric']['text']} by split", [Section("", "", body), *_warned(document)])


def inspection(document: InspectRecord) -> str:
    """Sites, and what are no players."""
    body = rendering.render("notebook/inspection.html", d=document)
    return _cell(document["architecture"], [Section("", "", body), *_warned(document)])


def verified(document: VerifyRecord) -> str:
    """A line a check."""
    return _cell("What was checked", [], verify_text.verify_text(document).splitlines())


def _picked(parts: Iterable[Section], *idents: str) -> list[Section]:
    by_ident = {part.ident: part for part in parts}
    return [by_ident[ident] for ident in idents if ident in by_ident]


def _warned(document: EvaluateRecord | InspectRecord) -> list[Section]:
    return rendering.sections([("notices", "Warnings", "notices.html")] if document["warnings"] else [], d=document)


def _cell(heading: str, parts: Iterable[Section], headline: Iterable[str] = (), outcome: Markup | None = None) -> str:
    shown = {"heading": heading, "headline": list(headline), "outcome": outcome, "parts": list(parts)}
    return str(rendering.render("notebook/cell.html", styles=_STYLES, **shown))


def _nested(sheet: str) -> Markup:
    """The page's stylesheet for one element alone: what is the page's own becomes the element's."""
    sheet = re.sub(r"(?m)^( *)(:root|html|body)(?= *\{)", r"\1&", re.sub(r"@page \{[^}]*\}", "", sheet))
    return Markup(f".neuron-repair {{\n{sheet}\nh1, h2, h3 {{ color: inherit }}\n}}")


_STYLES = _nested(rendering.stylesheet())
