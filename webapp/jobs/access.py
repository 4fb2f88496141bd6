"""The only place where objects are looked up for a user. What is not theirs does not exist: 404.

Views never call `get(pk=…)`; they call one of these.
"""

from __future__ import annotations

from typing import TypeVar
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.http import Http404

from webapp.accounts.models import ApiToken, User
from webapp.jobs.models import Artifact, Job
from webapp.library.models import DatasetUpload, ModelUpload, Thumbnails

M = TypeVar("M", bound=Model)


def models_of(user: User) -> QuerySet[ModelUpload]:
    return ModelUpload.objects.filter(owner=user).select_related("blob")


def datasets_of(user: User) -> QuerySet[DatasetUpload]:
    return DatasetUpload.objects.filter(owner=user).select_related("blob")


def jobs_of(user: User) -> QuerySet[Job]:
    return Job.objects.filter(owner=user).select_related("model", "dataset", "guard", "parent", "audited")


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


def token_for(user: User, pk: int | str) -> ApiToken:
    return _one(tokens_of(user), pk, "token")


def artifact_for(user: User, job_pk: UUID | str, name: str) -> Artifact:
    job = job_for(user, job_pk)
    artifact = job.artifacts.select_related("blob").filter(name=name).first()
    if artifact is None:
        raise Http404(f"This repair has no file named {name!r}.")
    return artifact


def _one(rows: QuerySet[M], pk: object, what: str) -> M:
    try:
        row = rows.filter(pk=pk).first()
    except (ValueError, TypeError, ValidationError):
        row = None
    if row is None:
        raise Http404(f"You have no {what} with this id.")
    return row
