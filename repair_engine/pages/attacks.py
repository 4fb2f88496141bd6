"""The attack section of the page: the four rows before and after, how each was made, and the self-tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from repair_engine.pages.markup import Markup, definitions, element, join, name, table
from repair_engine.pages.repair_wording import count, interval, points
from repair_engine.pages.svg import percent
from repair_engine.support.words import length

Row = dict[str, Any]
_NORMS = {"linf": "ℓ∞", "l2": "ℓ2"}
_KINDS = ("replay", "transfer", "white-box", "black-box")
_ABSENT = {"transfer": "transfer from other models", "black-box": "a black-box attack"}


def attack(document: Row) -> Markup:
    """What adversaries achieve before and after."""
    part = document["attack"]
    settings, left_out = part["settings"], part["left_out"].get("report", 0)
    said = f"{settings_text(settings)} (preset {settings['preset']}). "
    said += f"Left out on report: {left_out:,} images where the attack has nothing to win."
    out: list[object] = [element("p", said)]
    rows = part["rows"]
    if not rows:
        n, success = part["images"]["report"], document["before"]["report"].get("metric")
        body = [["intact model, the fixed set", f"{n:,}", percent(success)]] if success is not None else []
        out.append(table("Attacks on the report images", ("attack", "n", "success"), body, (1, 2)))
        out.append(element("p", "Nothing was ablated, so no other attack was made.", class_="note"))
        return join((*out, element("p", part["note"])))
    out.append(rows_table(rows, "Attacks on the report images before and after, 95% Wilson intervals"))
    out.append(element("p", part["note"]))
    absent = [what for kind, what in _ABSENT.items() if not any(row.get("kind") == kind for row in rows)]
    if absent:
        out.append(element("p", f"Not measured here: {' and '.join(absent)}.", class_="note"))
    tests = part.get("self_tests", [])
    if tests:
        kinds = [("Warning" if t["warns"] else "Passed", f"On the {t['model']} model: {t['text']}") for t in tests]
        out.append(element("ul", *(element("li", said, data_kind=kind) for kind, said in kinds), class_="marked"))
    measured = [row for row in rows if row.get("kind") in _KINDS and row["success"] is not None]
    if measured:
        out.append(element("h3", "How the rows were made"))
        out.append(definitions([(name(row["name"]), how_made(row)) for row in measured]))
        more = "attacks.csv names every image, its label, the adversary's class and both models' predictions; "
        more += "docs/attacks.md has the recipe in full."
        out.append(element("p", more, class_="note"))
    return join(out)


def rows_table(rows: list[Row], caption: str) -> Markup:
    """The rows before and after, what could not be measured with its reason."""
    header = ("attack", "n", "success before", "success after", "change, points", "true label before", "after")
    return table(caption, header, [_cells(row) for row in rows], range(1, 7))


def settings_text(settings: Mapping[str, Any]) -> str:
    """PGD with its figures, such as "PGD in ℓ∞, untargeted: ε = 8/255, 20 steps of 1/255, random start, 1 start"."""
    aim = "targeted at a random other class" if settings["targeted"] else "untargeted"
    norm = settings.get("norm", "linf")
    start = "random start" if settings["random_start"] else "no random start"
    return (
        f"PGD in {_NORMS[norm]}, {aim}: ε = {length(settings['epsilon'], norm)}, {count(settings['steps'], 'step')} of "
        f"{length(settings['step'], norm)}, {start}, {count(settings['restarts'], 'start')}"
    )


def how_made(row: Row) -> str:
    """Which images, on what, with which seed and ε, in words."""
    if row["kind"] == "black-box":
        used = row["queries_used"]
        return (
            f"Square (arXiv 1912.00049) in {_NORMS[row['norm']]}, ε = {length(row['epsilon'], row['norm'])}, at most "
            f"{row['queries']:,} queries per image and no gradients, on {row['n']:,} of the images, evenly spaced in "
            f"their order; seed {row['seed']} and the image's index. Queries used on average: "
            f"{used['before']:.0f} before, {used['after']:.0f} after."
        )
    text = f"{settings_text(row)}; seed {row['seed']}; made on {row['made_on']}."
    if row["kind"] == "transfer":
        twin = row["surrogate"]
        text += f" It is right on {percent(twin['accuracy'])} of these images, and the attack wins "
        text += f"{percent(twin['success_on_itself'])} of them on it (sha256 {twin['sha256'][:16]}…)."
    return text


def _cells(row: Row) -> list[object]:
    if row["success"] is None:
        return [join((row["name"], element("span", row["not_measured"], class_="ci"))), *[""] * 6]
    before = row.get("before")
    asked = element("span", f"{row['queries']:,} queries each", class_="ci") if "queries" in row else ""
    return [
        name(row["name"]),
        join((f"{row['n']:,}", asked)),
        _rate(before, "success") if before else "",
        _rate(row, "success"),
        _change(row["change"]) if "change" in row else "",
        _rate(before, "true_label") if before else "",
        _rate(row, "true_label"),
    ]


def _rate(of: Row, key: str) -> Markup:
    ends = of.get(f"{key}_interval")
    span = element("span", f"{percent(ends[0])} – {percent(ends[1])}", class_="ci") if ends else ""
    return join((percent(of[key]), span))


def _change(change: Row) -> Markup:
    return join((points(change["value"]), element("span", interval(change), class_="ci")))
