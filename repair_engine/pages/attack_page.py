"""attack.html: the document of the attack verb as sections, and as one self-contained page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from markupsafe import Markup

from repair_engine.pages import attack_wording as words
from repair_engine.pages import charts, rendering
from repair_engine.pages.measured import plain, processor
from repair_engine.pages.rendering import Section
from repair_engine.pages.svg import responsive
from repair_engine.support.words import length

if TYPE_CHECKING:
    from repair_engine.documents.attack import AuditRecord
    from repair_engine.studies.attack_curves import PointRecord


Axis = Literal["epsilon", "steps"]
_FIGURES = (
    ("success", "attack success", "of the attacked images"),
    ("true_label", "true label recovered", "of the attacked images"),
    ("clean_accuracy", "clean accuracy", "of all that were picked"),
    ("accuracy_under_attack", "accuracy under attack", "of all that were picked"),
)


def render(document: AuditRecord) -> str:
    """The page for what the attack verb measured."""
    shown = {"d": document, "words": words, "headline": words.headline(document)}
    return rendering.page("attack/page.html", sections(document), **shown)


def sections(document: AuditRecord) -> list[Section]:
    """The page's parts; the web pages show the same."""
    listed = [
        ("figures", "At a glance", "attack/figures.html"),
        *([("rows", "Before and after the repair", "attack/rows.html")] if document["rows"] else []),
        ("curves", "Success against ε and steps", "attack/curves.html"),
        ("self-tests", "Self-tests, and signs of masked gradients", "attack/self_tests.html"),
        ("warnings", "Warnings", "notices.html"),
        ("method", "How it was measured", "attack/method.html"),
        ("files", "Files and versions", "attack/files.html"),
    ]
    return rendering.sections(listed, d=document, **_SHOWN)


def figures(document: AuditRecord) -> list[Mapping[str, object]]:
    """Rates with their intervals, of the model and, where there are queries, of the black-box attack."""
    rows: list[Mapping[str, object]] = [
        {"text": text, "of": of, **document["figures"][key]} for key, text, of in _FIGURES
    ]
    if "black_box" in document:
        black = document["black_box"]
        most = f"of the subset, at most {black['queries']:,} queries each, {black['queries_used']:.0f} on average"
        rows.append({"text": "success by queries alone (Square)", "of": most, **black["success"]})
    if "clean_after" in document:
        after = document["clean_after"]["accuracy"]
        rows.append({"text": "clean accuracy of the repaired model", "of": _FIGURES[2][2], **after})
    return rows


def part(document: AuditRecord) -> str:
    """Of which images the figures are."""
    return "All images" if document["images"]["part"] == "all" else "Images of the report split"


def by_model(document: AuditRecord, key: Axis) -> dict[str, Sequence[PointRecord]]:
    """Points against ε or steps of each model."""
    found: dict[str, Sequence[PointRecord]] = {"the model": document["curves"][key]}
    if "curves_repaired" in document:
        found["the repaired model"] = document["curves_repaired"][key]
    return found


def labels_of(document: AuditRecord, key: Axis) -> list[str]:
    """What the points are called."""
    norm, points = document["attack"]["norm"], document["curves"][key]
    return [length(p[key], norm) if key == "epsilon" else f"{p[key]:,}" for p in points]


def success_chart(document: AuditRecord, key: Axis, heading: str, axis: str) -> Markup:
    points, attack = document["curves"][key], document["attack"]
    asked = min(range(len(points)), key=lambda i: abs(points[i][key] - attack[key]))
    models, labels = by_model(document, key), labels_of(document, key)
    ident = f"success-{key}"
    return responsive(lambda w: charts.success(models, labels, asked, heading, axis, width=w, ident=ident))


_SHOWN: dict[str, Any] = {
    **rendering.named(figures, part, by_model, labels_of, success_chart, plain, processor),
    "words": words,
    "attack_words": words,
}
