"""The table of all units: sorted, searched and paged here. The address is its whole state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from django.core.paginator import Page, Paginator
from django.http import QueryDict

from webapp.pages.units import STATES, Units

PER_PAGE = 100
SHOW = {
    "": "all filters",
    "culprits": "ranked culprits",
    "ablated": "ablated filters",
    "hurts": "presence hurts, interval beside 0",
    "helps": "presence helps, interval beside 0",
    "open": "interval holds 0",
    "unsampled": "not sampled",
}
# What each column sorts by, float64 [n]; NaN comes last.
COLUMNS: dict[str, tuple[str, Callable[[Units], np.ndarray]]] = {
    "filter": ("filter", lambda units: np.arange(len(units))),
    "value": ("value", lambda units: np.where(units.known, units.value, np.nan)),
    "samples": ("samples", lambda units: units.samples),
    "searched": ("ranked by", lambda units: units.searched),
    "constant": ("constant", lambda units: units.constant),
    "rank": ("rank", lambda units: np.where(units.rank > 0, units.rank, np.nan)),
}


@dataclass(frozen=True)
class View:
    """What one address shows.

    Attributes:
        sort, descending: by which of COLUMNS, and how; filters without a figure always come last.
        text: part of the filter's name.
        show: a key of SHOW.
        valued: filters that were sampled.
        ticked: ids of filters, in the order of the table they were ticked on.
    """

    page: Page
    sort: str
    descending: bool
    text: str
    show: str
    shows: Mapping[str, str]
    found: int
    total: int
    valued: int
    ticked: tuple[str, ...]

    @property
    def elsewhere(self) -> list[str]:
        """Ticked filters that this page of the table does not show."""
        here = {row.id for row in self.page}
        return [name for name in self.ticked if name not in here]

    @property
    def turned(self) -> dict[str, str]:
        """What the heading of each column sorts by."""
        return {key: f"-{key}" if key == self.sort and not self.descending else key for key in COLUMNS}


def view(units: Units, asked: QueryDict, first: str = "value") -> View:
    """Nothing that is asked can be wrong: what is not understood is left out.

    `sort` is a column, with a minus before it for descending (or `order=desc`); without one it is `first`.
    """
    sort = asked.get("sort", first)
    descending = sort.startswith("-") or asked.get("order") == "desc"
    sort = sort.removeprefix("-") if sort.removeprefix("-") in COLUMNS else "value"
    text, show = asked.get("q", "").strip()[:100], asked.get("show", "")
    kept = np.flatnonzero(_shown(units, show))
    if text:
        kept = np.array([i for i in kept if text.lower() in units.ids[i].lower()], np.int64)
    key = COLUMNS[sort][1](units)[kept].astype(np.float64)
    ordered = kept[np.argsort(-key if descending else key, kind="stable")]  # NaN last, either way
    page = Paginator(ordered, PER_PAGE).get_page(asked.get("page"))
    page.object_list = units.rows(page.object_list)
    ticked = tuple(name for name in dict.fromkeys(asked.getlist("pick")) if name in units.number)
    valued = int((~np.isnan(units.value)).sum())
    return View(page, sort, descending, text, show if show in SHOW else "", SHOW, len(kept), len(units), valued, ticked)


def _shown(units: Units, show: str) -> np.ndarray:
    """Which units are of a kind of SHOW, bool [n]."""
    if show in STATES:
        return units.state == STATES.index(show)
    of = {"culprits": units.culprit, "ablated": units.ablated}
    return of.get(show, np.ones(len(units), bool))
