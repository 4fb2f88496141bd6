"""How much of the workers one person may have."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings

from webapp.accounts.models import User
from webapp.jobs.models import Allowance

MOST = 10**6


def _limit(label: str, help_text: str) -> forms.IntegerField:
    return forms.IntegerField(required=False, min_value=0, max_value=MOST, label=label, help_text=help_text)


class AllowanceForm(forms.Form):
    weight = forms.FloatField(
        min_value=0.01, max_value=1000, label="Weight", widget=forms.NumberInput(attrs={"step": "any"}),
        help_text="Of their share where several people wait: 2 is twice as much as 1.",
    )  # fmt: skip
    running = _limit("Runs at work at once", "Further ones wait.")
    queued = _limit("Runs that wait", "Further ones are refused.")
    workers = _limit("Workers of one kind at once", "Also where others stand idle.")

    def __init__(self, *args: Any, person: User, **kwargs: Any) -> None:
        own = Allowance.objects.filter(user=person).values("weight", "running", "queued", "workers").first()
        super().__init__(*args, initial=own or {"weight": 1}, **kwargs)
        for name in ("running", "queued", "workers"):
            usual = getattr(settings, f"USER_{name.upper()}")
            said = f"Blank: as for everybody ({usual or 'no limit'}); 0: no limit."
            self.fields[name].help_text = f"{self.fields[name].help_text} {said}"
