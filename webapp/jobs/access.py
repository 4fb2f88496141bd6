"""The only place where objects are looked up for a user. What they may not see does not exist: 404. What they may see
but not do is said: 403 (`NotYours`). How much that is, `accounts.rights` says.

Views never call `get(pk=…)`; they call one of these, and say what it is for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import TypeVar
from uuid import UUID

from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Model, QuerySet
from django.http import Http404

from webapp import clock
from webapp.accounts import rights
from webapp.accounts.models import ApiToken, Invitation, Membership, Owned, Role, Team, User
from webapp.accounts.rights import May
from webapp.jobs import live, sharing, webhooks
from webapp.jobs.models import Artifact, Delivery, Job, Receipt, ShareLink, Tag
from webapp.jobs.removal import UNDO
from webapp.library.models import DatasetUpload, ModelUpload, ResumableUpload, Thumbnails
from webapp.prepared import UUIDS, WHOLE, Prepared

M = TypeVar("M", bound=Model)
Thing = TypeVar("Thing", bound=Owned)
SEE, EDIT, OWN = May.SEE, May.EDIT, May.OWN
_WHO = {EDIT: "An editor or an owner of the team", OWN: "An owner"}


class NotThere(Http404):
    """What an id names does not exist for who asks: it never did, is another's, or is gone meanwhile."""


class NotYours(PermissionDenied):
    """Somebody sees a thing of a team's, and their role does not allow what they want to do with it."""


# --- several ------------------------------------------------------------------------------------------------


def models_of(user: User, need: May = SEE) -> QuerySet[ModelUpload]:
    return ModelUpload.objects.filter(rights.reach(user, need)).select_related("blob", "owner", "team")


def datasets_of(user: User, need: May = SEE) -> QuerySet[DatasetUpload]:
    return DatasetUpload.objects.filter(rights.reach(user, need)).select_related("blob", "owner", "team")


def arriving_of(user: User) -> QuerySet[ResumableUpload]:
    """Files on their way, and those that have arrived and were not used: of one person, whatever they become."""
    rows = ResumableUpload.objects.filter(owner=user, expires_at__gt=clock.now())
    return rows.select_related("reservation")


def resumable_of(user: User) -> QuerySet[ResumableUpload]:
    """Those that come by tus."""
    return arriving_of(user).filter(begun="")


def direct_of(user: User) -> QuerySet[ResumableUpload]:
    """Those that go straight to the store."""
    return arriving_of(user).exclude(begun="")


def jobs_of(user: User, need: May = SEE) -> QuerySet[Job]:
    used = ("model", "dataset", "guard", "triggered", "owner", "team", "made_by")  # few have a parent, or audit one
    return Job.objects.filter(rights.reach(user, need), deleted_at=None).select_related(*used)


def deleted_jobs_of(user: User) -> QuerySet[Job]:
    """What they can bring back."""
    rows = Job.objects.filter(rights.reach(user, OWN), deleted_at__gt=clock.now() - UNDO)
    return rows.select_related("model", "dataset")


def watched_jobs_of(user: User, pks: Iterable[UUID]) -> list[Job]:
    """Those of them that the person sees, with their progress: for who asks again and again. Without what has to be
    joined, and without `live.HEAVY`."""
    return [job for part in live.in_parts(pks) for job in _watched(len(part), light=True)(user.pk, *part)]


@cache
def _watched(size: int, *, charts: bool = False, light: bool = False) -> Prepared[Job]:
    def rows(user: int, *pks: UUID) -> QuerySet[Job]:
        found = live.watched(charts=charts).filter(rights.reach(User(pk=user)), deleted_at=None, pk__in=pks)
        return found.defer(*live.HEAVY) if light else found

    return Prepared(rows, WHOLE, *UUIDS[:size])


def followups_of(user: User, job: Job) -> QuerySet[Job]:
    return jobs_of(user).filter(parent=job)


def parent_of(user: User, job: Job) -> Job | None:
    """The run that it goes on from; of a run that somebody else shares it is left out, for it need not be shared."""
    return job.parent if rights.sees_parent(user.pk, job) else None


def tags_of(user: User) -> QuerySet[Tag]:
    return Tag.objects.filter(rights.reach(user, at="job__"), job__deleted_at=None)


def deliveries_of(user: User) -> QuerySet[Delivery]:
    """Calls to webhooks of runs that the person works with, the latest first."""
    rows = webhooks.calls().filter(rights.reach(user, EDIT, "job__"), job__deleted_at=None).exclude(job__webhook_url="")
    return rows.select_related("job").defer(*(f"job__{name}" for name in live.HEAVY)).order_by("-created_at", "-pk")


def delivery_for(user: User, pk: UUID | str) -> Delivery:
    return _found(deliveries_of(user), pk, "delivery")


def ended_after(user: User, moment: datetime) -> QuerySet[Job]:
    """Runs that the person started, and may see, that have ended since, the first first."""
    rows = Job.objects.filter(rights.reach(user), made_by=user, finished_at__gt=moment, deleted_at=None)
    return rows.select_related("model").defer(*live.HEAVY).order_by("finished_at", "pk")


def tokens_of(user: User) -> QuerySet[ApiToken]:
    return ApiToken.objects.filter(owner=user, revoked_at=None)


def several(user: User, rows: QuerySet[Job], pks: Sequence[str], need: May) -> list[Job]:
    """Of `jobs_of` or `deleted_jobs_of`, in the order in which they are named: all of them, or 404, or 403."""
    try:
        found = rows.in_bulk({UUID(str(pk)) for pk in pks})
        jobs = [found[UUID(str(pk))] for pk in dict.fromkeys(pks)]
    except (ValueError, KeyError):
        raise Http404("You have no run with one of these ids.") from None
    for job in jobs:
        _check(user, job, need)
    return jobs


# --- one ----------------------------------------------------------------------------------------------------


def model_for(user: User, pk: UUID | str, need: May) -> ModelUpload:
    return _one(user, models_of(user), pk, "model", need)


def dataset_for(user: User, pk: UUID | str, need: May) -> DatasetUpload:
    return _one(user, datasets_of(user), pk, "dataset", need)


def arriving_for(user: User, pk: UUID | str) -> ResumableUpload:
    return _found(arriving_of(user), pk, "upload")


def resumable_for(user: User, pk: UUID | str) -> ResumableUpload:
    return _found(resumable_of(user), pk, "upload")


def direct_for(user: User, pk: UUID | str) -> ResumableUpload:
    return _found(direct_of(user), pk, "upload")


def thumbnails_for(user: User, dataset_pk: UUID | str, sha256: str) -> Thumbnails:
    """Those that an address names by the beginning of their hash: what it showed once, it shows for ever."""
    rows = Thumbnails.objects.filter(rights.reach(user, at="dataset__"), dataset=dataset_pk).select_related("blob")
    found = rows.filter(blob__sha256__startswith=sha256).first() if len(sha256) >= 16 else None
    if found is None:
        raise Http404("You have no thumbnails with this address.")
    return found


def job_for(user: User, pk: UUID | str, need: May) -> Job:
    return _one(user, jobs_of(user), pk, "repair", need)


def watched_job_for(user: User, pk: UUID | str, *, charts: bool = False) -> Job:
    """To see, in one query."""
    for job in _watched(1, charts=charts)(user.pk, UUID(str(pk))):
        return job
    raise NotThere("You have no repair with this id.")


def anybodys_job_for(staff: User, pk: UUID | str) -> Job:
    """For who runs the site."""
    rows = Job.objects.filter(deleted_at=None) if staff.is_staff else Job.objects.none()
    return _found(rows, pk, "run")


def staff_only(user: User) -> None:
    if not user.is_staff:
        raise Http404("There is nothing at this address.")


def person_for(staff: User, pk: int) -> User:
    """For who runs the site."""
    staff_only(staff)
    return _found(User.objects.all(), pk, "account")


def deleted_job_for(user: User, pk: UUID | str) -> Job:
    return _found(deleted_jobs_of(user), pk, "deleted run")


def links_of(job: Job) -> QuerySet[ShareLink]:
    """Of a run that the caller was looked up for, to OWN."""
    return job.share_links.filter(revoked_at=None)


def link_for(user: User, job_pk: UUID | str, pk: int | str) -> ShareLink:
    return _found(links_of(job_for(user, job_pk, OWN)), pk, "link")


def token_for(user: User, pk: int | str) -> ApiToken:
    return _found(tokens_of(user), pk, "token")


def artifact_for(user: User, job_pk: UUID | str, name: str) -> Artifact:
    """Viewers take what a model can be made of where their team lets them."""
    job = job_for(user, job_pk, SEE)
    artifact = job.artifacts.select_related("blob").filter(name=name).first()
    if artifact is None:
        raise Http404(f"This repair has no file named {name!r}.")
    if not takes(user, job, artifact):
        raise NotYours(
            f"Viewers of the team {job.team} read reports and tables; its owners can allow checkpoints, too."
        )
    return artifact


def receipt_for(user: User, job_pk: UUID | str) -> Receipt:
    found = Receipt.objects.filter(job=job_for(user, job_pk, SEE)).first()
    if found is None:
        raise NotThere("This run has no receipt.")
    return found


def takes(user: User, job: Job, file: Artifact) -> bool:
    """Whether who sees the run may download a file of it."""
    if sharing.to_read(file) or job.owner_id == user.pk or (job.team is not None and job.team.viewers_take_weights):
        return True
    return rights.may(user, job) >= EDIT


# --- teams --------------------------------------------------------------------------------------------------


def team_for(user: User, pk: int | str, need: May = SEE) -> Team:
    """`need`: OWN to manage it."""
    team = _found(rights.teams(user), pk, "team")
    if need > SEE and not rights.teams(user, need).filter(pk=team.pk).exists():
        raise NotYours(f"{_WHO[need]} can do this; you are {rights.role_in(user, team.pk)} of {team}.")
    return team


def membership_for(user: User, team: Team, pk: int | str) -> Membership:
    """Of a team that the caller was looked up for; one's own, or any where one manages it."""
    own = rights.role_in(user, team.pk) == Role.OWNER
    found = _found(team.memberships.select_related("user"), pk, "member")
    if not own and found.user_id != user.pk:
        raise NotYours(f"Owners of {team} manage its members.")
    return found


def invitations_to(user: User) -> QuerySet[Invitation]:
    """That can be answered still."""
    now = clock.now()
    rows = Invitation.objects.filter(user=user, accepted_at=None, declined_at=None, expires_at__gt=now)
    return rows.select_related("team", "invited_by")


def open_invitations(team: Team) -> QuerySet[Invitation]:
    """Of a team that the caller was looked up for, to OWN. Declined ones are among them."""
    return team.invitations.filter(accepted_at=None, expires_at__gt=clock.now()).select_related("invited_by")


def open_invitation_for(team: Team, pk: int | str) -> Invitation:
    return _found(open_invitations(team), pk, "invitation")


def invitation_for(user: User, pk: int | str) -> Invitation:
    return _found(invitations_to(user), pk, "invitation")


# --- how ----------------------------------------------------------------------------------------------------


def check_takes_out(user: User, thing: Owned) -> None:
    """Raises NotYours: only whose it is and who owns the team end that it is shared."""
    if not rights.takes_out(user, thing) and rights.may(user, thing) < OWN:
        raise NotYours("Only whose it is, and who owns the team, can take it out.")


def _check(user: User, thing: Owned, need: May) -> None:
    if need > SEE and rights.may(user, thing) < need:
        raise NotYours(f"{_WHO[need]} can do this; your role in {thing.team} does not allow it.")


def _one(user: User, rows: QuerySet[Thing], pk: object, what: str, need: May) -> Thing:
    row = _found(rows, pk, what)
    _check(user, row, need)
    return row


def _found(rows: QuerySet[M], pk: object, what: str) -> M:
    try:
        row = rows.filter(pk=pk).first()
    except (ValueError, TypeError, OverflowError, ValidationError):
        row = None
    if row is None:
        raise NotThere(f"You have no {what} with this id.")
    return row
