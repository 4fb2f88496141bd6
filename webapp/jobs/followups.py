"""A repair that goes on from a finished run: filters chosen by hand, or another of the objectives it valued.

It is an ordinary job of its own, with the splits, constants, attack and device of its parent, and nothing is searched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from repair_engine.errors import BadInput
from repair_engine.settings import FOLLOWED, options
from repair_engine.support.words import first_few
from webapp.accounts.models import Team, User
from webapp.jobs import services, triggers
from webapp.jobs.models import Job
from webapp.jobs.requests import KEPT_VALUES, stored
from webapp.library.errors import Refused

CHANGES = ("budget", *(name for group in FOLLOWED for name in options(group)))
MOST_FILTERS = 100  # chosen by hand: they stand in addresses
_NOT_TAKEN_OVER = ("kind", "filters", "stored", "report_uses", "budget", "minutes", "quality")
_REPORTS = tuple(set(Job.Outcome) - {Job.Outcome.SCORED, Job.Outcome.ATTACKED})  # which show report images' figures
_NAMED = 12


def follow_up(
    *,
    owner: User,
    team: Team | None = None,
    parent: Job,
    filters: Sequence[str] = (),
    metric: str | None = None,
    changes: Mapping[str, Any],
    **more: Any,
) -> tuple[Job, bool]:
    """The job and whether it is new, as `services.create_job`.

    Args:
        filters: ids to ablate, in this order. Without any, the values that the parent stored of `metric` rank them.
        metric: one that the parent valued; None: its own.
        changes: of CHANGES, what is not as in the parent (whose budget is taken over where none is given).
        more: name, idempotency_key and webhook of `create_job`.

    Raises:
        BadInput: with its field: unknown filters, or a metric that the parent did not value; says which there are.
        Refused: the parent has not finished.
    """
    if parent.state != Job.State.SUCCEEDED:
        raise Refused(
            f"The run {parent.pk} has not finished ({parent.state}): a repair can go on from finished ones only.",
            "Wait for it." if not parent.ended else "Start it again.",
            status=409,
        )
    if not filters and metric is None:
        raise BadInput("Choose filters, or a metric that the run valued.", field="filters")
    asked = {key: value for key, value in parent.request.items() if key not in _NOT_TAKEN_OVER}
    if filters:
        check_filters(parent, filters)
        asked["filters"] = list(filters)
        asked.pop("edit", None)  # the parent's may be one that leaves them alone
    else:
        asked["stored"] = True
    if metric is not None and (not filters or metric != parent.request.get("metric")):
        asked |= _valued(parent, metric, ranks=not filters)
    asked |= {key: value for key, value in changes.items() if key in CHANGES and value is not None}
    asked["report_uses"] = reports_before(parent)
    record = stored(asked)
    record.check_served()
    return services.create_job(
        owner=owner,
        team=team,
        model=parent.model,
        dataset=parent.dataset,
        guard=parent.guard,
        triggered=parent.triggered,
        trigger=triggers.patch_of(parent),
        asked=record,
        device=parent.device,
        parent=parent,
        **more,
    )


def objectives_of(job: Job, ranking: bool = True) -> list[str]:
    """Metrics that a repair may go on from without a search: those whose values the run stored.

    Args:
        ranking: the values must rank filters: those that are all 0 do not.
    """
    if not job.artifacts.filter(name__in=KEPT_VALUES).exists():
        return []
    rows = job.result.get("objectives", [{"name": job.request["metric"]}])  # a repair keeps those of its metric
    names = [row["name"] for row in rows if not (ranking and _silent(row))]
    return [name for name in names if not name.startswith("subgroup:")]  # which is a part of a metric, not one


def _silent(row: Mapping[str, Any]) -> bool:
    """In the run's samples no filter changed this objective: all its values are 0."""
    ends = [*row.get("lowest", []), *row.get("highest", [])]
    return bool(ends) and not any(one["value"] for one in ends)


def reports_before(job: Job) -> int:
    """Reports on the report images of a run that were made by it, and by what it goes on from or went on from it."""
    top, seen = job, {job.pk}
    while top.parent is not None and top.parent_id not in seen:
        top = top.parent
        seen.add(top.pk)
    found, family = [top], {top.pk}
    while found:
        found = [row for row in Job.objects.filter(parent__in=found) if row.pk not in family]
        family |= {row.pk for row in found}
    return Job.objects.filter(pk__in=family, outcome__in=_REPORTS).count()


def check_filters(parent: Job, filters: Sequence[str]) -> None:
    """Raises BadInput: there are too many, one is named twice, or the run's model has none of this name."""
    if len(filters) > MOST_FILTERS:
        raise BadInput(f"{len(filters)} filters are chosen; at most {MOST_FILTERS} can be.", field="filters")
    if twice := sorted({name for name in filters if list(filters).count(name) > 1}):
        raise BadInput(f"Chosen twice: {first_few(twice, _NAMED)}.", field="filters")
    sites = {row["name"]: row["filters"] for row in parent.model.facts.get("sites", [])}
    if sites and (unknown := [name for name in filters if not _known(name, sites)]):
        raise BadInput(
            f"The model has no such filter: {first_few(unknown, _NAMED)}. Filters are written site:channel, from 0; "
            f"the sites are {first_few(list(sites), _NAMED)}.",
            field="filters",
        )


def _known(name: str, sites: Mapping[str, int]) -> bool:
    site, _, channel = name.rpartition(":")
    channel = channel.removeprefix("head")
    return site in sites and channel.isascii() and channel.isdigit() and int(channel) < sites[site]


def _valued(parent: Job, metric: str, ranks: bool) -> dict[str, Any]:
    known = objectives_of(parent, ranking=ranks)
    if metric not in known:
        has = f"It valued: {first_few(known, _NAMED)}." if known else "It stored none; a run of kind score does."
        if any(row["name"] == metric for row in parent.result.get("objectives", [])):
            has = "In its samples no filter changed it, so all are 0: value it again with a larger budget. " + has
        raise BadInput(f"The run {parent.pk} has no values of {metric} to start from. {has}", field="metric")
    rows = parent.result.get("objectives")
    others = parent.request.get("also", []) if rows is None else [row["name"] for row in rows if row["name"] != metric]
    return {"metric": metric, **({"also": others} if others else {})}
