"""Options as text: read from a command line or a form, written for a shell, shown to people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from repair_engine.settings.fields import NONE, Option

SCALES = {"share": 100, "levels": 255}  # of what people type and read, by unit
_UNITS = {"share": "points", "levels": "of 255 levels"}
_SAID = {"yes": True, "true": True, "no": False, "false": False}


def help_of(one: Option) -> str:
    """What is said of it, with its default."""
    default = one.default not in (None, (), "", False) and not one.required and "efault" not in one.help
    said = f" Default: {written(one, one.default)}." if default else ""
    return f"{one.help}{said}"


def flag_of(one: Option) -> str:
    return one.flag or "--" + one.name.replace("_", "-")


def title_of(one: Option) -> str:
    """The label of a form's field."""
    return f"{one.title}, {_UNITS[one.unit]}" if one.unit else one.title


def parse(one: Option, text: str) -> Any:
    """The value that a text says. Raises BadInput with the option's name."""
    plain = text.strip()
    try:
        if one.kind == "flag":
            return _SAID[plain.lower()]
        if one.kind == "whole":
            return int(plain)
        if one.kind == "real":
            return float(plain)
        if one.kind == "size":
            return _size(plain)
        if one.kind == "reals":
            if numbers := [float(part) for part in plain.replace(",", " ").replace("/", " ").split()]:
                return tuple(numbers)
            raise ValueError
    except (ValueError, KeyError):
        raise one.wrong(f"{text!r} is not {_EXPECTED[one.kind]}.") from None
    if one.kind == "texts":
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if one.kind == "pairs":
        return pairs(one, text.splitlines())
    return text


_EXPECTED = {
    "flag": "yes or no", "whole": "a whole number", "real": "a number",
    "size": "pixels, such as 224 or 224,224, or none", "reals": "numbers, one per channel, such as 0.485 0.456 0.406",
}  # fmt: skip


def _size(text: str) -> Any:
    if text.lower() in (NONE, "0"):
        return NONE
    parts = [part.strip() for part in text.replace("x", ",").split(",")]
    if len(parts) > 2 or not all(part.isdecimal() for part in parts):
        raise ValueError
    return int(parts[0]) if len(parts) == 1 else (int(parts[0]), int(parts[1]))


def pairs(one: Option, lines: Sequence[str]) -> dict[str, Any]:
    """Of `KEY=VALUE`s. Raises BadInput."""
    found = {}
    for line in filter(None, map(str.strip, lines)):
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not key.isidentifier():
            raise one.wrong(f"{line!r} is not of the form KEY=VALUE.")
        found[key] = _plain(value)
    return found


def _plain(text: str) -> bool | int | float | str:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def written(one: Option, value: Any) -> str:
    """The text that `parse` reads; of numbers, to the last bit."""
    if one.kind == "flag":
        return "yes" if value else "no"
    if one.kind == "reals":
        return " ".join(f"{n:g}" if float(f"{n:g}") == n else repr(n) for n in value)
    if one.kind == "texts":
        return ",".join(value)
    if one.kind == "size":
        return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    if one.kind == "pairs":
        return "\n".join(f"{key}={v if isinstance(v, str) else json.dumps(v)}" for key, v in value.items())
    return str(value)


def argv(one: Option, value: Any) -> list[list[str]]:
    """Words of a command line, those of a flag together."""
    if one.kind == "flag":
        return [[flag_of(one)]] if value else [[one.off]] if one.off else []
    if one.kind == "pairs" or (one.kind == "texts" and not one.commas):
        each = written(one, value).splitlines() if one.kind == "pairs" else value
        return [[flag_of(one), text] for text in each]
    if one.kind == "reals":
        return [[flag_of(one), *written(one, value).split()]]
    return [[flag_of(one), written(one, value)]]


def shown(one: Option, value: Any) -> str:
    """For people."""
    if one.kind == "flag":
        return one.words.get("yes" if value else "no", "yes" if value else "no")
    if one.kind == "texts":
        return ", ".join(value)
    if one.unit == "share":
        return f"{value:.1%}"
    if one.unit == "levels":
        return f"{value * SCALES['levels']:.4g} of 255 levels ({value:.4g})"
    return f"{value:,}" if one.kind == "whole" else written(one, value)


def rows(said: dict[str, Option], values: dict[str, Any]) -> list[tuple[str, str]]:
    """Label and value of what was asked, in the order of `values`."""
    titled = ((said[name].title, shown(said[name], value)) for name, value in values.items() if name in said)
    return [(title[0].lower() + title[1:] if title[1:2].islower() else title, text) for title, text in titled]
