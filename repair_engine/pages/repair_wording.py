"""The sentences of a report, from its document alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repair_engine.documents.edits import clean_words, is_tuned, rivals_said, standing
from repair_engine.documents.edits import is_changed as changed
from repair_engine.documents.gates import metric_images as images_of_metric
from repair_engine.documents.reasons import GOALS, beyond_said, ends_of, goal_of, judged, limits_said, looser, not_shown
from repair_engine.pages import forgetting_wording
from repair_engine.pages.rendering import interval
from repair_engine.pages.trigger_wording import is_hidden, success_said
from repair_engine.support.words import count, level_of, p_value, percent, points

if TYPE_CHECKING:
    from repair_engine.choosing.orders import OrdersRecord
    from repair_engine.documents.reasons import Offer
    from repair_engine.documents.records import RepairRecord
    from repair_engine.edits.records import ControlRow
    from repair_engine.search.records import RunRecord


ESTIMATORS = {
    "tmab": "truncated multi-armed bandit over permutations (Ghorbani & Zou 2020, Algorithm 1, arXiv 2002.09815)",
    "monte_carlo": "permutation sampling (Castro, Gómez & Tejada 2009)",
    "fast": "gradients screen all filters, comparable marginal contributions (arXiv 2504.02019) of those near the end "
    "that is asked for decide, with the gradients as control variates",
    "cmcs": "comparable marginal contributions sampling (arXiv 2504.02019)",
    "exact": "enumeration of all coalitions",
}
ABLATIONS = {
    "activation_mean": "each ablated filter's output is replaced by its mean over the score images and all positions, "
    "taken on the intact model after the activation",
    "bn_beta": "each ablated filter's batch norm gives its β alone (γ = 0), so its output is the activation of β, a "
    "constant that training left (the authors' code); filters without a batch norm of their own are replaced by their "
    "mean over the score images and all positions",
}
STOPPED = {
    "budget": "when the budget was spent",
    "converged": "when the stopping rule was met",
    "exact": "after enumerating everything",
}
SIZES = {"ok": "", "few": "fewer than 100 images: wide interval", "too few": "fewer than 30 images: does not gate"}


def processor(run: RunRecord) -> str:
    """On what the same bits rest: device, threads and instructions (runs of earlier versions do not say those)."""
    instructions = f" of {run['instruction_set']}" if run.get("instruction_set") else ""
    return f"{run['device']}, {count(run['threads'], 'thread')}{instructions}"


def repaired(document: RepairRecord) -> bool:
    return document["outcome"] == "repaired"


def hides(document: RepairRecord) -> bool:
    """What was to be forgotten is hidden, by what a linear probe finds."""
    return "forgetting" in document and document["forgetting"]["probe"]["verdict"] in ("same features", "hidden")


def lowers(document: RepairRecord) -> bool:
    """Whether the metric is to be lowered."""
    return document["metric"]["goal"] == "lower"


def metric_images(document: RepairRecord) -> tuple[int, str]:
    """How many report images the metric is taken over, and in words which."""
    n, (kind, _, argument) = images_of_metric(document), document["metric"]["name"].partition(":")
    if "forgetting" in document:
        return n, f"{count(n, 'report image')} of the forget set"
    if "trigger" in document:
        return n, f"{count(n, 'report image')} with the {'reconstructed ' * is_hidden(document)}trigger"
    attacked = "attacked " if "attack" in document else "corrupted " if "corruption" in document else ""
    of_class = f" of class {argument}" if kind == "recall" and n != document["images_right"]["n"] else ""
    return n, f"{count(n, f'{attacked}report image')}{of_class}"


def written(document: RepairRecord) -> bool:
    """Whether there is a checkpoint: of filters chosen by hand always, whatever the report says of them."""
    return repaired(document) or document["outcome"] == "not_shown_to_help"


def title(document: RepairRecord) -> str:
    """The outcome in a few words."""
    if repaired(document):
        unseen = ", not measured on a trigger" * (is_hidden(document) and "known" not in document["trigger"])
        done = forgetting_wording.title_of(document) if "forgetting" in document else "Repaired"
        return f"{done}{', beyond a limit' if document.get('beyond_limits') else ''}{unseen}"
    return "Written, not shown to help" if written(document) else "No repair found"


def _read_before(document: RepairRecord) -> str:
    """Where reports on the same images had been read, the choice may have been made after them."""
    uses = document.get("report_uses", 1) - 1
    if uses < 1:
        return ""
    return f" {count(uses, 'earlier report')} on these images may have guided what was asked: see the warning."


def deed(document: RepairRecord) -> str:
    """What was done to the model, as the subject of a sentence."""
    edit, k = document.get("edit") or {"used": "ablate"}, document["k"]
    filters = count(k, "filter")
    retrained = count(len(edit.get("retrained", [])), "culprit")
    return {
        "constants": f"Ablating {filters} and tuning {'its constant' if k == 1 else 'their constants'}",
        "culprits": f"Retraining the own weights of {retrained}",
        "head": "Refitting the last layer",
        "biases": "Tuning biases and norms",
        "ablate+head": f"Ablating {filters} and refitting the last layer",
        "ablate+biases": f"Ablating {filters} and tuning biases and norms",
    }.get(edit["used"] or "", f"Ablating {filters}")


def headline(document: RepairRecord) -> str:
    """The outcome in one sentence, to stand below `title`."""
    metric, change = document["metric"]["text"], document["gain"]
    own = forgetting_wording.headline_said(document) if changed(document) else ""
    beyond = " ".join(filter(None, [success_said(document), own, beyond_said(document)]))
    before, after = document["before"]["report"]["metric"], document["after"]["report"]["metric"]
    _, images = metric_images(document)
    level = level_of(change)
    if repaired(document):
        verb = "lowered" if lowers(document) else "raised"
        return (
            f"{deed(document)} {verb} {metric} from {percent(before)} to {percent(after)} on {images} that "
            f"the repair never saw (change {points(change['value'])} percentage points, {level} interval "
            f"{interval(change)}).{_of_goal(document)}{' ' + beyond if beyond else ''}{_read_before(document)}"
        )
    if not changed(document):
        why = document["reasons"][0]
        return f"{why} The model is best left as it is: {metric} is {percent(before)} on {images}."
    best = "the best on the select images" if is_tuned(document) else "the best number on the select images"
    which = "chosen by hand" if document.get("by_hand") else best
    said = (
        f"{deed(document)}, {which}, took {metric} from {percent(before)} to {percent(after)} on {images} that the "
        f"search never saw (change {points(change['value'])} percentage points, {level} interval {interval(change)})"
        f"{_of_goal(document)}"
    )
    verdict = not_shown(document)
    if not written(document):
        return f"{said}: {verdict}, so no checkpoint was exported."
    return " ".join(
        [
            f"{said}{': ' if verdict else ''}{verdict}.",
            *limits_said(document),
            *filter(None, [beyond]),
            f"The checkpoint was written because its filters were chosen by hand.{_read_before(document)}",
        ]
    )


def _of_goal(document: RepairRecord) -> str:
    return f" {said}" if (said := goal_said(document)) else ""


def goal_said(document: RepairRecord) -> str:
    """How the goal fared that the repair was chosen and is judged by, in a sentence; empty where it is the metric."""
    change, what, _ = judged(document)
    ends = ends_of(document)
    if ends is None or change is None:
        return ""
    before, after = map(percent, ends)
    return (
        f"By {what} it was chosen: a change of {points(change['value'])} points ({interval(change)}), from {before} to "
        f"{after}."
    )


def swaps(document: RepairRecord) -> str:
    """How many images changed sides, with McNemar's test, in one sentence."""
    test = document["gain"]["mcnemar"]
    won, lost = test["won"], test["lost"]
    p = f"McNemar, {test['method']}, p {'' if test['p_value'] < 0.001 else '= '}{p_value(test['p_value'])}"
    if not lowers(document):
        return f"{count(won, 'image')} went from wrong to right, {lost:,} from right to wrong ({p})."
    if "forgetting" in document:  # an outcome is then "it is recognised"
        return f"{count(lost, 'image')} of the forget set went from right to wrong, {won:,} from wrong to right ({p})."
    if document.get("attack", {}).get("settings", {}).get("targeted", True):
        won, lost = lost, won  # an outcome is then "the adversary's class was predicted"
    return f"The attack no longer succeeds on {count(won, 'image')} and newly succeeds on {lost:,} ({p})."


def _by_hand_tried(document: RepairRecord) -> str:
    rows, run = document["culprits"], document["run"]
    was = "was" if len(rows) == 1 else "were"
    return (
        f"{count(len(rows), 'filter')} of {document['model']['filters']:,}, chosen by hand, {was} valued with "
        f"{count(run['evaluations'], 'evaluation')} and ablated; no other filter was valued, and none was searched for."
    )


def _screened(run: RunRecord) -> str:
    """What was done with all filters: where gradients screened them, fewer were sampled."""
    screen = run.get("screen")
    if not screen or screen["sampled"] >= screen["of"]:
        return "were valued with "
    return f"were screened, and {screen['sampled']:,} of them valued, with "


def tried(document: RepairRecord) -> list[str]:
    """What was tried, for an answer that is "no repair found"."""
    run, model, curve = document["run"], document["model"], document["curve"]
    stored = run.get("values_from")
    before = f"{count(stored['evaluations'], 'evaluation')} of an earlier run and " if stored else ""
    if document.get("by_hand"):
        return [_by_hand_tried(document)]
    said = [
        f"{count(model['filters'], 'filter')} at {count(model['sites'], 'site')} {_screened(run)}"
        f"{before}{count(run['evaluations'], 'evaluation')} ({run['estimator']}).",
        f"{count(len(document['culprits']), 'filter')} with a value on the culprits' side "
        f"{'was' if len(document['culprits']) == 1 else 'were'} ranked; every prefix of the ranking, "
        f"k = 0 to {max(len(curve) - 1, 0)}, was tried on the {document['data']['splits']['select']:,} select images.",
    ]
    if len(curve) > 1:
        sign = -1.0 if lowers(document) else 1.0
        best = max(curve[1:], key=lambda step: sign * step["objective"])
        where = "within the limits" if best["feasible"] else "but outside the limits"
        said.append(
            f"The best value of the metric with anything ablated was {percent(best['objective'])} at k = {best['k']} "
            f"({percent(curve[0]['objective'])} at k = 0), {where}: {clean_words(document)} {percent(best['clean'])} "
            f"against {percent(curve[0]['clean'])}."
        )
        held = sum(step["feasible"] for step in curve[1:])
        said.append(f"{held} of {len(curve) - 1} prefixes kept all limits.")
    return said


_BY_GATES = {
    "gates": "in the order in which they close",
    "stepwise among gates": "stepwise among the most closed",
    "stepwise among gates with a margin": "the same with limits kept by a margin",
}
_USED = {
    "value": "order by value",
    "certainty": "order by value over standard error",
    "stepwise": "stepwise order",
    "gates": "order by gates",
}


def orders_said(document: RepairRecord) -> list[str]:
    """Which order of removal was used and why, in sentences; nothing where one order was tried."""
    found = document.get("orders")
    if not found:
        return []
    named = {row["order"]: f"k = {row['k']}, {percent(row['select'])}" for row in found["rows"]}
    tried = [f"by value ({named['value']})"]
    if by_certainty := named.get("certainty"):
        tried.append(f"by value over its standard error ({by_certainty})")
    cost = f"{found['evaluations']:,} evaluations over {count(found['candidates'], 'candidate')}"
    greedy = "where after each removal the candidates are scored again"
    if by_steps := named.get("stepwise"):
        images = count(found["images"], "score image")
        tried.append(f"stepwise ({by_steps}), {greedy} on {images} ({cost}, in addition to the budget)")
    said = f"Orders of removal that were tried on the select images: {'; '.join(tried)}. "
    if not by_steps:
        said += f"A stepwise one, {greedy}, gained nothing on the score images ({cost}). "
    if passed := found.get("passed_over"):
        were = "was" if passed == 1 else "were"
        said += f"{count(passed, 'filter')} that would not keep the limits on score images {were} passed over. "
    if again := named.get("stepwise with a margin"):
        said += (
            "As that order came near a limit on score images, it was made once more, with limits "
            f"kept by {found['margin']:.1f} standard errors ({again}). "
        )
    gates = [f"{what} ({named[order]})" for order, what in _BY_GATES.items() if order in named]
    if gates:
        learned = found["gates"]
        said += (
            f"Gates of all filters were learned by gradient ({learned['evaluations']:,} evaluations with what "
            f"follows): {'; '.join(gates)}. "
        )
    return [said + _why(found, document)]


def _why(found: OrdersRecord, document: RepairRecord) -> str:
    used = f"The {_USED[found['used']]} was used: "
    if found["why"] == "best":
        return used + "it did best, and none that ablates fewer filters is within one standard error of it."
    if found["why"] == "fewest" and goal_of(document) != "mean":  # rows have the metric's figures, not the goal's
        return used + "it is within one standard error of the best, and ablates fewer filters."
    if found["why"] == "fewest":
        sign = -1.0 if lowers(document) else 1.0
        best = max(found["rows"], key=lambda row: sign * row["select"])
        return (
            f"{used}it is within one standard error of the best ({percent(best['select'])} with "
            f"{count(best['k'], 'filter')}) and ablates fewer filters."
        )
    if found["why"] == "gain":
        return used + "it did better by more than resampling the select images explains."
    if found["why"] == "fewer":
        return used + "it was not told apart from the next best, and ablates fewer filters."
    return used + "others were not shown to do better, nor ablate fewer filters."


def selection_said(document: RepairRecord) -> list[str]:
    """By which rule k was chosen, and how stable the choice is, in sentences."""
    found, k = document.get("selection"), document["k"]
    if document.get("by_hand"):
        return ["The filters and their number were chosen by hand; limits were not applied to the choice."]
    if not found or len(document["curve"]) < 2:
        return []
    said = orders_said(document)
    if (document.get("edit") or {"asked": "ablate"})["asked"] != "ablate":
        return said
    error = f"{100 * found['standard_error']:.1f} points"
    by = GOALS.get(goal_of(document), "metric").removeprefix("the ")
    if found["choose"] == "one-se":
        said += [
            f"Rule: the fewest filters whose {by} is within one standard error ({error}, of the best prefix's paired "
            f"gain) of the best within the limits. The best was k = {found['best']}; chosen: k = {k}."
        ]
    else:
        said += [
            f"Rule: the best {by} within the limits, of equals the fewest filters: k = {k}. The standard error "
            f"of its gain is {error}."
        ]
    low, _, high = found["middle"]
    spread = f"{low}" if low == high else f"between {low} and {high}"
    said.append(
        f"Chosen again on {found['resamples']:,} bootstrap resamples of the {count(found['images'], 'select image')} "
        f"that the metric is taken over, k was {spread} in at least 90% of them, {k} in {percent(found['same'], 0)}, "
        f"and leaving the model as it is won in {percent(found['none'], 0)}."
    )
    if k and found["none"] >= 0.05:
        said.append("So these images alone do not settle whether anything should be ablated.")
    said.append("The ranking was kept: what another score split would have ranked first is not in these shares.")
    return said


def verdict(row: ControlRow, document: RepairRecord) -> str:
    """How the repair compares with one control: "repair better", "control better" or "not told apart"."""
    mine = "repair" if changed(document) else "intact model"
    return {1: f"{mine} better", -1: "control better", 0: "not told apart"}[standing(row, document)]


def own_row(document: RepairRecord) -> str:
    """What stands for the repair among its controls."""
    return "this repair" if changed(document) else "the intact model"


def controls_caption(document: RepairRecord) -> str:
    """What the controls are, for their table."""
    of = f"rankings of up to {document['k']:,}" if document["k"] else "rankings"
    return f"Report images; {of} filters, a shift of the logits, and what tuning gives; p-values adjusted over all rows"


def beaten(document: RepairRecord) -> str:
    """Whether the repair beats its controls, in one sentence."""
    if not changed(document):
        return rivals_said(document)
    rivals = [row["name"] for row in document["controls"] if verdict(row, document) != "repair better"]
    if not rivals:
        return "The repair does better on the report images than every control below."
    named = ", ".join(f"“{r}”" for r in rivals)
    return f"The repair is not shown to beat {'this control' if len(rivals) == 1 else 'these controls'}: {named}."


def edit_said(document: RepairRecord) -> list[str]:
    """Which edit was made and by which rule, in sentences; nothing where culprits were to be ablated and no more."""
    edit = document.get("edit") or {"asked": "ablate"}
    if edit["asked"] == "ablate":
        return []
    made = [row for row in edit["rows"] if "not_made" not in row]
    said = (
        f"What was tuned learned from the score images, held to the original weights; candidates were judged on the "
        f"select images under the limits ({edit['evaluations']:,} evaluations, in addition to the budget)."
    )
    if edit["asked"] != "auto":
        return [said]
    if not edit["used"]:
        return [said, f"{count(len(made), 'edit')} could be made; leaving the model as it is was chosen."]
    return [
        f"{said} Of {count(len(edit['rows']), 'edit')} tried, {edit['used']} is the one that touches the fewest units "
        f"({edit['units']:,}, {edit['parameters']:,} parameters) among those within one standard error of the best."
    ]


def looser_said(document: RepairRecord) -> list[str]:
    """What looser limits would have allowed on *select* (`reasons.looser`), in a sentence each."""
    return [offer_said(offer, document["metric"]["text"]) for offer in looser(document)]


def offer_said(offer: Offer, metric: str) -> str:
    """One offer of `reasons.looser`."""
    named = ((offer["max_clean_drop"], "a clean drop"), (offer["max_subgroup_drop"], "a subgroup drop"))
    allowed = " and ".join(f"{what} of {100 * limit:g} points" for limit, what in named if limit is not None)
    return (
        f"With {allowed} allowed, k = {offer['k']} changes the {metric} by {points(offer['change'])} points to "
        f"{percent(offer['metric'])} on the select images."
    )
