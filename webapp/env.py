"""Typed settings from the environment. `NAME_FILE` names a file that holds the value (Docker secrets)."""

from __future__ import annotations

import os
from pathlib import Path

TRUE = {"1", "true", "yes", "on"}
FALSE = {"0", "false", "no", "off", ""}


def text(name: str, default: str = "") -> str:
    if name in os.environ:
        return os.environ[name]
    file_name = os.environ.get(f"{name}_FILE")
    if file_name:
        return Path(file_name).read_text().strip()
    return default


def flag(name: str, default: bool) -> bool:
    value = text(name, "1" if default else "0").strip().lower()
    if value in TRUE:
        return True
    if value in FALSE:
        return False
    raise ValueError(f"{name}={value!r}: expected one of {sorted(TRUE | FALSE)}")


def number(name: str, default: int) -> int:
    value = text(name, str(default)).strip()
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"{name}={value!r}: expected a whole number") from None


def words(name: str, default: str = "") -> list[str]:
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def pairs(name: str) -> dict[str, str]:
    """`a=x,b=y` -> {'a': 'x', 'b': 'y'}."""
    result = {}
    for item in words(name):
        key, sign, value = item.partition("=")
        if not sign or not key.strip() or not value.strip():
            raise ValueError(f"{name}: {item!r} is not NAME=VALUE")
        result[key.strip()] = value.strip()
    return result
