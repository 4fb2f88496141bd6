"""Who may do what with whose things: said here, for pages, API and services alike.

A thing (a model, a dataset, a run) belongs to a person (`owner`) or, where it has no owner, to its `team`. A person's
thing may be shared with one team (`team`, beside the `owner`): members see and use it by their role, and it stays its
owner's.

| | what it allows | the owner | who owns the team | editor | viewer |
|---|---|---|---|---|---|
| SEE | look, download what is to be read | yes | yes | yes | yes |
| EDIT | start runs with it, cancel, retry, name, tag, ask workers, download checkpoints | yes | yes | yes | no |
| OWN | delete, restore, links for strangers | yes | of the team's own | no | no |

Who is neither its owner nor a member of its team learns nothing of a thing, not even that it is there.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from django.db.models import Q, QuerySet

from webapp.accounts.models import Membership, Owned, Role, Team, User


class May(IntEnum):
    NOTHING = 0
    SEE = 1
    EDIT = 2
    OWN = 3


ROLES = {Role.VIEWER: May.SEE, Role.EDITOR: May.EDIT, Role.OWNER: May.OWN}


def teams(user: User, need: May = May.SEE) -> QuerySet[Team]:
    """Those in which the person's role allows so much with the team's things."""
    return Team.objects.filter(memberships__in=_memberships(user, need))


def _memberships(user: User, need: May) -> QuerySet[Membership]:
    return Membership.objects.filter(user=user, role__in=[role for role, may in ROLES.items() if may >= need])


def reach(user: User, need: May = May.SEE, at: str = "") -> Q:
    """The things with which the person may do so much.

    Args:
        at: where they stand from the rows that are filtered, such as "job__".
    """
    team: dict[str, Any] = {f"{at}team__in": _memberships(user, need).values("team")}
    theirs = Q(**team)
    if need > May.EDIT:
        theirs &= Q(**{f"{at}owner": None})  # what is shared stays its owner's
    return Q(**{f"{at}owner": user}) | theirs


def may(user: User, thing: Owned) -> May:
    """How much the person may do with one thing; as `reach` says of many."""
    if thing.owner_id == user.pk:
        return May.OWN
    if thing.team_id is None:
        return May.NOTHING
    allowed = ROLES.get(role_in(user, thing.team_id), May.NOTHING)
    return min(allowed, May.EDIT) if thing.owner_id is not None else allowed


def role_in(user: User, team_id: int | None) -> str:
    """Empty: none."""
    return Membership.objects.filter(user=user, team=team_id).values_list("role", flat=True).first() or ""


def sees_parent(user_id: int, thing: Owned) -> bool:
    """Whether what it goes on from is of the same home, and so to be seen, too."""
    return thing.owner_id in (None, user_id)


def takes_out(user: User, thing: Owned) -> bool:
    """Whether they may end that it is shared: who shared it, and who owns the team."""
    if thing.owner_id is None or thing.team_id is None:
        return False
    return thing.owner_id == user.pk or role_in(user, thing.team_id) == Role.OWNER
