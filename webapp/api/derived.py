"""Fields of bodies from the options in `repair_engine.settings`: what is declared there is documented and enforced."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from repair_engine.settings import Option, Settings, options
from repair_engine.settings.texts import help_of
from webapp.api.base import Body
from webapp.api.fields import Flag, Line, Pairs, Real, Size, Whole

MOST_TEXTS = 1000  # of a list


def field_of(one: Option, form: bool = False, **more: Any) -> serializers.Field:
    """The field of an option, with the bounds of a server; in a `form` numbers are texts, and there is no null."""
    low, high = one.bounds
    given = {"required": one.required, "help_text": help_of(one)}
    given |= {"allow_null": True} if one.optional and not one.words and not form else {}
    given |= more
    bounds = {"open": one.open and not one.served} if one.kind in ("real", "reals") else {}
    bounds |= {} if low is None else {"min_value": low}
    bounds |= {} if high is None else {"max_value": high}
    if one.kind == "text" and one.words:
        return serializers.ChoiceField(choices=[*one.words], **given)
    if one.kind == "text":
        return Line(pattern=one.pattern, max_length=one.length, **given)
    if one.kind == "texts":
        return serializers.ListField(child=Line(max_length=one.length), max_length=MOST_TEXTS, **given)
    if one.kind == "reals":
        return serializers.ListField(child=Real(**bounds), max_length=4, **given)
    kinds = {
        "flag": Flag,
        "whole": serializers.IntegerField if form else Whole,
        "real": Real,
        "size": Size,
        "pairs": Pairs,
    }
    return kinds[one.kind](**given, **(bounds if one.kind in ("whole", "real") else {}))


def body(*records: type[Settings], only: tuple[str, ...] = (), form: bool = False) -> type[Body]:
    """A body with a field for every option that goes over the web; `only`: for these."""
    found = {name: one for record in reversed(records) for name, one in options(record).items() if not one.here}
    kept = {name: field_of(one, form) for name, one in found.items() if not only or name in only}
    return type("Derived", (Body,), kept)


def said_in(values: dict[str, Any], *records: type[Settings]) -> dict[str, Any]:
    """Of validated values, those that are options."""
    return {name: value for name, value in values.items() if any(name in options(record) for record in records)}
