"""The form of a link to a finished run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.utils import timezone


class LinkForm(forms.Form):
    name = forms.CharField(
        required=False, max_length=100, label="For whom", help_text="For your list; nobody else sees it."
    )
    days = forms.TypedChoiceField(
        choices=[("7", "a week"), ("30", "30 days"), ("365", "a year"), ("", "until it is revoked")],
        coerce=int, empty_value=None, initial="30", required=False, label="How long it works",
    )  # fmt: skip
    weights = forms.BooleanField(
        required=False,
        label="With the checkpoint",
        help_text="And with whatever else of the files a model can be made of. Without, reports and tables alone.",
    )

    def values(self) -> dict[str, Any]:
        """Keyword arguments of `sharing.create_link`."""
        given = self.cleaned_data
        ends = timezone.now() + timedelta(days=given["days"]) if given["days"] else None
        return {"name": given["name"], "weights": given["weights"], "expires_at": ends}
