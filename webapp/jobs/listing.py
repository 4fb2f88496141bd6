"""Runs as lists show them: searched, filtered and sorted by the database, for pages and API alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db.models import Exists, F, OuterRef, Prefetch, Q, QuerySet
from django.db.models.functions import Lower

from webapp.jobs.models import Job, Tag

SORTS: dict[str, tuple[Any, ...]] = {
    "name": (Lower("title"),),
    "kind": (F("kind"),),
    "state": (F("state"), F("outcome")),
    "gain": (F("gain"),),
    "budget": (F("budget"),),
    "seed": (F("seed"),),
    "model": (Lower("model__name"),),
    "dataset": (Lower("dataset__name"),),
    "device": (F("device"),),
    "created": (F("created_at"),),
}
STATES = {**dict(Job.State.choices), **dict(Job.Outcome.choices)}
_LIGHT = (
    "owner", "team", "made_by", "name", "title", "kind", "seed", "budget", "gain", "gain_lower", "gain_upper",
    "request", "device", "state", "outcome", "phase", "round", "error", "held", "parent", "audited", "created_at",
    "started_at", "phase_started_at", "finished_at", "archived_at", "deleted_at", "model__name", "dataset__name",
    "team__name", "owner__username",
)  # fmt: skip


def chosen(runs: QuerySet[Job], asked: Mapping[str, Any]) -> QuerySet[Job]:
    """Those that are asked for, newest first unless `sort` says otherwise.

    Args:
        asked: `q` (each word is part of the title, of a tag, or of the model's or the dataset's name), `state` (a key
            of STATES), `kind`, `model`, `dataset`, `team` (ids), `tag`; `sort`: a key of SORTS, with a minus before it
            for descending. What is missing or empty does not choose.
    """
    for word in str(asked.get("q") or "").split():
        named = Q(title__icontains=word) | Q(model__name__icontains=word) | Q(dataset__name__icontains=word)
        runs = runs.filter(named | Exists(Tag.objects.filter(job=OuterRef("pk"), word__icontains=word)))
    if state := asked.get("state"):
        runs = runs.filter(Q(outcome=state) if state in Job.Outcome else Q(state=state))
    for name in ("kind", "model", "dataset", "team"):
        if asked.get(name):
            runs = runs.filter(**{name: asked[name]})
    if asked.get("tag"):
        runs = runs.filter(Exists(Tag.objects.filter(job=OuterRef("pk"), word=asked["tag"])))
    sort = str(asked.get("sort") or "-created")
    key, falling = sort.removeprefix("-"), sort.startswith("-")
    order = [one.desc(nulls_last=True) if falling else one.asc(nulls_last=True) for one in SORTS[key]]
    return runs.order_by(*order, "-created_at", "-pk")


def rows(runs: QuerySet[Job]) -> QuerySet[Job]:
    """With what a table shows of them, their tags as `tagged`, and nothing of their reports."""
    beside = runs.select_related(None).select_related("model", "dataset", "team", "owner")
    return beside.only(*_LIGHT).prefetch_related(Prefetch("tags", to_attr="tagged"))
