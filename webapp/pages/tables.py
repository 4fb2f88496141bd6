"""The table of all filters: read once, then sorted, searched and paged here. The address is its whole state."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from django.core.paginator import Page, Paginator
from django.http import QueryDict

from repair_engine.documents.known import is_known
from repair_engine.support import tables
from webapp.jobs.models import Job

PER_PAGE = 100
SHOW = {"": "all filters", "culprits": "ranked culprits", "ablated": "ablated filters"}


@dataclass(frozen=True)
class FilterRow:
    """A filter; value and bounds of fresh samples where there are some, else of the search. None: not sampled.

    Attributes:
        searched: what the search took its value for, where it ranked filters not sampled, too; else the value found.
    """

    id: str
    value: float | None
    lower: float | None
    upper: float | None
    samples: int
    fresh: bool
    searched: float | None
    constant: float
    rank: int | None
    ablated: bool
    place: int  # in the network's order

    @property
    def known(self) -> bool:
        """Its interval leaves something out of all that a value can be."""
        return is_known(self.value, self.lower, self.upper)


COLUMNS: dict[str, tuple[str, Callable[[FilterRow], object]]] = {
    "filter": ("filter", lambda row: row.place),
    "value": ("value", lambda row: row.value if row.known else None),
    "samples": ("samples", lambda row: row.samples),
    "searched": ("ranked by", lambda row: row.searched),
    "constant": ("constant", lambda row: row.constant),
    "rank": ("rank", lambda row: row.rank),
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


def filter_rows(job: Job) -> tuple[FilterRow, ...] | None:
    """Every filter of an ended run; None where it left no table."""
    found = {a.name: a for a in job.artifacts.select_related("blob").filter(name__in=("filters.csv", "score.json"))}
    artifact = found.get("filters.csv") or found.get("score.json")
    return _read(artifact.blob.path, artifact.name) if artifact else None


@lru_cache(maxsize=4)
def _read(path: Path, name: str) -> tuple[FilterRow, ...]:
    """The file is named by its content, so what was read once stays true."""
    if name == "score.json":
        rows = json.loads(path.read_text(encoding="utf-8"))["filters"]
        return tuple(_scored(place, row) for place, row in enumerate(rows))
    return tuple(_row(place, cells) for place, cells in enumerate(tables.read(path)))


def _scored(place: int, row: dict) -> FilterRow:
    figures = {key: row[key] for key in ("id", "value", "lower", "upper", "samples", "constant")}
    best = row["value"] if row.get("best") is None else row["best"]
    return FilterRow(**figures, searched=best, fresh=False, rank=None, ablated=False, place=place)


def _row(place: int, cells: dict[str, str]) -> FilterRow:
    fresh = bool(cells["fresh_value"])
    of = "fresh_" if fresh else ""
    return FilterRow(
        id=cells["filter"],
        value=_number(cells[f"{of}value"]),
        lower=_number(cells[f"{of}lower"]),
        upper=_number(cells[f"{of}upper"]),
        samples=int(cells[f"{of}samples"] or 0),
        fresh=fresh,
        searched=_number(cells.get("best") or cells["value"]),
        constant=float(cells["constant"]),
        rank=int(cells["rank"]) if cells["rank"] else None,
        ablated=cells.get("ablated") == "1",
        place=place,
    )


def _number(text: str) -> float | None:
    return float(text) if text else None


def view(rows: tuple[FilterRow, ...], asked: QueryDict, first: str = "value") -> View:
    """Nothing that is asked can be wrong: what is not understood is left out.

    `sort` is a column, with a minus before it for descending (or `order=desc`); without one it is `first`.
    """
    sort = asked.get("sort", first)
    descending = sort.startswith("-") or asked.get("order") == "desc"
    sort = sort.removeprefix("-") if sort.removeprefix("-") in COLUMNS else "value"
    text, show = asked.get("q", "").strip()[:100], asked.get("show", "")
    kept = [
        row
        for row in rows
        if text.lower() in row.id.lower()
        and (show != "culprits" or row.rank is not None)
        and (show != "ablated" or row.ablated)
    ]
    key = COLUMNS[sort][1]
    known = sorted((row for row in kept if key(row) is not None), key=key, reverse=descending)  # type: ignore[arg-type]
    ordered = known + [row for row in kept if key(row) is None]
    page = Paginator(ordered, PER_PAGE).get_page(asked.get("page"))
    ids = {row.id for row in rows}
    ticked = tuple(name for name in dict.fromkeys(asked.getlist("pick")) if name in ids)
    valued = sum(row.value is not None for row in rows)
    return View(page, sort, descending, text, show if show in SHOW else "", SHOW, len(kept), len(rows), valued, ticked)
