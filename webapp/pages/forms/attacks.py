"""The form of an attack. Fields that a repair for attack success has, too, are the same ones."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms

from webapp.jobs.attacks import AskedAttack
from webapp.jobs.models import Job
from webapp.jobs.requests import BadRequest
from webapp.library.models import DatasetUpload, ModelUpload
from webapp.pages.forms.repairs import PIXEL, RepairForm

_OF_REPAIRS = RepairForm.base_fields
TRUTH = {"yes": True, "no": False}
CHOICES = ("attack", "norm")
NUMBERS = ("seed", "steps", "restarts", "attack_images", "queries", "subset")
LENGTHS = ("epsilon", "step_size")  # shown in levels of 255
SAID = ("targeted", "random_start")


class AttackForm(forms.Form):
    name = _OF_REPAIRS["name"]
    attack = _OF_REPAIRS["attack"]
    norm = _OF_REPAIRS["norm"]
    targeted = _OF_REPAIRS["targeted"]
    epsilon = forms.FloatField(
        required=False,
        min_value=0,
        label="ε, of 255 levels",
        help_text="How far a pixel may be moved; in ℓ2, the whole image (128 is an ε of 0.5). Blank: the preset's "
        "(paper: 16, standard: 8). 0 must change nothing: a test of the measurement.",
        widget=forms.NumberInput(attrs={"step": "any"}),
    )
    steps = _OF_REPAIRS["steps"]
    step_size = forms.FloatField(
        required=False,
        label="Step size, of 255 levels",
        help_text="Blank: all steps together keep the preset's ratio to ε.",
        widget=forms.NumberInput(attrs={"step": "any"}),
    )
    random_start = forms.ChoiceField(
        required=False,
        label="Random start",
        help_text="Of each attack, within the ε-ball.",
        choices=[("", "the preset's"), ("yes", "yes"), ("no", "no")],
    )
    restarts = forms.IntegerField(
        required=False, min_value=1, label="Restarts", help_text="Random starts, of which any may succeed."
    )
    attack_images = forms.IntegerField(
        required=False, min_value=1, label="Images attacked, at most", help_text="Blank: 500."
    )
    all_images = forms.BooleanField(
        required=False,
        label="All images, not the report split alone",
        help_text="A repair has seen the score and the select images: for 'after' figures leave this out.",
    )
    subset = forms.IntegerField(
        required=False, min_value=1, label="Subset, images", help_text="For queries, curves, self-tests. Blank: 100."
    )
    queries = forms.IntegerField(
        required=False,
        min_value=0,
        label="Black-box queries",
        help_text="Per image of the subset. Blank: 500; 0: none.",
    )
    surrogates = _OF_REPAIRS["surrogates"]
    group = _OF_REPAIRS["group"]
    seed = forms.IntegerField(
        required=False,
        min_value=0,
        label="Seed",
        help_text="Of splits, targets and random starts. A repair's own seed gives its own report images.",
    )
    device = _OF_REPAIRS["device"]
    key = _OF_REPAIRS["key"]

    def __init__(
        self,
        *args: Any,
        model: ModelUpload,
        dataset: DatasetUpload,
        models: list[ModelUpload],
        initial: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        start = {"seed": 0, "device": "auto", "key": f"page-{uuid.uuid4()}", **(initial or {})}
        super().__init__(*args, initial=start, **kwargs)
        columns = dataset.facts.get("columns", {})
        self.fields["group"].choices = [("", "nothing but identical images"), *((name, name) for name in columns)]
        self.fields["surrogates"].choices = [(str(m.pk), m.name) for m in models if m.pk != model.pk]

    def clean(self) -> dict[str, Any]:
        given = self.cleaned_data
        if self.errors:
            return given
        try:
            given["asked"] = AskedAttack.from_json(self._request())
        except BadRequest as error:
            self.add_error(error.field if error.field in self.fields else None, str(error))
        return given

    def _request(self) -> dict[str, Any]:
        given = self.cleaned_data
        values = {key: given[key] for key in (*CHOICES, *NUMBERS, "group", "all_images")}
        values |= {key: given[key] / PIXEL for key in LENGTHS if given[key] is not None}
        values |= {key: TRUTH.get(given[key]) for key in SAID}
        return {key: value for key, value in values.items() if value not in (None, "")}


def initial_from(job: Job) -> dict[str, Any]:
    """The form as an attack was asked for, or as a repair for attack success attacked."""
    asked = job.request
    values = {key: asked[key] for key in (*CHOICES, *NUMBERS, "group", "all_images", "surrogates") if key in asked}
    values |= {key: round(asked[key] * PIXEL, 6) for key in LENGTHS if key in asked}
    values |= {key: "yes" if asked[key] else "no" for key in SAID if key in asked}
    return values | ({"name": job.name, "device": job.device} if job.attacks else {})
