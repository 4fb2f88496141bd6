"""The form of a repair that goes on from a finished run."""

from __future__ import annotations

from typing import Any

from django import forms

from webapp.jobs.followups import objectives_of
from webapp.jobs.models import Job
from webapp.pages.forms.fields import LimitFields, NamedForm, count
from webapp.pages.templatetags.ui import metric_words


class FollowForm(NamedForm, LimitFields):
    """What may differ from the run that is gone on from; where filters are chosen by hand, limits do not choose."""

    metric = forms.ChoiceField(required=False, label="Objective", help_text="One that the run valued.")
    budget = count(
        "Budget, evaluations", "For fresh samples of these filters alone. Blank: in ratio to the run's.", least=None
    )

    def __init__(self, *args: Any, parent: Job, filters: list[str], metric: str = "", **kwargs: Any) -> None:
        own = parent.request.get("metric", "")
        start = {**self.limits_of(parent.request), "metric": metric or own}
        super().__init__(*args, initial=start, **kwargs)
        self.known = objectives_of(parent, ranking=not filters)
        names = list(self.known) if self.known else [own]
        if metric and metric not in names:
            names.append(metric)  # the service says that it was not valued, and what was
        self.fields["metric"].choices = [(name, metric_words(name)) for name in names]
        self.by_hand = bool(filters)
        if self.by_hand:
            for key in LimitFields.base_fields:
                del self.fields[key]

    @property
    def changes(self) -> dict[str, Any]:
        """As `followups.follow_up` takes them."""
        given = self.cleaned_data | ({} if self.by_hand else self.limits())
        return {key: value for key, value in given.items() if value not in (None, "")}
