"""The form of a run's name and tags."""

from __future__ import annotations

from django import forms

from repair_engine.errors import BadInput
from webapp.jobs.services import MOST_TAGS, tag_words


class EditForm(forms.Form):
    name = forms.CharField(
        required=False, max_length=200, help_text="Blank: it is called by what was asked of which model."
    )
    tags = forms.CharField(
        required=False, help_text=f"Words with commas between them, at most {MOST_TAGS}; the table filters by them."
    )
    seen = forms.IntegerField(widget=forms.HiddenInput, required=False)  # the run's revision, as it was shown
    archived = forms.BooleanField(
        required=False, label="In the archive", help_text="The table shows it when it is asked for the archive."
    )

    def clean_tags(self) -> list[str]:
        try:
            return tag_words(self.cleaned_data["tags"].split(","))
        except BadInput as error:
            raise forms.ValidationError(error.said) from None
