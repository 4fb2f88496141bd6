"""The form of an attack."""

from __future__ import annotations

from typing import Any

from django import forms

from webapp.jobs.attacks import AskedAttack
from webapp.jobs.models import Job
from webapp.jobs.requests import BadRequest
from webapp.library.models import DatasetUpload, ModelUpload
from webapp.pages.forms.fields import AdversaryFields, NamedForm, SplitFields

HELP = {
    "epsilon": "0 must change nothing: a test of the measurement.",
    "seed": "Of splits, targets and random starts. A repair's own seed gives its own report images.",
    "attack_images": "Blank: 500.",
}


class AttackForm(NamedForm, SplitFields, AdversaryFields):
    all_images = forms.BooleanField(
        required=False,
        label="All images, not the report split alone",
        help_text="A repair has seen the score and the select images: for 'after' figures leave this out.",
    )

    def __init__(
        self,
        *args: Any,
        model: ModelUpload,
        dataset: DatasetUpload,
        models: list[ModelUpload],
        initial: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, initial={"seed": 0, "device": "auto", **(initial or {})}, **kwargs)
        self.offer_columns(dataset.facts.get("columns", {}))
        self.fields["surrogates"].choices = [(str(m.pk), m.name) for m in models if m.pk != model.pk]
        for key in ("seed", "attack_images"):
            self.fields[key].help_text = HELP[key]
        self.fields["epsilon"].help_text += f" {HELP['epsilon']}"

    def clean(self) -> dict[str, Any]:
        given = self.cleaned_data
        if self.errors:
            return given
        values = self.adversary() | {key: given[key] for key in OWN}
        try:
            asked = {key: value for key, value in values.items() if value not in (None, "")}
            given["asked"] = AskedAttack.from_json(asked)
        except BadRequest as error:
            self.add_error(error.field if error.field in self.fields else None, str(error))
        return given


OWN = ("seed", "group", "all_images")


def initial_from(job: Job) -> dict[str, Any]:
    """The form as an attack was asked for, or as a repair for attack success attacked."""
    asked = job.request
    values = AdversaryFields.adversary_of(asked) | {key: asked[key] for key in OWN if key in asked}
    return values | ({"name": job.name, "device": job.device} if job.attacks else {})
