"""Why a repair is none, from the rows of its own curve, and what other limits would have allowed on *select*."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from repair_engine.documents.edits import clean_words, is_changed, sign_of, within_noise
from repair_engine.support.statistics import REFUSE_BELOW, IntervalRecord
from repair_engine.support.words import count, level_of

Row = Mapping[str, Any]


class Offer(TypedDict):
    """What looser limits would have allowed (None: a limit stays): the best k, its metric, and the change of that."""

    max_clean_drop: float | None
    max_subgroup_drop: float | None
    k: int
    change: float
    metric: float


class BrokenLimit(TypedDict):
    """What fell on n report images, by how much, and how much it may fall; shares."""

    what: str
    n: int
    drop: float
    limit: float


_SLACK = 1e-12
_TENTH = 0.001  # of a share: limits are given in tenths of a point
_MOST_OFFERED = 3


def reasons_of(document: Row) -> list[str]:
    """Sentences; none where the repair is shown to help and, if its filters were chosen by hand, keeps all limits."""
    if not is_changed(document):
        edit = document.get("edit") or {"asked": "ablate"}
        return [_nothing_ablated(document)] if edit["asked"] == "ablate" else _no_edit(document, edit["rows"])
    change, what, _ = judged(document)
    verdict, found = not_shown(document), []
    if verdict and change is None:
        found.append(f"{verdict[0].upper()}{verdict[1:]}.")
    elif verdict and change is not None:
        found.append(
            f"On the report images {what} changes by {points(change['value'])} with a {level_of(change)} interval "
            f"of {points(change['lower'])} to {points(change['upper'])}: {verdict}."
        )
    return [*found, *limits_said(document)]


def judged(document: Row) -> tuple[IntervalRecord | None, str, bool]:
    """The change on the report images that decides whether an improvement is shown, by the goal that was asked for.

    Returns:
        The change (None: it cannot be told), what it is of, and whether less is better.
    """
    goal = goal_of(document)
    if goal == "mean":
        return document["gain"], "the metric", document["metric"]["goal"] == "lower"
    found = document["fairness"][JUDGED_BY[goal]]
    return (found["change"] if found else None), GOALS[goal], goal != "worst-group"


GOALS = {
    "worst-group": "the recall of the worst subgroup",
    "gap": "the gap between the subgroups",
    "equalized-odds": "the equalized odds difference",
}
JUDGED_BY = {"worst-group": "worst", "gap": "gap", "equalized-odds": "equalized_odds"}  # where it stands in `fairness`
TOO_FEW = {
    "worst-group": f"fewer than two subgroups have {REFUSE_BELOW} report images",
    "gap": f"fewer than two subgroups have {REFUSE_BELOW} report images",
    "equalized-odds": f"no class has {REFUSE_BELOW} report images of its own and {REFUSE_BELOW} of others in two "
    "subgroups",
}


def ends_of(document: Row) -> tuple[float, float] | None:
    """The figure of the goal on the report images, before and after; None where it is the metric or cannot be told."""
    key = JUDGED_BY.get(goal_of(document))
    found = document["fairness"][key] if key else None
    if found is None:
        return None
    inner = {"worst": "recall", "equalized_odds": "difference"}.get(str(key))
    before, after = ((found[when][inner] if inner else found[when]) for when in ("before", "after"))
    return float(before), float(after)


def goal_of(document: Row) -> str:
    """ "mean": the metric itself, as in all reports of earlier versions."""
    return str(document.get("limits", {}).get("goal", "mean"))


def not_shown(document: Row) -> str:
    """What the report images say of a change that is no improvement; empty of one that is."""
    change, what, lower = judged(document)
    if said := _no_trigger(document):
        return said
    if change is None:
        return f"{TOO_FEW[goal_of(document)]}, so {what} cannot be judged"
    low, high = change["lower"], change["upper"]
    if lower:
        low, high = -high, -low
    return "" if low > 0 else "it got worse" if high < 0 else "an improvement is not shown"


def _no_trigger(document: Row) -> str:
    """Of a trigger that was reconstructed: why nothing is claimed of it."""
    record = document["metric"].get("trigger") or {}
    if "reconstructed" not in record:
        return ""
    if not record["reconstructed"]["stands_out"]:
        return f"no sign of a backdoor was found: the class {record['class']} does not stand out from the others"
    change = (document["trigger"].get("known") or {}).get("change")
    if change is not None and change["lower"] <= 0:
        return "an improvement is not shown on the trigger that was given"
    return ""


def limits_said(document: Row) -> list[str]:
    """Of filters chosen by hand, to which limits are not applied: a sentence where they break some."""
    if not document.get("by_hand"):
        return []
    first, step = document["curve"][0], document["curve"][document["k"]]
    broken = broken_limits(document["limits"], first, step, clean_words(document))
    return [f"On the select images a limit is broken: {' and '.join(broken)}."] if broken else []


def _no_edit(document: Row, rows: Sequence[Row]) -> list[str]:
    made = [row for row in rows if "not_made" not in row]
    if not made:
        return [f"No edit ({row['edit']}): {row['not_made']}." for row in rows]
    if goal_of(document) != "mean":
        return [
            f"On the select images none of {len(rows)} edits improves {GOALS[goal_of(document)]} by more than one "
            "standard error within the limits: by the one-standard-error rule nothing is changed."
        ]
    sign = sign_of(document)
    best = max(made, key=lambda row: sign * row["gain"])
    return [
        f"On the select images the best of {len(rows)} edits, {best['edit']}, gains {points(sign * best['gain'])}, "
        f"within one standard error ({points(best['standard_error'], sign=False)}) of the intact model: by the "
        "one-standard-error rule nothing is changed."
    ]


def _nothing_ablated(document: Row) -> str:
    curve, metric = document["curve"], document["metric"]["text"]
    if not document["culprits"]:
        return "No filter had a value on the culprits' side."
    if goal_of(document) != "mean":
        return (
            f"On the select images no number of culprits, 1 to {len(curve) - 1}, improves {GOALS[goal_of(document)]} "
            "within the limits."
        )
    best = (document.get("selection") or {}).get("best", 0)
    if best:
        error = document["selection"]["standard_error"]
        return (
            f"On the select images the best number of culprits, {best}, gains {points(_gain(document, curve[best]))}, "
            f"less than one standard error ({points(error, sign=False)}): by the one-standard-error rule none is "
            "ablated."
        )
    if row := within_noise(document):
        return (
            "One order of removal finds nothing that gains on the select images within the limits. The best number "
            f"in another, {row['k']} in the order {row['order']!r}, gains "
            f"{points(sign_of(document) * (row['select'] - curve[0]['objective']))} there, within the noise of "
            "resampling these images."
        )
    better = [step for step in curve[1:] if _gain(document, step) > _SLACK]
    if not better:
        return f"On the select images no number of culprits, 1 to {len(curve) - 1}, improves the {metric}."
    most = max(better, key=lambda step: _gain(document, step))
    broken = " and ".join(broken_limits(document["limits"], curve[0], most, clean_words(document)))
    tried = "the only number of culprits that gains" if len(better) == 1 else f"each of the {len(better)} that gain"
    return (
        f"On the select images {most['k']} of {count(len(curve) - 1, 'culprit')} would change the {metric} by "
        f"{points(_shown_change(document, most))}, but {tried} breaks a limit; at k = {most['k']} "
        f"{broken}."
    )


def broken_limits(limits: Row, first: Row, step: Row, clean: str = "clean accuracy") -> list[str]:
    """Which limits a step of a curve breaks, against its first, in words; `clean`: what clean accuracy is called."""
    found = []
    for key, what in (("clean", clean), ("guard", "accuracy on the guard set")):
        if step.get(key) is not None and first[key] - step[key] > limits["max_clean_drop"] + _SLACK:
            found.append(_broken(what, first[key] - step[key], limits["max_clean_drop"]))
    drop = step.get("subgroup_drop")
    if drop is not None and drop > limits["max_subgroup_drop"] + _SLACK:
        found.append(_broken("the recall of a subgroup", drop, limits["max_subgroup_drop"]))
    return found


def beyond_limits(document: Row) -> list[BrokenLimit]:
    """Limits that the changed model breaks on the report images, where they are measured and not enforced."""
    limits = document["limits"]
    before, after = (document[key]["report"]["accuracy"] for key in ("before", "after"))
    rows = [(clean_words(document), document["images_right"]["n"], before - after, limits["max_clean_drop"])]
    if guard := document.get("guard"):
        change = guard["before"] - guard["after"]
        rows.append(("accuracy on the guard set", guard["n"], change, limits["max_clean_drop"]))
    rows += [
        (f"the recall of {row['name']}", row["n"], row["before"] - row["after"], limits["max_subgroup_drop"])
        for row in document["groups"].get("subgroups", [])
        if row["size"] != "too few"
    ]
    return [
        {"what": what, "n": n, "drop": drop, "limit": limit}
        for what, n, drop, limit in rows
        if drop > limit + _SLACK and is_changed(document)
    ]


def beyond_said(document: Row) -> str:
    """The same in a sentence; empty where all limits are kept there."""
    found = document.get("beyond_limits", ())
    said = " and ".join(_broken(row["what"], row["drop"], row["limit"]) for row in found)
    return f"On the report images it breaks {'a limit' if len(found) == 1 else 'limits'}: {said}." if found else ""


def _broken(what: str, drop: float, limit: float) -> str:
    return f"{what} falls by {points(drop, sign=False)}, where {100 * limit:g} may be lost"


def looser(document: Row) -> list[Offer]:
    """What looser limits would have allowed on *select*, from the stored curve, the least loosening first.

    Each gains more than the one before, and the first more than what was chosen. By the metric: nothing where another
    goal was asked for.
    """
    if goal_of(document) != "mean":
        return []
    limits, curve = document["limits"], document["curve"]
    had = max(0.0, _gain(document, curve[document["k"]]))
    found: list[tuple[float, float, Offer]] = []
    for step in curve[1:]:
        if step["feasible"] or _gain(document, step) <= had + _SLACK:
            continue
        clean = max(limits["max_clean_drop"], *_clean_drops(curve[0], step))
        group = max(limits["max_subgroup_drop"], step.get("subgroup_drop") or 0.0)
        asked = (_up(clean, limits["max_clean_drop"]), _up(group, limits["max_subgroup_drop"]))
        kept = [s for s in curve[1:] if _keeps(curve[0], s, *asked)]
        best = max(kept, key=lambda s: (_gain(document, s), -s["k"]))
        offer: Offer = {
            "max_clean_drop": asked[0] if asked[0] > limits["max_clean_drop"] else None,
            "max_subgroup_drop": asked[1] if asked[1] > limits["max_subgroup_drop"] else None,
            "k": best["k"],
            "change": _shown_change(document, best),
            "metric": best["objective"],
        }
        found.append((sum(asked), _gain(document, best), offer))
    offers = []
    for _, gain, offer in sorted(found, key=lambda one: (one[0], -one[1])):
        if gain > had + _SLACK:
            had = gain
            offers.append(offer)
    return _spread(offers)


def _spread(offers: Sequence[Offer]) -> list[Offer]:
    """The first, the last and what lies between, at most `_MOST_OFFERED`."""
    if len(offers) <= _MOST_OFFERED:
        return list(offers)
    step = (len(offers) - 1) / (_MOST_OFFERED - 1)
    return [offers[round(i * step)] for i in range(_MOST_OFFERED)]


def _clean_drops(first: Row, step: Row) -> list[float]:
    return [first[key] - step[key] for key in ("clean", "guard") if step.get(key) is not None]


def _keeps(first: Row, step: Row, clean: float, group: float) -> bool:
    return max(_clean_drops(first, step)) <= clean + _SLACK and (step.get("subgroup_drop") or 0.0) <= group + _SLACK


def _up(needed: float, limit: float) -> float:
    """The limit in tenths of a point that allows what is needed; as it was where that is enough."""
    return limit if needed <= limit + _SLACK else round(math.ceil(needed / _TENTH - 1e-9) * _TENTH, 3)


def _gain(document: Row, step: Row) -> float:
    """How much better the metric is than with nothing ablated; where something is forgotten, down to chance."""
    floor = document["metric"].get("forgetting", {"chance": {"select": 0.0}})["chance"]["select"]
    before, after = (max(one["objective"], floor) for one in (document["curve"][0], step))
    return sign_of(document) * float(after - before)


def _shown_change(document: Row, step: Row) -> float:
    return float(step["objective"] - document["curve"][0]["objective"])


def points(change: float, sign: bool = True) -> str:
    """A change of a share in percentage points, such as "−6.4 points"."""
    text = f"{100 * change:+.1f}" if sign else f"{100 * change:.1f}"
    return text.replace("-", "−") + " points"
