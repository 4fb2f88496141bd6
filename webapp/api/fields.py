"""Fields whose bounds stand in the OpenAPI document exactly as they are enforced."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.fields import empty

from repair_engine.settings import MOST_PIXELS

# What str.strip takes away, written out: regular expressions of other languages have another \s.
_SPACE = r"\x20\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_CONTROL = r"\x00-\x1f\x7f-\x9f"
LINE = rf"^[^{_CONTROL}]*[^{_CONTROL}{_SPACE}][^{_CONTROL}]*$"
LINE_OR_NONE = rf"^[^{_CONTROL}]*$"
WORDS = rf"^[^,{_CONTROL}]*[^,{_CONTROL}{_SPACE}][^,{_CONTROL}]*$", "One line of text without a comma."


class _AsSent:
    """Django REST framework takes an empty text in a form for one that was left out; this one is refused."""

    field_name: str

    def get_value(self, dictionary: Mapping[str, Any]) -> Any:
        return dictionary.get(self.field_name, empty)


class Text(_AsSent, serializers.RegexField):
    """A text of any number of lines."""

    default_error_messages = {"invalid": "Null characters are not allowed."}  # PostgreSQL keeps none

    def __init__(self, **options: Any) -> None:
        super().__init__(r"^[^\x00]*$", **options)


class Line(_AsSent, serializers.RegexField):
    """A text of one line: no control characters and, unless `allow_blank`, more than spaces."""

    default_error_messages = {"invalid": "One line of text, without control characters."}

    def __init__(self, pattern: tuple[str, str] | None = None, **options: Any) -> None:
        if pattern:
            options["error_messages"] = {"invalid": pattern[1]}
        super().__init__(pattern[0] if pattern else LINE_OR_NONE if options.get("allow_blank") else LINE, **options)

    def to_internal_value(self, data: object) -> str:
        if not isinstance(data, str):  # Django REST framework takes numbers for texts
            self.fail("invalid")
        return super().to_internal_value(data)


# What anybody can write down; the server also takes IP addresses and international names.
@extend_schema_field(
    {
        "type": "string",
        "maxLength": 500,
        "pattern": r"^https?://([A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?\.){1,6}[A-Za-z]{2,24}(:[1-9][0-9]{0,3})?"
        r"(/[!-~]*)?$",
    }
)
class WebAddress(serializers.URLField):
    """http:// or https://."""


class Whole(serializers.IntegerField):
    """A whole number; not a text, as Django REST framework takes it: the document says integer."""

    def to_internal_value(self, data: object) -> int:
        if isinstance(data, str | bool):
            self.fail("invalid")
        return super().to_internal_value(data)


class Real(serializers.FloatField):
    """A finite number; `open`: its bounds are excluded (`webapp.api.schema` says so in the document)."""

    def __init__(self, open: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.open = open

    def to_internal_value(self, data: object) -> float:
        if isinstance(data, str | bool):
            self.fail("invalid")
        number = super().to_internal_value(data)
        if not math.isfinite(number):  # 1e999 is JSON
            self.fail("invalid")
        if self.open and number in (self.min_value, self.max_value):
            raise serializers.ValidationError(f"{number:g} itself is excluded.")
        return number


class Flag(serializers.BooleanField):
    """true or false; not "yes" or 1."""

    def to_internal_value(self, data: object) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


_SIDE = {"type": "integer", "minimum": 1, "maximum": MOST_PIXELS}


@extend_schema_field(
    {"anyOf": [_SIDE, {"type": "array", "items": _SIDE, "minItems": 2, "maxItems": 2}, {"type": "null"}]}
)
class Size(serializers.Field):
    """Pixels: one number, or a height and a width; null for none."""

    default_error_messages = {"invalid": f"Pixels between 1 and {MOST_PIXELS:,}: one number, two, or null for none."}

    def to_internal_value(self, data: object) -> object:
        sides = [_whole(side) for side in (data if isinstance(data, list) else [data])]
        if not all(type(side) is int and 1 <= side <= MOST_PIXELS for side in sides) or (
            isinstance(data, list) and len(data) != 2
        ):
            self.fail("invalid")
        return sides if isinstance(data, list) else sides[0]


def _whole(number: object) -> object:
    """JSON makes no difference between 600 and 600.0."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


class Json(serializers.JSONField):
    """In a form: text that is JSON."""

    def to_internal_value(self, data: Any) -> Any:
        try:
            return super().to_internal_value(data)
        except RecursionError:  # lists in lists in lists …
            self.fail("invalid")


def _plain(value: object) -> bool:
    return isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))


@extend_schema_field(
    {
        "type": "object",
        "propertyNames": {"pattern": LINE_OR_NONE},
        "additionalProperties": {
            "anyOf": [{"type": "boolean"}, {"type": "number"}, {"type": "string", "pattern": LINE_OR_NONE}]
        },
    }
)
class Pairs(Json):
    """Names with numbers, texts, true or false."""

    def to_internal_value(self, data: Any) -> Any:
        value = super().to_internal_value(data)
        if not isinstance(value, dict) or not all(map(_plain, value.values())):
            raise serializers.ValidationError("Give a JSON object of numbers, strings or true/false.")
        if not all(re.fullmatch(LINE_OR_NONE, text) for text in (*value, *value.values()) if isinstance(text, str)):
            raise serializers.ValidationError("Texts are of one line, without control characters.")
        return value
