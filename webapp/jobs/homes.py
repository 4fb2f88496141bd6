"""Whose a new run is: all that a run uses is where it is, so that whoever sees it can look into what it is made of, and
nothing of a team's goes on in somebody's own runs once they have left.
"""

from __future__ import annotations

from collections.abc import Sequence

from webapp.accounts.models import Owned, Team, User
from webapp.jobs.models import Job
from webapp.library.errors import Refused


def home_of(user: User, asked: Team | None, used: Sequence[Owned], audited: Job | None = None) -> Team | None:
    """The team to which a run belongs that `user` starts with these things; None: it is their own.

    Args:
        asked: where they want it. Without a word it goes where the things are that are not their own.
        audited: a repair whose checkpoint it measures: that must be of the same home, for it cannot go without it.

    Raises Refused: the things are of several homes.
    """
    others = {one.team_id: one.team for one in used if one.owner_id != user.pk}
    if len(others) > 1:
        names = " and ".join(sorted(str(team) for team in others.values()))
        raise Refused(
            f"These things are of different teams: {names}.", "Choose a model and images of one team.", status=409
        )
    home = next(iter(others.values())) if others else asked
    if asked is not None and home != asked:
        raise Refused(
            f"What it uses is of the team {home}, so the run belongs there, not to {asked}.",
            f"Choose {home}, or other things.",
            status=409,
        )
    if home is not None and (without := next((one for one in used if one.team_id != home.pk), None)) is not None:
        raise Refused(
            f"{_called(without)} is your own, and a run of the team {home} uses what the team has.",
            f"Share {_called(without)} with the team first, on its page.",
            status=409,
        )
    if audited is not None and audited.owner_id != (user.pk if home is None else None):
        raise Refused(
            f"{_called(audited)} is shared with the team by a person, who may take it back.",
            "Attack a repair of the team's own.",
            status=409,
        )
    return home


def lock(team: Team, used: Sequence[Owned]) -> None:
    """In the transaction that makes the run: until it ends nothing is taken out of the team.

    Raises Refused: something was, a moment ago.
    """
    Team.objects.select_for_update().get(pk=team.pk)
    for one in used:
        if not type(one)._default_manager.filter(pk=one.pk, team=team).exists():
            raise Refused(f"{_called(one)} is not in the team {team} any more.", status=409)


def _called(one: Owned) -> str:
    return one.title if isinstance(one, Job) else str(one)
