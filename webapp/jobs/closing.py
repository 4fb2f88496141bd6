"""Closing an account: with everything that is its own, and everything that was derived from it."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from django.db import transaction

from webapp.accounts.models import Role, Team, User
from webapp.jobs import removal, teams
from webapp.jobs.models import Job
from webapp.library import kept, resumable
from webapp.library.errors import Refused
from webapp.library.models import DatasetUpload, ModelUpload, ResumableUpload

audit = logging.getLogger("webapp.audit")


def without_heir(user: User) -> list[Team]:
    """Teams with other members of which the account is the only owner: they keep it from being closed."""
    owned = Team.objects.filter(memberships__user=user, memberships__role=Role.OWNER)
    return [
        team
        for team in owned
        if not team.memberships.filter(role=Role.OWNER).exclude(user=user).exists()
        and team.memberships.exclude(user=user).exists()
    ]


@transaction.atomic
def close_account(*, user: User, heirs: Mapping[int, User] | None = None) -> None:
    """Runs are stopped; files, runs, tokens, links, webhooks, kept files and memberships go, at once and for good. What
    belongs to teams stays with them; teams without anybody else go.

    Args:
        heirs: team -> the member who owns it then, where the account is its only owner.

    Raises Refused: it is the only owner of a team with other members.
    """
    user = User.objects.select_for_update().get(pk=user.pk)  # nothing is added meanwhile
    alone = [team for team in without_heir(user) if team.pk not in (heirs or {})]
    if alone:
        names = ", ".join(str(team) for team in alone)
        raise Refused(
            f"{user} is the only owner of {names}.",
            "Make somebody else an owner there, or delete the team, first.",
            status=409,
        )
    teams.leave_all(user=user, heirs=heirs)
    mine = {"owner": user}
    removal.erase(
        list(Job.objects.filter(**mine)),
        [*ModelUpload.objects.filter(**mine), *DatasetUpload.objects.filter(**mine)],
    )
    uploads = list(ResumableUpload.objects.filter(owner=user))
    arriving = [*kept.files_of(user), *(one.path for one in uploads)]
    user.delete()
    audit.info("%s account.closed", user.username, extra={"user": user.username, "action": "account.closed"})
    transaction.on_commit(lambda: [path.unlink(missing_ok=True) for path in arriving])
    transaction.on_commit(lambda: [resumable.forget(one) for one in uploads if one.begun])
