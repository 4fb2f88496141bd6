"""The form of a repair that goes on from a finished run."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms

from webapp.jobs.followups import objectives_of
from webapp.jobs.models import Job
from webapp.pages.forms.repairs import CHOICES
from webapp.pages.templatetags.ui import metric_words

_POINTS = ("max_clean_drop", "max_subgroup_drop")


class FollowForm(forms.Form):
    """What may differ from the run that is gone on from; where filters are chosen by hand, limits do not choose."""

    metric = forms.ChoiceField(required=False, label="Objective", help_text="One that the run valued.")
    name = forms.CharField(required=False, max_length=200, label="Name", help_text="For your lists.")
    max_clean_drop = forms.FloatField(
        required=False, min_value=0, max_value=100, label="Clean accuracy may fall by, points",
        help_text="On the select images and on the guard set.", widget=forms.NumberInput(attrs={"step": "any"}),
    )  # fmt: skip
    max_subgroup_drop = forms.FloatField(
        required=False, min_value=0, max_value=100, label="Any subgroup may fall by, points",
        help_text="Subgroups of fewer than 30 images do not count.", widget=forms.NumberInput(attrs={"step": "any"}),
    )  # fmt: skip
    max_filters = forms.IntegerField(
        required=False, min_value=1, label="Filters, at most", help_text="The longest list of culprits that is tried."
    )
    choose = forms.ChoiceField(
        required=False, choices=CHOICES, label="How many of them", help_text="Chosen on the select images."
    )
    budget = forms.IntegerField(
        required=False,
        label="Budget, evaluations",
        help_text="For fresh samples of these filters alone. Blank: in ratio to the run's.",
    )
    key = forms.CharField(required=False, max_length=80, widget=forms.HiddenInput)  # sent twice, started once

    def __init__(self, *args: Any, parent: Job, filters: list[str], metric: str = "", **kwargs: Any) -> None:
        own = parent.request.get("metric", "")
        limits = {"max_clean_drop": 2, "max_subgroup_drop": 10, "max_filters": 50}
        for key in limits:
            if key in parent.request:
                limits[key] = round(parent.request[key] * 100, 8) if key in _POINTS else parent.request[key]
        start = {**limits, "choose": parent.request.get("choose", ""), "metric": metric or own}
        super().__init__(*args, initial={**start, "key": f"page-{uuid.uuid4()}"}, **kwargs)
        self.known = objectives_of(parent)
        names = list(self.known) if self.known else [own]
        if metric and metric not in names:
            names.append(metric)  # the service says that it was not valued, and what was
        self.fields["metric"].choices = [(name, metric_words(name)) for name in names]
        self.by_hand = bool(filters)
        if self.by_hand:
            for key in (*limits, "choose"):
                del self.fields[key]

    @property
    def changes(self) -> dict[str, Any]:
        """As `followups.follow_up` takes them."""
        given = {key: value for key, value in self.cleaned_data.items() if value not in (None, "")}
        for key in _POINTS:
            if key in given:
                given[key] = round(given[key] / 100, 10)
        return given
