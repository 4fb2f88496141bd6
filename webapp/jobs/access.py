"""The only place where objects are looked up for a user. What is not theirs does not exist: 404.

Views never call `get(pk=…)`; they call one of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.http import Http404

from webapp import clock
from webapp.accounts.models import ApiToken, User
from webapp.jobs import live
from webapp.jobs.models import Artifact, Job, ShareLink
from webapp.jobs.removal import UNDO
from webapp.library.models import DatasetUpload, ModelUpload, Thumbnails

M = TypeVar("M", bound=Model)


def models_of(user: User) -> QuerySet[ModelUpload]:
    return ModelUpload.objects.filter(owner=user).select_related("blob")


def datasets_of(user: User) -> QuerySet[DatasetUpload]:
    return DatasetUpload.objects.filter(owner=user).select_related("blob")


def jobs_of(user: User) -> QuerySet[Job]:
    return (
        _runs_of(user)
        .filter(deleted_at=None)
        .select_related("model", "dataset", "guard", "triggered", "parent", "audited")
    )


def deleted_jobs_of(user: User) -> QuerySet[Job]:
    """What can still come back."""
    return _runs_of(user).filter(deleted_at__gt=clock.now() - UNDO).select_related("model", "dataset")


def _runs_of(user: User) -> QuerySet[Job]:
    return Job.objects.filter(owner=user)


def tokens_of(user: User) -> QuerySet[ApiToken]:
    return ApiToken.objects.filter(owner=user, revoked_at=None)


def model_for(user: User, pk: UUID | str) -> ModelUpload:
    return _one(models_of(user), pk, "model")


def dataset_for(user: User, pk: UUID | str) -> DatasetUpload:
    return _one(datasets_of(user), pk, "dataset")


def thumbnails_for(user: User, dataset_pk: UUID | str, sha256: str) -> Thumbnails:
    """Those that an address names by the beginning of their hash: what it showed once, it shows for ever."""
    rows = Thumbnails.objects.filter(dataset=dataset_pk, dataset__owner=user).select_related("blob")
    found = rows.filter(blob__sha256__startswith=sha256).first() if len(sha256) >= 16 else None
    if found is None:
        raise Http404("You have no thumbnails with this address.")
    return found


def job_for(user: User, pk: UUID | str) -> Job:
    return _one(jobs_of(user), pk, "repair")


def watched_job_for(user: User, pk: UUID | str, *, charts: bool = False) -> Job:
    """With its progress, in one query: for who asks again and again. Without what has to be joined."""
    return _one(live.watched(charts=charts).filter(owner=user, deleted_at=None), pk, "repair")


def anybodys_job_for(staff: User, pk: UUID | str) -> Job:
    """For who runs the site."""
    return _one(Job.objects.filter(deleted_at=None) if staff.is_staff else Job.objects.none(), pk, "run")


def deleted_job_for(user: User, pk: UUID | str) -> Job:
    return _one(deleted_jobs_of(user), pk, "deleted run")


def several(rows: QuerySet[Job], pks: Sequence[str]) -> list[Job]:
    """Of `jobs_of` or `deleted_jobs_of`, in the order in which they are named: all of them, or 404."""
    try:
        found = rows.in_bulk({UUID(str(pk)) for pk in pks})
        return [found[UUID(str(pk))] for pk in dict.fromkeys(pks)]
    except (ValueError, KeyError):
        raise Http404("You have no run with one of these ids.") from None


def links_of(job: Job) -> QuerySet[ShareLink]:
    """Of a run that the caller was looked up for."""
    return job.share_links.filter(revoked_at=None)


def link_for(user: User, job_pk: UUID | str, pk: int | str) -> ShareLink:
    return _one(links_of(job_for(user, job_pk)), pk, "link")


def token_for(user: User, pk: int | str) -> ApiToken:
    return _one(tokens_of(user), pk, "token")


def artifact_for(user: User, job_pk: UUID | str, name: str) -> Artifact:
    job = job_for(user, job_pk)
    artifact = job.artifacts.select_related("blob").filter(name=name).first()
    if artifact is None:
        raise Http404(f"This repair has no file named {name!r}.")
    return artifact


class NotThere(Http404):
    """What an id names does not exist for who asks: it never did, is another's, or is gone meanwhile."""


def _one(rows: QuerySet[M], pk: object, what: str) -> M:
    try:
        row = rows.filter(pk=pk).first()
    except (ValueError, TypeError, ValidationError):
        row = None
    if row is None:
        raise NotThere(f"You have no {what} with this id.")
    return row
