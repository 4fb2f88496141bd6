"""Form fields from the options in `repair_engine.settings`, and the way from a record and back."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from django import forms

from repair_engine.errors import BadInput
from repair_engine.settings import Option, Settings, Splits, options
from repair_engine.settings.texts import SCALES, help_of, parse, title_of, written
from webapp.jobs.queueing import PRIORITIES

PRIORITY_HELP = "Among your own runs. Other people's are never jumped."
_TRUTH = {"yes": True, "no": False}


def field_of(one: Option, **more: Any) -> forms.Field:
    """The field of an option: lengths and shares in the units that people type, with the bounds of a server."""
    given = {"required": False, "label": title_of(one), "help_text": _help_of(one), **more}
    if one.kind == "flag" and not one.words:
        return forms.BooleanField(**given)
    if one.words:
        blank = [("", one.blank or "the default")] if one.default is None else []
        return forms.ChoiceField(choices=[*blank, *one.words.items()], **given)
    typed = Whole if one.kind == "whole" else Number if one.kind == "real" else Text
    return typed(one, **given)


def _help_of(one: Option) -> str:
    """With the default, where that is written in the unit that people type."""
    return one.help if one.unit in SCALES else help_of(one)


class _Checked:
    """What the option refuses is said at its field, in the field's unit."""

    one: Option

    def check(self, value: Any) -> Any:
        try:
            return self.one.check(value, served=True)
        except BadInput as error:
            raise forms.ValidationError(error.problem) from None


class Whole(_Checked, forms.IntegerField):
    def __init__(self, one: Option, **more: Any) -> None:
        super().__init__(**more)
        self.one = one

    def clean(self, value: Any) -> int | None:
        number = super().clean(value)
        return None if number is None else self.check(number)


class Number(_Checked, forms.FloatField):
    """A number, of which any step is accepted."""

    def __init__(self, one: Option, **more: Any) -> None:
        super().__init__(widget=forms.NumberInput(attrs={"step": "any"}), **more)
        self.scale = SCALES.get(one.unit, 1)
        low, high = (bound if bound is None else bound * self.scale for bound in one.bounds)
        self.one = replace(one, low=low, high=high, served=None, open=one.open and not one.served)

    def clean(self, value: Any) -> float | None:
        number = super().clean(value)
        if number is None:
            return None
        exact = self.check(number) / self.scale
        return round(exact, 10) if self.one.unit == "share" else exact  # 1.1% is 0.011


class Text(_Checked, forms.CharField):
    """A text that says the value."""

    def __init__(self, one: Option, **more: Any) -> None:
        small = forms.Textarea(attrs={"rows": 2, "spellcheck": "false"})
        plain = forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"})
        super().__init__(max_length=one.length, widget=small if one.kind == "pairs" else plain, **more)
        self.one = one

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        try:
            return self.check(parse(self.one, text)) if text else None
        except BadInput as error:
            raise forms.ValidationError(error.problem) from None


def shown(one: Option, value: Any) -> Any:
    """A record's value as the field shows it: of numbers, as people would type them: 2, not 2.0."""
    if one.kind == "flag":
        return ("yes" if value else "no") if one.words else value
    if one.kind == "real":
        near = round(value * SCALES.get(one.unit, 1), 6)
        return int(near) if near == int(near) else near
    return value if one.kind == "whole" or one.words else written(one, value)


class NamedForm(forms.Form):
    """Sent twice, it starts one run."""

    name = forms.CharField(required=False, max_length=200, label="Name", help_text="For your lists.")
    priority = forms.ChoiceField(
        required=False, label="Priority", choices=[(word, word) for word in PRIORITIES], help_text=PRIORITY_HELP
    )
    key = forms.CharField(required=False, max_length=80, widget=forms.HiddenInput)

    def __init__(self, *args: Any, initial: dict[str, Any] | None = None, **kwargs: Any) -> None:
        usual = {"key": f"page-{uuid.uuid4()}", "priority": "normal"}
        super().__init__(*args, initial=usual | (initial or {}), **kwargs)

    def clean_priority(self) -> int:
        return PRIORITIES[self.cleaned_data["priority"] or "normal"]


class OptionsForm(forms.Form):
    """Fields of options beside a form's own.

    Attributes:
        known: the options that have a field.
        placed: names of fields that the form's page sets by itself; `rest` are the others.
    """

    known: ClassVar[Mapping[str, Option]] = {}
    placed: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *args: Any, initial: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, initial=self.initial_of({}) | (initial or {}), **kwargs)

    @classmethod
    def initial_of(cls, row: Mapping[str, Any]) -> dict[str, Any]:
        """The fields as a row has them, or their defaults; those that neither has are blank."""
        values = {name: row.get(name, one.default) for name, one in cls.known.items()}
        return {name: shown(cls.known[name], value) for name, value in values.items() if value not in (None, (), [])}

    def said(self, *records: type[Settings]) -> dict[str, Any]:
        """Of the cleaned data, the options of `records`, as `requests.asked` takes them."""
        given = {name: self.cleaned_data.get(name) for record in records for name in options(record)}
        tri = {name: _TRUTH.get(str(given[name])) for name in given if name in self.known and self.known[name].off}
        return {name: value for name, value in (given | tri).items() if value not in (None, "", [])}

    def rest(self) -> list[forms.BoundField]:
        return [self[name] for name in self.fields if name in self.known and name not in self.placed]

    def rest_is_wrong(self) -> bool:
        return any(field.errors for field in self.rest())


def options_form(*records: type[Settings], only: tuple[str, ...] = ()) -> type[OptionsForm]:
    """A form with a field for every option that goes over the web; `only`: for these."""
    found = {name: one for record in records for name, one in options(record).items() if not one.here}
    kept = {name: one for name, one in found.items() if not only or name in only}
    return type("Derived", (OptionsForm,), {"known": kept, **{name: field_of(one) for name, one in kept.items()}})


def column_field() -> forms.ChoiceField:
    """That of a column of the image set."""
    one = options(Splits)["group"]
    return forms.ChoiceField(required=False, label=title_of(one), help_text=_help_of(one))


def offer_columns(field: forms.Field, columns: Mapping[str, object]) -> None:
    field.choices = [("", options(Splits)["group"].blank), *((name, name) for name in columns)]


def surrogates_field() -> forms.MultipleChoiceField:
    return forms.MultipleChoiceField(
        required=False,
        label="Transfer attacks from",
        help_text="Other models of the same images and classes: attacks made on them are tried on this one.",
        widget=forms.CheckboxSelectMultiple,
    )
