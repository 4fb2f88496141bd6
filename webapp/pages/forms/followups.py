"""The form of a repair that goes on from a finished run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms

from repair_engine.settings import Limits, Repair, options
from webapp.jobs.followups import CHANGES, objectives_of
from webapp.jobs.models import Job
from webapp.jobs.naming import metric_words
from webapp.pages.forms.fields import NamedForm, options_form

LIMITS = tuple(options(Limits))


def _numbers(given: Mapping[str, str]) -> dict[str, float]:
    """Of an address what are shares; all else is left out."""
    found = {}
    for key in ("max_clean_drop", "max_subgroup_drop"):
        try:
            number = float(given.get(key, ""))
        except ValueError:
            continue
        if 0 <= number <= 1:
            found[key] = number
    return found


class FollowForm(NamedForm, options_form(Repair, only=CHANGES)):
    """What may differ from the run that is gone on from; where filters are chosen by hand, limits do not choose."""

    placed = (*LIMITS, "budget")
    metric = forms.ChoiceField(required=False, label="Objective", help_text="One that the run valued.")

    def __init__(
        self,
        *args: Any,
        parent: Job,
        filters: list[str],
        metric: str = "",
        limits: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        """`limits`: shares that the address says in the place of the parent's."""
        own = parent.request.get("metric", "")
        row = {**parent.request, **_numbers(limits or {}), **({"edit": "ablate"} if filters else {})}
        start = {key: value for key, value in self.initial_of(row).items() if key != "budget"}
        if filters:
            start.pop("edit", None)  # what is chosen by hand is ablated, whatever the parent did
        super().__init__(*args, initial={**start, "metric": metric or own}, **kwargs)
        self.fields["budget"].help_text = "For fresh samples of these filters alone. Blank: in ratio to the run's."
        self.objectives = objectives_of(parent, ranking=not filters)
        names = list(self.objectives) if self.objectives else [own]
        if metric and metric not in names:
            names.append(metric)  # the service says that it was not valued, and what was
        self.fields["metric"].choices = [(name, metric_words(name)) for name in names]
        if filters:
            for key in LIMITS:
                del self.fields[key]

    @property
    def changes(self) -> dict[str, Any]:
        """As `followups.follow_up` takes them."""
        return {key: value for key, value in self.cleaned_data.items() if value not in (None, "")}
