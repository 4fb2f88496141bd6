"""The form of an attack."""

from __future__ import annotations

from typing import Any

from repair_engine.errors import BadInput
from repair_engine.settings import Attack, Attacked, Device, Pgd, Rows, Splits, options
from webapp.jobs import requests
from webapp.jobs.models import Job
from webapp.library.models import DatasetUpload, ModelUpload
from webapp.pages.forms.fields import NamedForm, column_field, offer_columns, options_form, surrogates_field

HELP = {
    "epsilon": " 0 must change nothing: a test of the measurement.",
    "seed": " A repair's own seed gives its own report images.",
}


class AttackForm(NamedForm, options_form(Attack, Device)):
    placed = (*options(Pgd), *options(Attacked), *options(Rows), *options(Splits), "all_images", "device")
    group = column_field()
    surrogates = surrogates_field()

    def __init__(
        self, *args: Any, model: ModelUpload, dataset: DatasetUpload, models: list[ModelUpload], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        offer_columns(self.fields["group"], dataset.columns)
        self.fields["surrogates"].choices = [(str(m.pk), m.name) for m in models if m.pk != model.pk]
        for name, text in HELP.items():
            self.fields[name].help_text += text

    def clean(self) -> dict[str, Any]:
        given = self.cleaned_data
        if self.errors:
            return given
        try:
            given["asked"] = requests.asked(self.said(Attack), Attack.verb)
        except BadInput as error:
            self.add_error(error.field if error.field in self.fields else None, error.said)
        return given


def initial_from(job: Job) -> dict[str, Any]:
    """The form as an attack was asked for, or as a repair for attack success attacked."""
    values = AttackForm.initial_of(job.request) | {"surrogates": job.request.get("surrogates", [])}
    return values | ({"name": job.name, "device": job.device} if job.attacks else {"device": "auto"})
