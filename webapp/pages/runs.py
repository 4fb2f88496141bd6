"""The table of runs. The address is its whole state: shared or reloaded, it shows the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.core.paginator import Page, Paginator

from webapp.accounts import rights
from webapp.accounts.models import User
from webapp.jobs import access, listing, naming, removal
from webapp.jobs.models import Job
from webapp.pages.selectors import watched, with_progress
from webapp.pages.templatetags.ui import STATES

PER_PAGE = 30
SHOWS = {"": "without the archive", "archived": "the archive", "all": "all", "deleted": "deleted just now"}
COLUMNS = {  # key of listing.SORTS: heading
    "name": "Run",
    "kind": "Kind",
    "state": "State",
    "gain": "Gain (points)",
    "budget": "Budget",
    "seed": "Seed",
    "device": "Device",
    "created": "Started (UTC)",
}
FALLING = ("gain", "budget", "created")  # sorted by the largest first when their heading is first chosen


@dataclass(frozen=True)
class Choice:
    """A filter: its name in the address, what it is called, (value, words) of what may be chosen, what is."""

    name: str
    words: str
    options: list[tuple[str, str]]
    value: str


@dataclass(frozen=True)
class RunTable:
    """Attributes:
    jobs: of the page, each with `now`, its progress, while it runs.
    headings: (key, words, what it sorts by when it is chosen) of each column.
    narrowed: something is searched or filtered, so that an empty table is not an empty account.
    total: runs of the account, the archive included.
    undo: runs of the latest deletion, which can be taken back.
    """

    page: Page
    jobs: list[Job]
    text: str
    choices: list[Choice]
    sort: str
    falling: bool
    headings: list[tuple[str, str, str]]
    show: str
    narrowed: bool
    total: int
    undo: list[Job]

    @property
    def sorts(self) -> list[tuple[str, str]]:
        """For who sees cards in the place of columns."""
        ways = ("", "smallest or first of the alphabet first"), ("-", "largest or latest first")
        return [(sign + key, f"{words}, {way}") for key, words in COLUMNS.items() for sign, way in ways]

    @property
    def sorted_by(self) -> str:
        return ("-" if self.falling else "") + self.sort


def table(user: User, asked: Mapping[str, Any]) -> RunTable:
    """Nothing that is asked can be wrong: what is not understood is left out."""
    mine = access.jobs_of(user)
    choices = _choices(user, asked)
    wanted = {choice.name: choice.value for choice in choices}
    show = wanted.pop("show")
    if show == "deleted":
        runs = access.deleted_jobs_of(user)
    else:
        runs = mine if show == "all" else mine.filter(archived_at__isnull=show != "archived")
    text = _line(asked.get("q", ""))[:200]
    sort = asked.get("sort", "")
    sort = sort if sort.removeprefix("-") in COLUMNS else "-created"
    key, falling = sort.removeprefix("-"), sort.startswith("-")
    found = listing.rows(listing.chosen(runs, {**wanted, "q": text, "sort": sort}))
    page = Paginator(found, PER_PAGE).get_page(asked.get("page"))
    return RunTable(
        page=page,
        jobs=with_progress(page),
        text=text,
        choices=choices,
        sort=key,
        falling=falling,
        headings=[(one, words, _turned(one, key, falling)) for one, words in COLUMNS.items()],
        show=show,
        narrowed=bool(text or show or any(wanted.values())),
        total=mine.count(),
        undo=removal.latest(access.deleted_jobs_of(user)),
    )


def _turned(key: str, present: str, falling: bool) -> str:
    down = not falling if key == present else key in FALLING
    return f"-{key}" if down else key


def _line(text: str) -> str:
    """Databases take no NUL in a text."""
    return " ".join(text.replace("\0", " ").split())


def _choices(user: User, asked: Mapping[str, Any]) -> list[Choice]:
    mine = access.jobs_of(user).order_by()
    used = ("model", "dataset")
    uploads = {kind: mine.values_list(kind, f"{kind}__name").distinct().order_by(f"{kind}__name") for kind in used}
    tags = access.tags_of(user).values_list("word", flat=True)
    options = {
        "state": [(key, STATES.get(key, key)) for key in listing.STATES if key != Job.State.SUCCEEDED],
        "kind": list(naming.KINDS.items()),
        "model": _named(uploads["model"]),
        "dataset": _named(uploads["dataset"]),
        "team": [(str(one.pk), one.name) for one in rights.teams(user)],
        "tag": [(word, word) for word in tags.distinct().order_by("word")],
        "show": list(SHOWS.items()),
    }
    words = {"state": "State", "kind": "Kind", "model": "Model", "dataset": "Dataset", "team": "Team"}
    words |= {"tag": "Tag", "show": "Show"}
    return [Choice(name, words[name], found, _one_of(asked.get(name, ""), found)) for name, found in options.items()]


def _named(rows: Any) -> list[tuple[str, str]]:
    """Uploads by name; those of the same name are told apart by their ids."""
    found = [(pk, name) for pk, name in rows]
    names = [name for _, name in found]
    return [(str(pk), name if names.count(name) == 1 else f"{name} ({str(pk)[:8]})") for pk, name in found]


def _one_of(value: str, options: list[tuple[str, str]]) -> str:
    return value if value in {key for key, _ in options} else ""


def still_running(user: User, pks: list[str]) -> list[Job]:
    """Of these runs of the account's, for polling: those that are none are left out, for they may be gone meanwhile."""
    known = []
    for pk in pks[:PER_PAGE]:
        try:
            known.append(UUID(pk))
        except ValueError:
            continue
    return watched(access.watched_jobs_of(user, known))
