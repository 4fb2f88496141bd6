"""The results half of the page: outcome, figures, groups, controls, choice of k, culprits."""

from __future__ import annotations

from typing import Any

from repair_engine.documents.known import row_known, unknown_words
from repair_engine.pages import pareto
from repair_engine.pages import repair_charts as charts
from repair_engine.pages.markup import Markup, bullets, details, element, join, table
from repair_engine.pages.repair_wording import (
    beaten,
    count,
    headline,
    interval,
    level_of,
    lowers,
    metric_images,
    points,
    repaired,
    selection_said,
    swaps,
    title,
    tried,
    verdict,
)
from repair_engine.pages.svg import decimal, digits_for, percent

Row = dict[str, Any]


def outcome(document: Row) -> Markup:
    """The outcome in one sentence with its reasons, and what was tried where there is no repair."""
    parts: list[object] = [element("p", headline(document))]
    if document["controls"]:
        parts.append(element("p", beaten(document)))
    if not repaired(document):
        parts.append(element("p", "No repair found is a valid answer: the model and its file are unchanged."))
        parts += [element("h3", "Why"), bullets(document["reasons"])]
        parts += [element("h3", "What was tried"), bullets(tried(document))]
    kind = "repaired" if repaired(document) else "none"
    return join((element("h1", title(document)), element("div", *parts, class_=f"verdict {kind}")))


def notices(document: Row) -> Markup:
    """Findings and warnings."""
    items = [("Finding", f) for f in document.get("findings", [])] + [("Warning", w) for w in document["warnings"]]
    if not items:
        against = "" if document.get("verb") in ("explain", "score") else "findings against the repair and no "
        return element("p", f"No {against}warnings about the data.")
    return element("ul", *(element("li", said, data_kind=kind) for kind, said in items), class_="marked")


def figures(document: Row) -> Markup:
    """Metric, clean accuracy and guard set before and after."""
    before, after, k = document["before"]["report"], document["after"]["report"], document["k"]
    n, _ = metric_images(document)
    aim = "lower is better" if lowers(document) else "higher is better"
    lines: list[tuple[object, int, float, float, Row | None]] = [
        (join((document["metric"]["text"], element("span", aim, class_="ci"))), n, before["metric"], after["metric"],
         document["gain"]),
        ("clean accuracy", document["images_right"]["n"], before["accuracy"], after["accuracy"],
         document.get("clean_change")),
    ]  # fmt: skip
    if document["metric"]["name"] == "accuracy":
        lines = lines[:1]
    if "guard" in document:
        guard = document["guard"]
        lines.append(("accuracy on the guard set", guard["n"], guard["before"], guard["after"], guard.get("change")))
    header = ["figure", "images", "before"] + (
        ["after", "change, points", f"{level_of(document['gain'])} interval"] if k else []
    )
    rows = []
    for what, images, b, a, change in lines:
        cells: list[object] = [what, f"{images:,}", percent(b)]
        if k:
            cells += [percent(a), points(a - b), interval(change) if change else "not measured"]
        rows.append(cells)
    which = "with the culprits ablated" if not repaired(document) else "after the repair"
    caption = f"Report images, before and {which}" if k else "Report images, intact model"
    parts = [table(caption, header, rows, range(1, len(header)))]
    if k:
        how = document["gain"].get("method", "paired bootstrap")
        parts.append(element("p", f"{swaps(document)} Interval of the change: {how}.", class_="note"))
    if "guard" not in document:
        parts.append(element("p", "No guard set was given.", class_="note"))
    return join(parts)


def controls(document: Row) -> Markup:
    """The repair beside the same number of filters picked otherwise, and beside a shift of the logits."""
    rows, k = document["controls"], document["k"]
    if not rows:
        return element("p", "Nothing was ablated, so there is nothing to compare with controls.")
    after, before = document["after"]["report"], document["before"]["report"]
    metric = document["metric"]["text"]
    data = [charts.Bar("this repair", after["metric"], marked=True)]
    data += [charts.Bar(r["name"], r["metric"], *(r.get("metric_range") or (None, None))) for r in rows]
    reference = ("intact model", before["metric"])
    heading = f"{metric} by the repair and by its controls"
    picture = charts.responsive(lambda w: charts.bars(data, heading, reference, width=w, ident="controls"))
    body: list[list[object]] = [["this repair", percent(after["metric"]), percent(after["accuracy"]), "", "", ""]]
    for r in rows:
        picks = r.get("picks", 1)
        value: object = percent(r["metric"])
        if "metric_range" in r:
            low, high = r["metric_range"]
            value = join((value, element("span", f"{percent(low)} – {percent(high)}", class_="ci")))
        change = r.get("advantage")
        ahead: object = (
            join((points(change["value"]), element("span", interval(change), class_="ci"))) if change else ""
        )
        note = f"mean and range of {picks} picks" if picks > 1 else r.get("note", "")
        body.append([r["name"], value, percent(r["accuracy"]), ahead, verdict(r, document), note])
    header = (
        metric,
        "clean accuracy",
        "repair minus control, points",
        "verdict",
        "note",
    )
    caption = f"Report images; {count(k, 'filter')} each, except the logit shift, which ablates none"
    legend = "The dashed line is the intact model" + (
        "; the range shows the random picks." if any("metric_range" in r for r in rows) else "."
    )
    return join(
        (
            element("p", beaten(document)),
            element("figure", element("figcaption", f"{heading[:1].upper()}{heading[1:]}. {legend}"), picture),
            table(caption, ("", *header), body, (1, 2, 3)),
        )
    )


def curve(document: Row) -> Markup:
    """Every prefix of the ranking on *select*, and the chosen one."""
    steps, limits = document["curve"], document["limits"]
    if len(steps) < 2:
        return element("p", "There was no culprit to ablate, so only k = 0 was looked at.")
    data = [
        charts.CurvePoint(
            s["k"],
            s["objective"],
            s["clean"],
            s["feasible"],
            s.get("guard"),
            s.get("true_label"),
            None if s.get("lower") is None else (s["lower"], s["upper"]),
        )
        for s in steps
    ]
    same = document["metric"]["name"] == "accuracy"
    floor = max(0.0, steps[0]["clean"] - limits["max_clean_drop"])
    metric = document["metric"]["text"]
    picture = charts.responsive(
        lambda w: charts.removal_curve(data, document["k"], metric, floor=floor, one_line=same, width=w)
    )
    guard, drop = steps[0].get("guard") is not None, steps[0].get("subgroup_drop") is not None
    true = steps[0].get("true_label") is not None
    banded = steps[0].get("lower") is not None
    level = level_of(document.get("selection") or {})
    header = ["k", metric, *[f"{level} band"] * banded, *["true label under attack"] * true, "clean accuracy"]
    header += ["guard set"] * guard
    header += ["largest subgroup drop, points"] * drop
    body = []
    for s in steps:
        cells: list[object] = [s["k"], percent(s["objective"])]
        cells += [f"{percent(s['lower'])} – {percent(s['upper'])}"] if banded else []
        cells += [percent(s[key]) for key in (["true_label"] * true + ["clean"])]
        cells += [percent(s["guard"])] if guard else []
        cells += [points(s["subgroup_drop"]).lstrip("+")] if drop else []
        chosen = "chosen" if s["k"] == document["k"] else ""
        on = ["yes" if s["front"] else "no"] if banded else []
        body.append([*cells, *on, "yes" if s["feasible"] else "no", chosen])
    said = f"Metric and clean accuracy on the select images with the first k of {len(steps) - 1} ranked culprits "
    said += "ablated; k was chosen here, so these figures are optimistic. Hatched: outside a limit."
    if banded:
        said += f" Shaded: pointwise {level} band of the paired change against the intact model (bootstrap over "
        said += "the images)."
    header += ["Pareto front"] * banded
    rows = table("Every prefix on the select images", [*header, "within limits", ""], body, range(len(header)))
    parts = [element("p", sentence) for sentence in selection_said(document)]
    parts.append(element("figure", element("figcaption", said), picture))
    if banded and not same:
        parts.append(pareto.front(document))
    if document.get("selection"):
        parts.append(_distribution(document["selection"]))
    return join((*parts, details(f"All {len(steps)} prefixes as a table", rows)))


def _distribution(found: Row) -> Markup:
    rows = [(d["k"], percent(d["share"])) for d in found["distribution"]]
    caption = f"Number of filters chosen on {found['resamples']:,} resamples of the select images"
    return details("How often each k was chosen on resamples", table(caption, ("k", "share"), rows, (0, 1)))


def _fresh_said(document: Row) -> str:
    """Which samples the values come from."""
    found = document["run"].get("afresh")
    if not found:
        return "Rank combines both."
    said = "The ablated filters were valued on samples drawn after they had been chosen; their intervals hold together "
    return said + "among themselves. Those of the others come from samples that helped to order the candidates."


def culprits(document: Row) -> Markup:
    """Values with intervals, sample counts and constants of the ranked culprits."""
    rows = document["culprits"]
    if not rows:
        return element("p", "No filter was found on the culprits' side.")
    known = [r for r in rows if row_known(r)][:30]
    data = [charts.ValueRow(r["id"], r["value"], r["lower"], r["upper"], r["ablated"]) for r in known]
    digits = digits_for([r["value"] for r in known])
    body, marked = [], []
    for r in rows:
        sure = row_known(r)
        value: object = decimal(r["value"], digits) if sure else unknown_words(r["samples"], r["value"])
        if sure and r["lower"] is not None and r["upper"] is not None:
            ends = f"{decimal(r['lower'], digits)} to {decimal(r['upper'], digits)}"
            value = join((value, element("span", ends, class_="ci")))
        searched = r.get("searched_value")
        first = "" if searched is None else decimal(searched, digits)
        body.append([element("code", r["id"]), r["rank"], value, f"{r['samples']:,}", first, f"{r['constant']:.6g}",
                     "ablated" if r["ablated"] else "no"])  # fmt: skip
        marked.append(r["ablated"])
    side = "above" if document["culprit_sign"] > 0 else "below"
    beyond = [r["lower"] for r in rows] if side == "above" else [r["upper"] for r in rows]
    shown = sum(end is not None and (end > 0 if side == "above" else end < 0) for end in beyond)
    said = f"A culprit's presence hurts: its value is {side} zero. Of {count(len(rows), 'candidate')}, {shown} "
    said += f"{'has' if shown == 1 else 'have'} an interval wholly {side} zero. "
    said += f"The value is {document['run']['estimand']}."
    out: list[object] = [element("p", said)]
    if data:
        heading = "Values of the ranked candidates" + ("" if len(data) == len(rows) else f", the first {len(data)}")
        picture = charts.responsive(lambda w: charts.interval_plot(data, heading, width=w))
        how = element("figcaption", f"{heading}, with intervals ({document['run']['interval']['name']}).")
        out.append(element("figure", how, picture))
    header = ("filter", "rank", "value, interval", "samples", "value in the search", "constant", "ablated")
    stepwise = (document.get("orders") or {}).get("used") == "stepwise"
    order = "in the order of removal: stepwise, then by value" if stepwise else "worst first"
    out.append(table(f"Ranked candidates, {order}", header, body, (1, 2, 3, 4, 5)))
    out.append(
        element(
            "p",
            f"The value in the search helped to pick the filter and is biased by that. {_fresh_said(document)}",
            class_="note",
        )
    )
    return join(out)
