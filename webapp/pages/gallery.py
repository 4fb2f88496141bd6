"""Images of a run or of a dataset, filtered, ordered and paged by the address. A hundred thousand of them are a few
arrays of numbers: what one page shows is found by comparing them, and only its own names are looked up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from django.http import QueryDict
from django.utils.html import conditional_escape
from django.utils.http import urlencode
from django.utils.safestring import SafeString, mark_safe

from repair_engine.pages.rendering import printable
from repair_engine.support.thumbnail_pack import VIEWS, Column
from webapp.pages.image_sets import KINDS, Images

PER_PAGE = 30
EXACT = 64  # pixels of an image's longer side
EMPTY = "(empty)"  # how an address and a list name an empty value
NO_SUCH_NAME = "The zip has no image by this name: its names may be in another alphabet than was taken for them."
OF, ADVERSARIAL = "of", "adversarial"  # in the address: whose images, where a run has two kinds
ORDERS = {
    "": "file name",
    "sure-before": "most confident before",
    "sure": "most confident after",
    "unsure": "least confident after",
    "change": "largest change of confidence",
}


@dataclass(frozen=True)
class Tile:
    """One image of a page.

    Attributes:
        number: which of the Images.
        picture: its number in the pack; None: it cannot be shown, or there is no pack yet.
        why: why it cannot be shown.
        kind: key of KINDS, or "".
        values: key of each column -> its value.
        confidence: before and after, or None.
        exact: it is so small that its pixels are shown as squares.
        views: (what it shows, its number in the pack) of each picture, where there are several.
    """

    number: int
    name: str
    picture: int | None
    why: str
    kind: str
    values: Mapping[str, str]
    confidence: tuple[float, float] | None
    exact: bool
    views: Sequence[tuple[str, int]] = ()

    @property
    def words(self) -> str:
        return KINDS.get(self.kind, "")

    @property
    def good(self) -> bool:
        return self.kind in ("newly-right", "still-right")


def tile(images: Images, number: int) -> Tile:
    picture, why = None, ""
    if images.place is not None and images.pack is not None:
        place = int(images.place[number])
        why = NO_SUCH_NAME if place < 0 else images.pack.why.get(place, "")
        picture = None if why else place
    exact = picture is not None and images.pack is not None and int(images.pack.sizes[picture].max()) <= EXACT
    return Tile(
        number=number,
        name=printable(images.names[number]),
        picture=picture,
        why=printable(why),
        kind=list(KINDS)[images.kind[number]] if images.kind is not None else "",
        values={key: printable(column.at(number)) for key, (_, column) in images.columns.items()},
        confidence=None if images.confidence is None else (*map(float, images.confidence[:, number]),),
        exact=exact,
        views=list(zip(VIEWS, range(picture, picture + images.views)))
        if picture is not None and images.views > 1
        else (),
    )


@dataclass(frozen=True)
class Choice:
    """Something to choose, with how many images it would leave."""

    key: str
    words: str
    count: int
    chosen: bool
    query: str


@dataclass(frozen=True)
class Select:
    key: str
    words: str
    options: SafeString


@dataclass(frozen=True)
class View:
    """What one address shows.

    Attributes:
        kinds: all images, then each of KINDS; none where there are no predictions.
        show: the chosen one's key.
        selects: lists to choose from, with counts.
        order: numbers of the images that are left, in order.
        query: of this page, without the number of the page.
        narrowed: something is chosen.
        stays: what the address keeps whatever is chosen.
    """

    tiles: Sequence[Tile]
    kinds: Sequence[Choice]
    show: str
    selects: Sequence[Select]
    order: np.ndarray
    total: int
    page: int
    pages: int
    query: str
    narrowed: bool
    stays: Mapping[str, str]

    @property
    def all(self) -> str:
        """The query of all images of this kind."""
        return f"?{urlencode(self.stays)}" if self.stays else ""

    @property
    def found(self) -> int:
        return len(self.order)

    @property
    def here(self) -> str:
        return self._paged(self.page)

    @property
    def previous(self) -> str:
        return self._paged(self.page - 1) if self.page > 1 else ""

    @property
    def next(self) -> str:
        return self._paged(self.page + 1) if self.page < self.pages else ""

    @property
    def first(self) -> int:
        return (self.page - 1) * PER_PAGE + 1

    @property
    def last(self) -> int:
        return min(self.page * PER_PAGE, self.found)

    def _paged(self, page: int) -> str:
        return "?" + "&".join(part for part in (self.query, f"page={page}" if page > 1 else "") if part)

    def beside(self, number: int) -> tuple[int | None, int | None]:
        """The images before and after this one; None: there is none, or it is not among them."""
        at = np.flatnonzero(self.order == number)
        if not len(at):
            return None, None
        i = int(at[0])
        return (
            int(self.order[i - 1]) if i > 0 else None,
            int(self.order[i + 1]) if i + 1 < len(self.order) else None,
        )

    def page_of(self, number: int) -> str:
        """The query of the page that shows this image."""
        at = np.flatnonzero(self.order == number)
        return self._paged(int(at[0]) // PER_PAGE + 1 if len(at) else 1)


def view(images: Images, asked: QueryDict) -> View:
    """Nothing that is asked can be wrong: what is not understood is left out.

    `all` asks for the images of a dataset instead of its classes at a glance, and stays in the address; so does `of`.
    """
    chosen: dict[str, str] = {}
    misses: dict[str, np.ndarray] = {}
    for key, (_, column) in images.columns.items():
        code = _code(column, asked.get(key, ""))
        if code is not None:
            chosen[key] = asked[key]
            misses[key] = column.codes != code
    show = asked.get("show", "") if images.kind is not None and asked.get("show") in KINDS else ""
    if show:
        assert images.kind is not None
        chosen["show"] = show
        misses["show"] = images.kind != list(KINDS).index(show)
    order = asked.get("order", "") if images.confidence is not None and asked.get("order") in ORDERS else ""
    stays = {"all": "1"} if "all" in asked else {}
    stays |= {OF: ADVERSARIAL} if asked.get(OF) == ADVERSARIAL else {}
    params = {**chosen, **({"order": order} if order else {}), **stays}
    missed = np.sum(list(misses.values()), axis=0, dtype=np.uint8) if misses else np.zeros(len(images), np.uint8)

    def left(key: str) -> np.ndarray:
        """Who would be there if nothing of this kind were chosen."""
        return np.asarray((missed - misses[key] if key in misses else missed) == 0)

    selects = [
        Select(key, words, _options(column, left(key), chosen.get(key, "")))
        for key, (words, column) in images.columns.items()
    ]
    if images.confidence is not None:
        words = [(key, text, key == order) for key, text in ORDERS.items()]
        selects.append(Select("order", "order", _html(words)))
    found = _ordered(images, np.flatnonzero(missed == 0), order)
    pages = max(1, -(-len(found) // PER_PAGE))
    page = min(max(1, _number(asked.get("page", ""))), pages)
    shown = found[(page - 1) * PER_PAGE : page * PER_PAGE]
    return View(
        tiles=[tile(images, int(number)) for number in shown],
        kinds=_kinds(images, left("show"), show, params),
        show=show,
        selects=selects,
        order=found,
        total=len(images),
        page=page,
        pages=pages,
        query=urlencode(params),
        narrowed=bool(chosen),
        stays=stays,
    )


def _code(column: Column, value: str) -> int | None:
    wanted = "" if value == EMPTY and EMPTY not in column.values else value
    return column.values.index(wanted) if value and wanted in column.values else None


def _kinds(images: Images, left: np.ndarray, show: str, params: Mapping[str, str]) -> list[Choice]:
    if images.kind is None:
        return []
    counts = np.bincount(images.kind[left], minlength=len(KINDS))
    rest = {key: value for key, value in params.items() if key != "show"}
    every = Choice("", "all", int(counts.sum()), not show, "?" + urlencode(rest))
    return [every] + [
        Choice(key, words, int(counts[i]), key == show, "?" + urlencode({"show": key, **rest}))
        for i, (key, words) in enumerate(KINDS.items())
    ]


def _options(column: Column, left: np.ndarray, chosen: str) -> SafeString:
    """Written here and not in a template: there may be thousands."""
    counts = np.bincount(column.codes[left], minlength=len(column.values))
    listed = [("", "all", not chosen)]
    for value, count in zip(column.values, counts, strict=True):
        key = value or EMPTY
        if count or key == chosen:
            listed.append((key, f"{printable(key)} ({count:,})", key == chosen))
    return _html(listed)


def _html(options: Iterable[tuple[str, str, bool]]) -> SafeString:
    return mark_safe(
        "".join(
            f'<option value="{conditional_escape(key)}"{" selected" if on else ""}>{conditional_escape(words)}</option>'
            for key, words, on in options
        )
    )


def _ordered(images: Images, found: np.ndarray, order: str) -> np.ndarray:
    if not order or images.confidence is None:
        return found
    before, after = images.confidence[:, found]
    by = {"sure-before": -before, "sure": -after, "unsure": after, "change": -np.abs(after - before)}[order]
    return found[np.argsort(by, kind="stable")]


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 1
