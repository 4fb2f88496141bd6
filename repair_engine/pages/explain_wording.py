"""The sentences of an explanation, from its document alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repair_engine.documents.edits import clean_words
from repair_engine.studies.names import LEAVE_ONE_OUT, MOST, RESPONSES, SHAPLEY, WEIGHTS
from repair_engine.support.statistics import REFUSE_BELOW
from repair_engine.support.words import count, level_of, percent, points

if TYPE_CHECKING:
    from repair_engine.documents.explain import ExplainRecord
    from repair_engine.studies.explain_curves import AdvantageRow
    from repair_engine.studies.pictures import PictureRow


PICTURES = (
    "A unit's response is its output before the activation function; of a head it is the length of its values. "
    "A filter is judged by the mean over positions. A hidden unit or a head whose tokens are patches of the image is "
    "judged patch by patch: shown are the images with the largest and the smallest single response. The heat says "
    "where it is: orange above the unit's mean, blue below, the stronger the further away. Optimized images (feature "
    "visualization, Olah et al. 2017) show what drives a response beyond what any photograph does; they are aids to a "
    "guess, not evidence of what the unit means."
)
KIND = {"filter": "Filter", "hidden": "Hidden unit", "head": "Attention head"}


def responses(row: PictureRow) -> str:
    """Of what the mean and the range that follow are."""
    images = f"{row['images']:,} score images"
    if not row["by_position"] or row["grid"] is None:
        return f"Over {images} the response is"
    height, width = row["grid"]
    left_out = (
        f" (without {count(row['left_out'], 'position')} that are no patch: class tokens)" if row["left_out"] else ""
    )
    return f"Over the {height} × {width} patches of {images}{left_out} the response is"


def headline(document: ExplainRecord) -> list[str]:
    """What the curves show with n and intervals, and what each ranking was made on, in sentences of their own lines."""
    said = []
    for found in document["curves"]["first_removed"]:
        end, removed = found["end"], found["removed"]
        row = next(r for r in document["curves"]["rows"] if r["end"] == end and r["ranking"] == SHAPLEY)
        at = row["ks"].index(removed)
        overall = ""
        if document["metric"]["name"] != "accuracy":
            overall = f" and {_overall(document)} from {percent(row['accuracy'][0])} to {percent(row['accuracy'][at])}"
        said.append(
            f"Removing the {count(removed, end.split()[0] + ' critical filter')} of {document['model']['filters']:,} "
            f"took {document['metric']['text']} from {percent(row['metric'][0])} to {percent(row['metric'][at])} "
            f"({points(found['change'])} points, {level_of(found)} interval {points(found['lower'])} to "
            f"{points(found['upper'])}; n = {found['images']:,}){overall} on report images."
        )
    said.append(
        "Values and every ranking come from score images alone; the curves are measured on report images, which had "
        f"no part in them. {ranked_on_text(document)}"
    )
    return said


def ranked_on_text(document: ExplainRecord) -> str:
    """How many images are behind each ranking."""
    on = document["curves"]["ranked_on"]
    said = [f"{name} {'none' if not on[name] else f'{on[name]:,}'}" for name in (SHAPLEY, LEAVE_ONE_OUT, RESPONSES)]
    return f"Score images behind each ranking: {', '.join(said)}, {WEIGHTS} none."


def too_few(document: ExplainRecord, ranking: str) -> bool:
    """The ranking was made on so few images that to beat it says nothing."""
    return 0 < document["curves"]["ranked_on"].get(ranking, 0) < REFUSE_BELOW


def end_text(document: ExplainRecord, end: str) -> str:
    """What the filters of an end are, in one sentence."""
    lower = document["metric"]["goal"] == "lower"
    metric = document["metric"]["text"]
    if end == MOST:
        hurts = " For this metric they are the culprits." if lower else ""
        return f"Filters to whose presence {metric} owes most.{hurts}"
    hurts = "" if lower else " Where a value is below zero, the filter's presence hurts."
    return (
        f"Filters to whose presence {metric} owes least, the lowest value first (Ghorbani & Zou 2020, Fig. 4c).{hurts} "
        "A low value speaks of networks without many of their filters, so the intact one may still use such a filter. "
        "“Nearest zero” removes first what is estimated to do least either way; with few samples that is also what "
        "little is known of."
    )


def _overall(document: ExplainRecord) -> str:
    return clean_words(document, "overall accuracy")


def curve_images_text(document: ExplainRecord) -> str:
    """On which images curves and rankings were measured."""
    images, of = document["curves"]["images"], document["curves"]["images"]["of"]
    some = f" of {of:,}" if of and of > images["metric"] else ""
    random = next(r for r in document["curves"]["rows"] if "draws" in r)
    accuracy = "" if document["metric"]["name"] == "accuracy" else f", {_overall(document)} on {images['accuracy']:,}"
    return (
        f"Measured on {images['metric']:,}{some} report images{accuracy}; each removed filter is ablated to its "
        f"constant. The rankings were made on score images (leave-one-out on {document['curves']['loo_images']}). "
        f"Random: mean, and as a band the range, of {random['draws']} orders."
    )


def advantage_text(document: ExplainRecord, end: str) -> list[str]:
    """Which rankings Shapley values beat at an end, in sentences."""
    rows = [r for r in document["curves"]["advantages"] if r["end"] == end]
    sign = -1.0 if end == MOST else 1.0  # a steep fall is what the most critical should give
    ahead = [r["rival"] for r in rows if min(sign * r["lower"], sign * r["upper"]) > 0]
    few = [name for name in ahead if too_few(document, name)]
    better = [name for name in ahead if name not in few]
    worse = [r["rival"] for r in rows if max(sign * r["lower"], sign * r["upper"]) < 0]
    same = [r["rival"] for r in rows if r["rival"] not in (*ahead, *worse)]
    aim = "falls faster" if end == MOST else "stays higher"
    said = []
    if better:
        said.append(f"Over the whole curve the metric {aim} by Shapley value than by {_names(better)}.")
    if few:
        made = " and ".join(f"{document['curves']['ranked_on'][name]:,}" for name in few)
        said.append(
            f"By {_names(few)} it was drawn, too, but that ranking was made on {made} score images: too few to be a "
            "rival that anything beats."
        )
    if worse:
        start = "It" if better else "Over the whole curve the metric"
        said.append(f"{start} {aim} by {_names(worse)} than by Shapley value.")
    if same:
        said.append(f"By {_names(same)} the curve is not told apart from that by Shapley value.")
    return [" ".join(said)]


def shift_text(document: ExplainRecord) -> str:
    """The cheapest rival, in one sentence."""
    shift, metric = document["curves"]["logit_shift"], document["metric"]["text"]
    limit = f"with at most {100 * shift['max_clean_drop']:g} points of {clean_words(document)} lost there"
    if not shift["moved"]:
        return f"No shift of the logits was found on the select images that moves {metric} its way, {limit}."
    return (
        f"A shift of the logits ({shift['how']}), found on the select images {limit}, gives {percent(shift['metric'])} "
        f"at {percent(shift['accuracy'])} {_overall(document)} without touching a filter."
    )


def rival_text(document: ExplainRecord, ranking: str) -> str:
    """What a rival is called beside its figures: with the images it was made on where these are too few."""
    if not too_few(document, ranking):
        return ranking
    return f"{ranking} (made on {document['curves']['ranked_on'][ranking]:,} images: no rival)"


def advantage_line(document: ExplainRecord, row: AdvantageRow) -> str:
    """One comparison as plain text."""
    return (
        f"{row['end']}: {SHAPLEY} minus {rival_text(document, row['rival'])} {points(row['value'])} points "
        f"({points(row['lower'])} to {points(row['upper'])}; n = {document['curves']['images']['metric']:,})"
    )


def _names(rivals: list[str]) -> str:
    return rivals[0] if len(rivals) == 1 else ", ".join(rivals[:-1]) + " and " + rivals[-1]
