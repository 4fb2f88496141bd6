"""attack.html: the document of the attack verb as one self-contained page; the web pages show the same sections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from repair_engine.pages import attack_charts as charts
from repair_engine.pages import repair_page as html
from repair_engine.pages.attack_wording import headline, title
from repair_engine.pages.attacks import how_made, rows_table, settings_text
from repair_engine.pages.markup import Markup, definitions, details, element, join, name, table
from repair_engine.pages.repair_wording import count, processor
from repair_engine.pages.svg import percent, responsive
from repair_engine.support.words import length

Document = dict[str, Any]
Row = dict[str, Any]
_MODELS = {"intact": "the model", "repaired": "the repaired model"}
_FIGURES = (
    ("success", "attack success", "of the attacked images"),
    ("true_label", "true label recovered", "of the attacked images"),
    ("clean_accuracy", "clean accuracy", "of all that were picked"),
    ("accuracy_under_attack", "accuracy under attack", "of all that were picked"),
)


def render(document: Document) -> str:
    """The page for what the attack verb measured."""
    model, data, parts = document["model"], document["data"], sections(document)
    contents = element("ul", *(element("li", element("a", h, href=f"#{i}")) for i, h, _ in parts))
    body = join(
        (
            element("p", "Attack: ", name(model["file"]), " on ", name(data["file"]), class_="kicker"),
            element("h1", title(document)),
            element("div", *(element("p", said) for said in headline(document)), class_="verdict none"),
            element("nav", contents, aria_label="Contents"),
            *(element("section", element("h2", h, id=i), part, aria_labelledby=i) for i, h, part in parts),
        )
    )
    return html.page(f"{title(document)}: {model['file']}", body)


def sections(document: Document) -> list[tuple[str, str, Markup]]:
    """(id, heading, content) of the page's parts."""
    return [
        ("figures", "At a glance", figures(document)),
        *([("rows", "Before and after the repair", rows(document))] if document["rows"] else []),
        ("curves", "Success against ε and steps", curves(document)),
        ("self-tests", "Self-tests, and signs of masked gradients", self_tests(document)),
        ("warnings", "Warnings", warnings(document)),
        ("method", "How it was measured", method(document)),
        ("files", "Files and versions", files(document)),
    ]


def figures(document: Document) -> Markup:
    """Rates with their intervals, of the model and, where there are queries, of the black-box attack."""
    found = document["figures"]
    body = [_figure_cells(text, of, found[key]) for key, text, of in _FIGURES]
    if "black_box" in document:
        black = document["black_box"]
        most = f"of the subset, at most {black['queries']:,} queries each, {black['queries_used']:.0f} on average"
        body.append(_figure_cells("success by queries alone (Square)", most, black["success"]))
    if "clean_after" in document:
        body.append(
            _figure_cells("clean accuracy of the repaired model", _FIGURES[2][2], document["clean_after"]["accuracy"])
        )
    return table(
        f"{_part(document)}, 95% Wilson intervals", ("figure", "images", "rate", "95% interval"), body, (1, 2, 3)
    )


def _figure_cells(text: str, of: str, figure: Row) -> list[object]:
    ends = f"{percent(figure['lower'])} – {percent(figure['upper'])}"
    return [f"{text}, {of}", f"{figure['n']:,}", percent(figure["value"]), ends]


def rows(document: Document) -> Markup:
    """The four rows, and how each was made."""
    measured = [row for row in document["rows"] if row["success"] is not None]
    note = (
        "Success after the repair counts an image also where the repaired model is wrong without an attack. A repaired "
    )
    note += "model stays open to new attacks made on it."
    return join(
        (
            rows_table(document["rows"], "The same images, targets and ε before and after, 95% Wilson intervals"),
            element("p", note),
            element("h3", "How the rows were made"),
            definitions([(name(row["name"]), how_made(row)) for row in measured]),
        )
    )


def curves(document: Document) -> Markup:
    """Success against ε and against steps, of both models where there are two; the tables beneath have the rest."""
    found = {"the model": document["curves"]}
    if "curves_repaired" in document:
        found["the repaired model"] = document["curves_repaired"]
    attack, n = document["attack"], document["curves"]["n"]
    said = (
        f"On {count(n, 'image')}, evenly spaced among the attacked ones; other ε with the same number of steps, other "
    )
    said += "numbers of steps that reach equally far in all."
    out: list[object] = [element("p", said, class_="note")]
    for key, heading, axis in (
        ("epsilon", "Success against ε", "ε"),
        ("steps", "Success against steps", "gradient steps"),
    ):
        points = {model: curve[key] for model, curve in found.items()}
        if not document["curves"][key]:
            continue
        out.append(_curve(points, key, heading, axis, attack))
    if attack["epsilon"] == 0:
        out.append(element("p", "With ε = 0 there is no other ε and no step to compare with.", class_="note"))
    return join(out)


def _curve(points: Mapping[str, Sequence[Row]], key: str, heading: str, axis: str, attack: Row) -> Markup:
    first = next(iter(points.values()))
    shown = [length(p[key], attack["norm"]) if key == "epsilon" else f"{p[key]:,}" for p in first]
    asked = min(range(len(first)), key=lambda i: abs(first[i][key] - attack[key]))
    body = [
        [text, *(cell for of in points.values() for cell in (_rate(of[i], "success"), _rate(of[i], "true_label")))]
        for i, text in enumerate(shown)
    ]
    header = [axis, *(f"{what}, {model}" for model in points for what in ("success", "true label"))]
    written = table(f"{heading}, 95% Wilson intervals", header, body, range(1, len(header)))
    if len(first) < 2:
        return written
    ident = f"success-{key}"
    picture = responsive(lambda w: charts.success(points, shown, asked, heading, axis, width=w, ident=ident))
    caption = f"{heading}, with 95% intervals. The points stand evenly, whatever their distance."
    return join((element("figure", element("figcaption", caption), picture), details(f"{heading} as a table", written)))


def _rate(of: Row, key: str) -> Markup:
    low, high = of[f"{key}_interval"]
    return join((percent(of[key]), element("span", f"{percent(low)} – {percent(high)}", class_="ci")))


def self_tests(document: Document) -> Markup:
    """Each with what was seen; a warning is a sign, and no sign proves anything."""
    items = [
        element("li", f"On {_MODELS[t['model']]}: {t['text']}", data_kind="Warning" if t["warns"] else "Passed")
        for t in document["self_tests"]
    ]
    note = (
        "A model whose gradients mislead the adversary looks robust and is not. None of these signs proves it, and the "
    )
    note += "absence of all of them proves nothing (Athalye, Carlini & Wagner, arXiv 1802.00420)."
    return join((element("ul", *items, class_="marked"), element("p", note, class_="note")))


def warnings(document: Document) -> Markup:
    if not document["warnings"]:
        return element("p", "No warnings about the data.")
    return element("ul", *(element("li", said, data_kind="Warning") for said in document["warnings"]), class_="marked")


def method(document: Document) -> Markup:
    """Attack, images, splits, preprocessing, seed and device."""
    images, data, run, attack = (document[key] for key in ("images", "data", "run", "attack"))
    splits, read = data["splits"], data["preprocessing"]
    sizes = ", ".join(f"{part} {splits[part]:,}" for part in ("score", "select", "report"))
    numbers = "; ".join(f"{key} {' '.join(f'{v:g}' for v in read[key])}" for key in ("mean", "std") if read[key])
    pairs = [
        ("attack", f"{settings_text(attack)} (preset {attack['preset']})"),
        ("images", f"{_part(document)}: {images['picked']:,} picked, {images['attacked']:,} attacked, "
                   f"{images['left_out']:,} left out where there is nothing to win"),
        ("subset", f"{count(images['subset'], 'image')} for queries, curves and self-tests"),
        ("splits", f"{sizes} images; image-disjoint, stratified by class, seed {attack['seed']}"),
        ("kept together by", name(data["group"]) if data["group"] else "nothing but identical pixels"),
        ("preprocessing", f"resize {read['resize'] or 'none'}, crop {read['crop'] or 'none'}; "
                          f"{numbers or 'not normalized'}"),
        ("seed and device", f"seed {run['seed']}, {processor(run)}"),
        ("time", f"{run['seconds']:g} s"),
    ]  # fmt: skip
    pairs += [("note", said) for said in data["notes"]]
    again = "The same files, options and seed give the same figures on the same kind of device; docs/attacks.md has "
    again += "the recipe."
    return join((definitions(pairs), element("p", again, class_="note")))


def files(document: Document) -> Markup:
    """Hashes of what was read, and the versions that read it."""
    read = [("model", document["model"]), ("repaired model", document.get("repaired")), ("images", document["data"])]
    pairs: list[tuple[object, object]] = [
        (what, join((name(of["file"]), " ", element("code", f"sha256 {of['sha256']}")))) for what, of in read if of
    ]
    architecture = f"{document['model']['architecture']}, {document['model']['num_classes']:,} classes"
    pairs += [("architecture", architecture)]
    pairs += [("versions", ", ".join(f"{package} {version}" for package, version in document["versions"].items()))]
    return definitions(pairs)


def _part(document: Document) -> str:
    return "All images" if document["images"]["part"] == "all" else "Images of the report split"
