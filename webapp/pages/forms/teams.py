"""The forms of teams, and the choice of one where something is made."""

from __future__ import annotations

from typing import Any

from django import forms

from webapp.accounts import rights
from webapp.accounts.models import Role, Team, User
from webapp.accounts.rights import May


class NameForm(forms.Form):
    name = forms.CharField(max_length=100, label="Name of the team")


class PolicyForm(NameForm):
    viewers_take_weights = forms.BooleanField(
        required=False,
        label="Viewers may download checkpoints",
        help_text="And whatever else of a run's files a model can be made of. Without, reports and tables alone.",
    )


class InviteForm(forms.Form):
    name = forms.CharField(
        required=False, max_length=150, label="User name", help_text="Blank: you get a link for whoever opens it first."
    )
    role = forms.ChoiceField(choices=Role.choices, initial=Role.VIEWER, label="As")


class WithTeamForm(forms.Form):
    """Which of the person's teams."""

    team = forms.ModelChoiceField(queryset=Team.objects.none(), label="Team", empty_label=None)

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["team"].queryset = rights.teams(user, May.EDIT)


def ask_for_team(form: forms.Form, user: User, nobody: str, initial: Team | None = None) -> None:
    """Give a form that makes something the field `team`: whose it becomes. Who is in no team is not asked.

    Args:
        nobody: what is said for no team.
    """
    choices = rights.teams(user, May.EDIT)
    if choices.exists():
        form.fields["team"] = forms.ModelChoiceField(
            queryset=choices, required=False, label="Belongs to", empty_label=nobody, initial=initial,
            help_text="What belongs to a team all its members see; its editors work with it, its owners delete it.",
        )  # fmt: skip
