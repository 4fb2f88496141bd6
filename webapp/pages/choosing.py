"""The choice of filters on a finished run's page: which set the address names, and what is known of it on *select*."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.http import QueryDict
from django.urls import reverse
from markupsafe import Markup

from repair_engine.documents.edits import clean_words
from repair_engine.documents.reasons import looser
from repair_engine.errors import BadInput
from repair_engine.pages.charts import removal_curve
from repair_engine.pages.repair_wording import offer_said
from repair_engine.pages.svg import responsive
from repair_engine.settings import forgets
from webapp.jobs import choice, followups
from webapp.jobs.models import Job
from webapp.library.errors import Refused

Row = Mapping[str, Any]

ORDERS = {
    "value": "by value",
    "certainty": "by value over standard error",
    "stepwise": "stepwise",
    "stepwise with a margin": "stepwise, limits kept with a margin",
    "gates": "as gates close",
    "stepwise among gates": "stepwise among what gates close",
    "stepwise among gates with a margin": "stepwise among what gates close, limits kept with a margin",
    "by hand": "as chosen by hand",
}
MOST_GROUPS = 16  # shown at once: those that change most


@dataclass(frozen=True)
class Share:
    """A share of images with nothing ablated and now.

    Attributes:
        name: of a figure, a class or a subgroup.
        n: how many images, of a class or a subgroup.
        key: of a figure, as a step has it.
    """

    name: str
    before: float
    now: float
    n: int = 0
    key: str = ""

    @property
    def change(self) -> float:
        return self.now - self.before


@dataclass(frozen=True)
class Line:
    """A row of the table of all numbers of filters."""

    k: int
    unit: str
    values: list[float]
    won: int
    lost: int
    broken: list[str]
    chosen: bool
    url: str


@dataclass(frozen=True)
class Order:
    """An order of removal with its curve."""

    key: str
    words: str
    last: int
    chart: Markup | None
    shown: bool


@dataclass(frozen=True)
class Look:
    """What the page shows of a choice.

    Attributes:
        k: how many of the order's first filters are ablated; None: another set is.
        units: of the order, with whether each is ticked; then ticked ones that are not in it.
        step: figures of the set; None: a worker is asked, or `error` says why there are none.
        base: figures with nothing ablated.
        fewer: not all groups are shown.
        looked: reports on the run's report images so far.
    """

    document: Row
    orders: list[Order]
    order: int
    k: int | None
    units: list[tuple[str, bool]]
    ticked: list[str]
    step: Row | None
    base: Row
    note: str
    share: float
    error: str
    groups: list[Share]
    fewer: bool
    looked: int
    here: str
    all_url: str

    @property
    def walk(self) -> Order:
        return self.orders[self.order]

    @property
    def handle(self) -> int:
        """Where it stands: k, or as many filters as the set has."""
        return min(len(self.ticked), self.walk.last)

    @property
    def said(self) -> str:
        """Which set it is."""
        if self.k is None:
            return f"{len(self.ticked)} filter{'' if len(self.ticked) == 1 else 's'}, another set"
        return f"k = {self.k} of {self.walk.last}" + (", as the run chose" if self.chosen else "")

    @property
    def chosen(self) -> bool:
        return not self.order and self.k == self.document["k"]

    @property
    def figures(self) -> list[Share]:
        now = self.step or self.base
        return [Share(words, self.base[key], now[key], key=key) for key, words in _shown(self.document)]

    @property
    def swaps(self) -> str:
        step = self.step or self.base
        of = "images of the retain set" if forgets(self.document["metric"]["name"]) else "clean images"
        return f"{step['won']:,} {of} newly right, {step['lost']:,} newly wrong."

    @property
    def limits_said(self) -> str:
        if self.step is None:
            return ""
        broken = self.step["broken"]
        return f"Breaks a limit: {'; '.join(broken)}." if broken else "Keeps all limits."

    @property
    def rows(self) -> list[Line]:
        walk, shown = self.document["orders"][self.order], _shown(self.document)
        asked = {"order": self.order} if self.order else {}
        return [
            Line(
                k=row["k"],
                unit=walk["units"][row["k"] - 1] if row["k"] else "",
                values=[row[key] for key, _ in shown],
                won=row["won"],
                lost=row["lost"],
                broken=row["broken"],
                chosen=not self.order and row["k"] == self.document["k"],
                url=f"?{urlencode({'k': row['k'], **asked})}#choice",
            )
            for row in walk["steps"]
        ]


def look(job: Job, asked: QueryDict, asks: bool = True) -> Look | None:
    """What `?k=…&order=…` or `?pick=…&pick=…` name, by default what the run chose; None: the run kept no outcomes.

    Args:
        asks: whether who looks may ask a worker.
    """
    found = choice.kept(job)
    if found is None:
        return None
    try:
        document = choice.document(job, found)
    except (BadInput, Refused):
        return None
    at = _whole(asked.get("order", ""), len(document["orders"]) - 1) or 0
    walk = document["orders"][at]
    picked, error, note, share = [name for name in dict.fromkeys(asked.getlist("pick")) if name], "", "", 0.0
    k: int | None = None
    if not picked:
        wanted = _whole(asked.get("k", ""), len(walk["units"]))
        k = wanted if wanted is not None else (document["k"] if at == 0 else _best(document, walk))
        picked = walk["units"][:k]
        step: Row | None = walk["steps"][k]
    else:
        prefix = set(picked) == set(walk["units"][: len(picked)])
        k = len(picked) if prefix else None
        try:
            said = choice.said(job, picked, asks)
            step, error, note, share = said["figures"], said["error"], said["note"], said["share"]
        except (BadInput, Refused) as wrong:
            step, error = None, wrong.said
    base = walk["steps"][0]
    units = [(name, name in picked) for name in walk["units"]]
    units += [(name, True) for name in picked if name not in walk["units"]]
    groups = _groups(document, base, step or base)
    picks = urlencode([("pick", name) for name in picked])
    return Look(
        document=document,
        orders=[_order(document, job, i, i == at, k if i == at else None) for i in range(len(document["orders"]))],
        order=at,
        k=k,
        units=units,
        ticked=picked,
        step=step,
        base=base,
        note=note,
        share=share,
        error=error,
        groups=groups,
        fewer=len(groups) < len(document["classes"]) + len(document["subgroups"]),
        looked=followups.reports_before(job),
        here=f"?{picks}#choice",
        all_url=f"{reverse('pages:filters', args=[job.pk])}?{picks}",
    )


def _shown(document: Row) -> list[tuple[str, str]]:
    """Keys of a step that are shares and known of this run, and what they are called."""
    metric, first = document["metric"], document["orders"][0]["steps"][0]
    named = [("objective", metric["text"]), ("clean", clean_words(document)), ("guard", "guard set")]
    named += [("true_label", "true label under attack"), ("success", "attack success")]
    one = metric["name"] == "accuracy"
    return [(key, words) for key, words in named if first.get(key) is not None and not (one and key == "clean")]


def _whole(text: str, most: int) -> int | None:
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 9 else None
    return None if number is None or number > most else number


def _best(document: Row, walk: Row) -> int:
    """The best prefix of an order that was not used, within the limits."""
    sign = -1 if document["metric"]["goal"] == "lower" else 1
    kept = [row for row in walk["steps"] if row["feasible"]]
    return int(max(kept, key=lambda row: (sign * row["objective"], -row["k"]))["k"])


def _order(document: Row, job: Job, i: int, shown: bool, k: int | None) -> Order:
    walk = document["orders"][i]
    rows, metric = walk["steps"], document["metric"]
    chosen = document["k"] if i == 0 else _best(document, walk)
    banded = job.result.get("curve") if i == 0 else None  # the report has the used order's band, too
    floor = max(0.0, rows[0]["clean"] - document["limits"]["max_clean_drop"])
    chart = None
    if len(rows) > 1:
        chart = responsive(
            lambda w: removal_curve(
                banded or rows, chosen, metric["text"], floor=floor, one_line=metric["name"] == "accuracy",
                handle=chosen if k is None else k, clean=clean_words(document),
                best="chosen" if i == 0 else "best within the limits", width=w,
                ident=f"choice-{i}",
            )
        )  # fmt: skip
    return Order(walk["order"], ORDERS.get(walk["order"], walk["order"]), len(rows) - 1, chart, shown)


def _groups(document: Row, base: Row, step: Row) -> list[Share]:
    """The subgroups and classes that change most, in the order of their names."""
    found = []
    for key in ("subgroups", "classes"):
        rows = [
            Share(group["name"], base[key][i] / group["n"], step[key][i] / group["n"], group["n"])
            for i, group in enumerate(document[key])
            if group["n"]
        ]
        most = sorted(rows, key=lambda row: -abs(row.change))[:MOST_GROUPS]
        found += [row for row in rows if row in most]
    return found


@dataclass(frozen=True)
class Offer:
    """What may be done after "no repair found"."""

    words: str
    url: str


def offers(job: Job, document: Row) -> list[Offer]:
    """What looser limits would have allowed on *select*, each with the address that starts it."""
    if not followups.objectives_of(job):
        return []
    base = reverse("pages:follow", args=[job.pk])
    made = []
    for offer in looser(document):
        loosened = {key: offer[key] for key in ("max_clean_drop", "max_subgroup_drop") if offer[key] is not None}
        asked = urlencode({"metric": job.request["metric"], **loosened})
        made.append(Offer(offer_said(offer, document["metric"]["text"]), f"{base}?{asked}"))
    return made
