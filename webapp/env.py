"""Typed settings from the environment. `NAME_FILE` names a file that holds the value (Docker secrets)."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

import dj_email_url

TRUE = {"1", "true", "yes", "on"}
FALSE = {"0", "false", "no", "off", ""}


def text(name: str, default: str = "") -> str:
    file_name = os.environ.get(f"{name}_FILE")
    if file_name and not os.environ.get(name):  # compose passes on what is not set as an empty text
        return Path(file_name).read_text().strip()
    return os.environ.get(name, default)


def flag(name: str, default: bool) -> bool:
    value = text(name, "1" if default else "0").strip().lower()
    if value in TRUE:
        return True
    if value in FALSE:
        return False
    raise ValueError(f"{name}={value!r}: expected one of {sorted(TRUE | FALSE)}")


def choice(name: str, *known: str) -> str:
    """One of these words, the first where nothing is said."""
    value = text(name, known[0]).strip().lower()
    if value not in known:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(known)}")
    return value


def number(name: str, default: int) -> int:
    value = text(name, str(default)).strip()
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"{name}={value!r}: expected a whole number") from None


def words(name: str, default: str = "") -> list[str]:
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def pairs(name: str, items: list[str] | None = None) -> dict[str, str]:
    """`a=x,b=y` -> {'a': 'x', 'b': 'y'}; of `items`, where they come from somewhere else."""
    result = {}
    for item in words(name) if items is None else items:
        key, sign, value = item.partition("=")
        if not sign or not key.strip() or not value.strip():
            raise ValueError(f"{name}: {item!r} is not NAME=VALUE")
        result[key.strip()] = value.strip()
    return result


def days(name: str, items: list[str] | None = None) -> dict[str, float]:
    """`failed=14,tokens=0.5` -> {'failed': 14.0, 'tokens': 0.5}."""
    found = {}
    for key, value in pairs(name, items).items():
        try:
            found[key] = float(value)
        except ValueError:
            found[key] = -1.0
        if not 0 <= found[key] <= 36525:
            raise ValueError(f"{name}: {key}={value}: expected days between 0 and 36525")
    return found


def networks(name: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """`10.0.0.0/8,::1` -> networks."""
    try:
        return [ipaddress.ip_network(word) for word in words(name)]
    except ValueError as error:
        raise ValueError(f"{name}: {error}; expected networks such as 10.0.0.0/8,::1") from None


def mail() -> dict[str, object]:
    """Django's EMAIL_… settings, of EMAIL_URL or of EMAIL_HOST, EMAIL_PORT, EMAIL_HOST_USER and so on."""
    if url := text("EMAIL_URL"):
        try:
            found = dj_email_url.parse(url)
        except (KeyError, ValueError) as error:
            found = {"EMAIL_BACKEND": None, "why": error}
        if not found.get("EMAIL_BACKEND"):
            raise ValueError(
                "EMAIL_URL: expected submission://user:password@host:587, or smtp://… with ?ssl=true or none"
            )
        return {name: value for name, value in found.items() if name.startswith("EMAIL_")}
    if host := text("EMAIL_HOST"):
        secure = flag("EMAIL_USE_SSL", False)
        tls = flag("EMAIL_USE_TLS", not secure)
        return {
            "EMAIL_HOST": host,
            "EMAIL_PORT": number("EMAIL_PORT", 465 if secure else 587 if tls else 25),
            "EMAIL_HOST_USER": text("EMAIL_HOST_USER"),
            "EMAIL_HOST_PASSWORD": text("EMAIL_HOST_PASSWORD"),
            "EMAIL_USE_TLS": tls,
            "EMAIL_USE_SSL": secure,
        }
    return {}


def object_store() -> dict[str, object] | None:
    """The entry of STORAGES for the S3-compatible store that NR_S3_… describe; None: NR_S3_BUCKET names none."""
    bucket = text("NR_S3_BUCKET")
    if not bucket:
        return None
    said = {
        "endpoint_url": text("NR_S3_ENDPOINT") or None,
        "region_name": text("NR_S3_REGION", "us-east-1"),
        "access_key": text("NR_S3_ACCESS_KEY") or None,  # else as the machine is allowed to
        "secret_key": text("NR_S3_SECRET_KEY") or None,
        "addressing_style": choice("NR_S3_ADDRESSING", "auto", "path", "virtual"),
        "public": text("NR_S3_PUBLIC_ENDPOINT"),
        "signed_for": number("NR_S3_SIGNED_SECONDS", 600),
    }
    for name in ("endpoint_url", "public"):
        if said[name] and not str(said[name]).startswith(("http://", "https://")):
            raise ValueError(f"{said[name]!r} is no address of a store: expected http://… or https://…")
    options = {"bucket_name": bucket, "location": text("NR_S3_PREFIX").strip("/"), "default_acl": None, **said}
    return {"BACKEND": "webapp.library.s3.S3", "OPTIONS": options}
