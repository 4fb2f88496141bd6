"""Teams: who is in them and what is theirs. Every change locks the team's row, and is told to `webapp.audit`.

What the runs of a team use stays with it: where a person takes back what they shared, leaves, or is removed, the team
keeps a copy of the row (the file is the same) for those runs, and for them alone.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Mapping
from datetime import timedelta

from django.db import transaction
from django.db.models import Model

from webapp import clock
from webapp.accounts.models import Invitation, Membership, Role, Team, User
from webapp.jobs import removal
from webapp.jobs.models import Baseline, Delivery, Job
from webapp.library import quota
from webapp.library.errors import Refused
from webapp.library.models import DatasetUpload, ModelUpload, Thumbnails, Upload
from webapp.library.services import runs_with

MOST_TEAMS, MOST_MEMBERS, MOST_INVITATIONS = 20, 200, 100  # made by one person; of one team
VALID = timedelta(days=14)
LINK_ROLES = (Role.VIEWER, Role.EDITOR)  # who owns a team is asked by name
audit = logging.getLogger("webapp.audit")


def tell(by: User, what: str, team: Team, **more: object) -> None:
    extra = {"user": by.username, "action": what, "object": {"team": team.pk}, "details": more}
    audit.info("%s %s team %s %s", by.username, what, team.pk, more or "", extra=extra)


def _locked(team: Team) -> Team:
    return Team.objects.select_for_update().get(pk=team.pk)


# --- the team -----------------------------------------------------------------------------------------------


@transaction.atomic
def create_team(*, owner: User, name: str) -> Team:
    """Raises Refused: they have made very many."""
    quota.lock(owner)
    if Team.objects.filter(payer=owner).count() >= MOST_TEAMS:
        raise Refused(f"You pay for {MOST_TEAMS} teams.", "Delete one that is not needed any more.", status=409)
    team = Team.objects.create(name=name.strip()[:100], payer=owner)
    Membership.objects.create(team=team, user=owner, role=Role.OWNER)
    tell(owner, "team.created", team, name=team.name)
    return team


@transaction.atomic
def edit_team(*, by: User, team: Team, name: str | None = None, viewers_take_weights: bool | None = None) -> None:
    row = _locked(team)
    if name is not None:
        row.name = name.strip()[:100]
    if viewers_take_weights is not None:
        row.viewers_take_weights = viewers_take_weights
    row.save(update_fields=["name", "viewers_take_weights"])
    team.name, team.viewers_take_weights = row.name, row.viewers_take_weights
    tell(by, "team.edited", team, name=row.name, viewers_take_weights=row.viewers_take_weights)


@transaction.atomic
def pay_for(*, by: User, team: Team) -> None:
    """What belongs to the team counts in this owner's quota from now on. Raises Refused: there is no room in it."""
    row = _locked(team)
    for one in sorted({by.pk, row.payer_id}):
        User.objects.select_for_update(no_key=True).get(pk=one)
    row.payer = by
    row.save(update_fields=["payer"])
    now = quota.usage(by)
    if now.total > now.most:
        raise Refused(f"You would keep {now.total:,} bytes; you may keep {now.most:,}.", status=413)
    team.payer = by
    tell(by, "team.paid", team)


# --- members ------------------------------------------------------------------------------------------------


@transaction.atomic
def set_role(*, by: User, membership: Membership, role: str) -> None:
    """Raises Refused: nobody would own the team."""
    team = _locked(membership.team)
    row = Membership.objects.get(pk=membership.pk)
    if role != Role.OWNER:
        _somebody_else_owns(team, row)
    was, row.role = row.role, role
    row.save(update_fields=["role"])
    if was == Role.OWNER and role != Role.OWNER:
        _hand_over_paying(team, row.user)
        Invitation.objects.filter(team=team, invited_by=row.user, accepted_at=None).delete()
    membership.role = row.role
    tell(by, "team.role", team, member=row.user.username, was=was, role=row.role)


@transaction.atomic
def remove_member(*, by: User, membership: Membership) -> None:
    """Also who leaves of their own accord. Raises Refused: nobody would own the team."""
    team = _locked(membership.team)
    row = Membership.objects.select_related("user").filter(pk=membership.pk).first()
    if row is None:
        return
    _somebody_else_owns(team, row)
    who = row.user
    for kind in (ModelUpload, DatasetUpload, Job):
        for thing in kind.objects.filter(owner=who, team=team):
            _take_out(thing, team)
    row.delete()
    _hand_over_paying(team, who)
    # Nothing reaches them any more: neither a link that they made to come back by, nor calls about the team's runs.
    Invitation.objects.filter(team=team, invited_by=who, accepted_at=None).delete()
    started = Job.objects.filter(team=team, owner=None, made_by=who)
    Delivery.objects.filter(job__in=started, state=Delivery.State.PENDING).delete()
    started.update(webhook_url="", webhook_secret="", idempotency_key=None)
    tell(by, "team.left" if by == who else "team.removed", team, member=who.username)


def _somebody_else_owns(team: Team, row: Membership) -> None:
    if not team.memberships.filter(role=Role.OWNER).exclude(pk=row.pk).exists():
        raise Refused(
            f"{row.user} is the only owner of {team}.", "Make somebody else an owner first, or delete the team.",
            status=409,
        )  # fmt: skip


def _hand_over_paying(team: Team, who: User) -> None:
    """To the owner who has been in the team longest. Over their quota they add nothing, and lose nothing."""
    if team.payer_id == who.pk:
        team.payer = team.memberships.filter(role=Role.OWNER).exclude(user=who).order_by("joined_at", "pk")[0].user
        team.save(update_fields=["payer"])


# --- invitations --------------------------------------------------------------------------------------------


@transaction.atomic
def invite(*, by: User, team: Team, role: str, name: str = "") -> tuple[Invitation, str]:
    """By name, or with a link for whoever accepts it first. Returns the row and the link's token, which cannot be read
    again; for a name it is empty. That a name is nobody's is not said.

    Raises Refused: very many are open, the person is a member, or a link would make an owner.
    """
    _locked(team)
    name = User.normalize_username(name.strip())
    open_ones = team.invitations.filter(accepted_at=None, expires_at__gt=clock.now())
    if open_ones.count() >= MOST_INVITATIONS:
        raise Refused(f"{MOST_INVITATIONS} invitations are open.", "Take some back first.", status=409)
    if not name and role not in LINK_ROLES:
        raise Refused("A link makes viewers and editors.", "Invite an owner by name, or make a member an owner.")
    if name and team.memberships.filter(user__username=name).exists():
        raise Refused(f"{name} is in the team.", "Change the role there.", status=409)
    token = "" if name else secrets.token_urlsafe(24)
    row = Invitation.objects.create(
        team=team,
        role=role,
        name=name[:150],
        user=User.objects.filter(username=name, is_active=True).first() if name else None,
        digest=digest(token) if token else None,
        invited_by=by,
        expires_at=clock.now() + VALID,
    )
    tell(by, "team.invited", team, name=name or "by a link", role=role, invitation=row.pk)
    return row, token


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def by_link(token: str) -> Invitation | None:
    """The invitation of a link; None: there is none, or it was used, taken back, or its time is over."""
    rows = Invitation.objects.filter(digest=digest(token), accepted_at=None, expires_at__gt=clock.now())
    return rows.select_related("team", "invited_by").first()


@transaction.atomic
def accept(*, user: User, invitation: Invitation) -> Team:
    """Raises Refused: somebody else was faster, it was taken back, or the team is full."""
    team = Team.objects.select_for_update().filter(pk=invitation.team_id).first()
    here = Invitation.objects.filter(pk=invitation.pk, accepted_at=None, expires_at__gt=clock.now())
    if team is None or not here.update(accepted_at=clock.now(), user=user):
        raise Refused("This invitation does not work any more.", "Ask for a new one.", status=409)
    if team.memberships.count() >= MOST_MEMBERS:
        raise Refused(f"A team has at most {MOST_MEMBERS} members.", status=409)
    # Who is a member stays what they are.
    Membership.objects.get_or_create(team=team, user=user, defaults={"role": invitation.role})
    tell(user, "team.joined", team, role=invitation.role, invitation=invitation.pk)
    return team


def decline(*, invitation: Invitation) -> None:
    Invitation.objects.filter(pk=invitation.pk, accepted_at=None).update(declined_at=clock.now())


def take_back(*, by: User, invitation: Invitation) -> None:
    if Invitation.objects.filter(pk=invitation.pk, accepted_at=None).delete()[0]:
        tell(by, "team.uninvited", invitation.team, invitation=invitation.pk)


# --- things -------------------------------------------------------------------------------------------------


@transaction.atomic
def share(*, by: User, thing: Upload | Job, team: Team) -> None:
    """A person's own thing with a team of theirs; with a run goes all that it uses.

    Raises Refused: one of them is shared with another team, or the thing is the team's own.
    """
    _locked(team)
    _own(thing)
    for one in _with_all_it_uses(thing):
        row = _own(one)
        if row.team_id not in (None, team.pk):
            raise Refused(f"{one} is shared with {row.team}.", "Take it back from there first.", status=409)
        type(one).objects.filter(pk=one.pk).update(team=team)
    thing.team = team
    tell(by, "team.shared", team, thing=str(thing.pk), kind=thing._meta.model_name)


@transaction.atomic
def take_out(*, by: User, thing: Upload | Job) -> None:
    """End the sharing: by its owner, or by who owns the team. Raises Refused: it is the team's own, or not shared."""
    if thing.team is None:
        raise Refused(f"{thing} is shared with nobody.", status=409)
    team = _locked(thing.team)
    row = _own(thing)
    if row.team_id == team.pk:
        _take_out(row, team)
        tell(by, "team.unshared", team, thing=str(thing.pk), kind=thing._meta.model_name)
    thing.team = None


def _with_all_it_uses(thing: Upload | Job) -> list[Upload | Job]:
    """But not the run that it goes on from: it can do without."""
    if isinstance(thing, Upload):
        return [thing]
    used: list[Upload | None] = [thing.model, thing.dataset, thing.guard, thing.triggered, *thing.surrogates.all()]
    before = _with_all_it_uses(thing.audited) if thing.audited else []
    return list({one.pk: one for one in (thing, *used, *before) if one is not None}.values())


def _own(thing: Upload | Job) -> Upload | Job:
    row = type(thing).objects.select_for_update(of=("self",)).get(pk=thing.pk)
    if row.owner_id is None:
        raise Refused(f"{thing} belongs to the team {row.team}.", "Copy it, or delete it.", status=409)
    return row


def _take_out(thing: Upload | Job, team: Team) -> None:
    if isinstance(thing, Upload):
        uses = runs_with(thing)
        if any(jobs.filter(team=team, owner=None).exists() for jobs in uses):
            _repoint(thing, _copy(thing, team, thing.made_by), team)
        dependent = [job for jobs in uses for job in jobs.filter(team=team)]
    else:  # as if it were deleted, for what goes on from it there
        Job.objects.filter(parent=thing, team=team, owner=None).update(parent=None)
        dependent = list(thing.audits.filter(team=team))
    for job in dependent:  # their owner's, shared, too
        _take_out(job, team)
    type(thing).objects.filter(pk=thing.pk).update(team=None)


def _repoint(upload: Upload, copy: Upload, team: Team) -> None:
    """The team's own runs use the copy."""
    theirs = Job.objects.filter(team=team, owner=None)
    for role in ("dataset", "guard", "triggered") if isinstance(upload, DatasetUpload) else ("model",):
        theirs.filter(**{role: upload}).update(**{role: copy})
    if isinstance(upload, ModelUpload):
        for job in theirs.filter(surrogates=upload):
            job.surrogates.remove(upload)
            job.surrogates.add(copy)
            order = [str(copy.pk) if pk == str(upload.pk) else pk for pk in job.request.get("surrogates", [])]
            Job.objects.filter(pk=job.pk).update(request={**job.request, "surrogates": order})


@transaction.atomic
def copy_to(*, by: User, upload: Upload, team: Team) -> tuple[Upload, bool]:
    """A copy that belongs to the team: its own row of the same file. Returns it, and whether it is new.

    Raises Refused: it has not passed its check, or there is no room in the quota of who pays for the team.
    """
    _locked(team)
    if upload.state != Upload.State.READY:
        raise Refused(f"{upload} is {upload.state}: what is copied has passed its check.", status=409)
    quota.lock(team.payer)
    kept = quota.kept_by(team.payer)
    if not any(kind.objects.filter(kept, blob=upload.blob_id).exists() for kind in (ModelUpload, DatasetUpload)):
        quota.check(team.payer, upload.blob.size, upload.name)
    before = _in_team(upload, team)
    copy = before or _copy(upload, team, by)
    tell(by, "team.copied", team, thing=str(upload.pk), copy=str(copy.pk), kind=upload._meta.model_name)
    return copy, before is None


def _in_team(upload: Upload, team: Team) -> Upload | None:
    key = "split_folder" if isinstance(upload, DatasetUpload) else "settings_digest"
    same = {"blob": upload.blob_id, key: getattr(upload, key)}
    return type(upload).objects.filter(team=team, owner=None, **same).first()


def _copy(upload: Upload, team: Team, maker: User | None) -> Upload:
    if (there := _in_team(upload, team)) is not None:
        return there
    copy = _anew(upload, owner=None, team=team, made_by=maker)
    if isinstance(copy, DatasetUpload):
        made = Thumbnails.objects.filter(dataset=upload).exclude(blob=None).first()
        if made is not None:
            _anew(made, dataset=copy)
    # What was looked at before a run was, whoever it belongs to: reports say so.
    role = "dataset" if isinstance(copy, DatasetUpload) else "model"
    for looked in Baseline.objects.filter(figures__isnull=False, **{role: upload}):
        _anew(looked, **{role: copy})
    return copy


def _anew(row: Model, **changes: object):
    """Another row with the same values but these."""
    skipped = {"id", *changes}
    values = {field.name: getattr(row, field.name) for field in row._meta.concrete_fields if field.name not in skipped}
    return type(row)._default_manager.create(**values, **changes)


# --- the end ------------------------------------------------------------------------------------------------


@transaction.atomic
def delete_team(*, by: User, team: Team) -> None:
    """With all that belongs to it; what runs is stopped first. What is shared with it is its owner's alone again."""
    row = _locked(team)
    for kind in (ModelUpload, DatasetUpload, Job):
        kind.objects.filter(team=row).exclude(owner=None).update(team=None)
    theirs = {"team": row, "owner": None}
    removal.erase(
        list(Job.objects.filter(**theirs)),
        [*ModelUpload.objects.filter(**theirs), *DatasetUpload.objects.filter(**theirs)],
    )
    tell(by, "team.deleted", row, name=row.name)
    row.delete()


@transaction.atomic
def leave_all(*, user: User, heirs: Mapping[int, User] | None = None) -> None:
    """Of an account that is closed. Teams without anybody else go with it.

    Args:
        heirs: team -> member who owns it then, where the account is its only owner.

    Raises Refused: it is the only owner of a team with other members.
    """
    for membership in list(user.memberships.select_related("team")):
        team = membership.team
        if not team.memberships.exclude(pk=membership.pk).exists():
            delete_team(by=user, team=team)
            continue
        heir = (heirs or {}).get(team.pk)
        if heir is not None:
            Membership.objects.filter(team=team, user=heir).update(role=Role.OWNER)
            tell(user, "team.role", team, member=heir.username, role=str(Role.OWNER))
        remove_member(by=user, membership=membership)
