"""`manage.py close_account NAME`: what the page “Close the account” does, for somebody who has left."""

from __future__ import annotations

from django.core.management.base import BaseCommand, CommandError, CommandParser

from webapp.accounts.models import User
from webapp.jobs import closing
from webapp.library.errors import Refused


class Command(BaseCommand):
    help = "Delete an account with its models, datasets, runs, files, tokens and links. What belongs to teams stays."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument(
            "--heir",
            action="append",
            default=[],
            metavar="TEAM=NAME",
            help="a member who owns a team (its id) of which the account is the only owner",
        )
        parser.add_argument("--yes", action="store_true", help="do not ask")

    def handle(self, *, name: str, heir: list[str], yes: bool, **options: object) -> None:
        user = _account(name)
        heirs = {}
        for pair in heir:
            team, _, who = pair.partition("=")
            member = _account(who)
            if not team.isdigit() or not member.memberships.filter(team=int(team)).exists():
                raise CommandError(f"{who} is in no team {team}. Write --heir TEAM=NAME, with the team's id.")
            heirs[int(team)] = member
        counts = f"{user.jobs.count()} runs, {user.modeluploads.count()} models, {user.datasetuploads.count()} datasets"
        if not yes and input(f"Delete {user} with {counts}, for good? Type the name: ") != user.username:
            raise CommandError("Nothing was deleted.")
        try:
            closing.close_account(user=user, heirs=heirs)
        except Refused as error:
            teams = ", ".join(f"{team} (id {team.pk})" for team in closing.without_heir(user))
            raise CommandError(f"{error.said} Or name who shall own them: --heir TEAM=NAME. {teams}") from None
        self.stdout.write(f"{name} is gone, with {counts}.")


def _account(name: str) -> User:
    user = User.objects.filter(username=User.normalize_username(name.strip())).first()
    if user is None:
        raise CommandError(f"There is no account {name!r}.")
    return user
