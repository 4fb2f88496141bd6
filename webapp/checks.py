"""System checks: settings that would bite later, each with a hint. Run by every `manage.py` command."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

from django.conf import settings
from django.core.checks import Error, Tags, Warning, register
from django.db import DatabaseError

from repair_engine.support.words import byte_size
from webapp import migrated


@register(Tags.security)
def secret_key(**_: object) -> list:
    if len(settings.SECRET_KEY) >= 32:
        return []
    return [Error("SECRET_KEY is short.", hint="Use 50 random characters, or leave it unset.", id="webapp.E001")]


@register()
def data_directory(**_: object) -> list:
    messages = []
    if not os.access(settings.DATA_DIR, os.W_OK):
        messages.append(
            Error(
                f"The data directory {settings.DATA_DIR} cannot be written.",
                hint="Set NR_DATA_DIR to a directory that web and workers share and may write.",
                id="webapp.E002",
            )
        )
    elif (free := shutil.disk_usage(settings.DATA_DIR).free) < 1 << 30:
        messages.append(
            Warning(
                f"Only {byte_size(free)} are free in {settings.DATA_DIR}.",
                hint="Uploads and jobs need room: free some, or set NR_DATA_DIR.",
                id="webapp.W003",
            )
        )
    return messages


@register()
def object_store(**_: object) -> list:
    backend = settings.STORAGES["store"]["BACKEND"]
    if backend != "webapp.library.s3.S3":
        return []
    messages: list = []
    if find_spec("storages") is None or find_spec("boto3") is None:
        hint = "Install them: pip install 'neuron-repair[web,s3]'."
        messages.append(Error("NR_S3_BUCKET needs django-storages and boto3.", hint=hint, id="webapp.E011"))
    if settings.SECRET_KEY_GENERATED:
        hint = "Set SECRET_KEY (50 random characters) to the same on each."
        messages.append(Warning("Each machine has a secret key of its own.", hint=hint, id="webapp.W012"))
    return messages


@register()
def architectures(**_: object) -> list:
    return [
        Error(
            f"NR_ARCHITECTURES: {name}={target} names no factory.",
            hint="Write NAME=package.module:factory, and put the module's folder in NR_ARCHITECTURE_PATH.",
            id="webapp.E004",
        )
        for name, target in settings.ARCHITECTURES.items()
        if target.count(":") != 1
    ]


@register(Tags.security)
def sandbox_as_asked(**_: object) -> list:
    """Costs a child process, and is looked at only where the operator insists on something."""
    from repair_engine.support import sandbox

    try:
        if sandbox.required():
            sandbox.require()
    except (sandbox.SandboxTooWeak, ValueError) as error:
        hint = "Give the container what docs/operations.md says (“Who reads uploads”), or ask for less."
        return [Error(str(error), hint=hint, id="webapp.E007")]
    return []


@register(deploy=True)
def migrations_applied(**_: object) -> list:
    try:
        waiting = migrated.unapplied()
    except DatabaseError as error:
        return [Error(f"The database cannot be reached: {error}", hint="See DATABASE_URL.", id="webapp.E010")]
    if not waiting:
        return []
    said = f"{len(waiting)} migration(s) are not applied, from {waiting[0]} on."
    return [Error(said, hint="Run `manage.py migrate` before web and workers start.", id="webapp.E010")]


@register(Tags.security, deploy=True)
def sandbox_in_force(**_: object) -> list:
    from repair_engine.support import sandbox

    found = sandbox.in_force()
    if all(found.values()):
        return []
    hint = "docs/operations.md says what each layer needs (“Who reads uploads”)."
    return [Warning(f"Here {sandbox.sentence(found)}.", hint=hint, id="webapp.W008")]


@register(Tags.security, deploy=True)
def plain_http(**_: object) -> list:
    if settings.HTTPS or settings.DEBUG:
        return []
    return [
        Warning(
            "Cookies and tokens travel in the clear (NR_HTTPS=0).",
            hint="Put a TLS proxy in front, set NR_HTTPS=1, NR_BEHIND_PROXY=1 and NR_PROXY_NETWORKS.",
            id="webapp.W005",
        )
    ]


@register(Tags.security, deploy=True)
def undeclared_proxy(**_: object) -> list:
    if not hasattr(settings, "SECURE_PROXY_SSL_HEADER") or not settings.SECURE_PROXY_SSL_HEADER:
        return []
    if settings.PROXY_NETWORKS:
        return []
    return [
        Warning(
            "The proxy is not declared: all people seem to call from its address, and share its limit of sign-ins; "
            "and anybody who reaches the web process itself may pretend HTTPS.",
            hint="Set NR_PROXY_NETWORKS to the proxy's address or network, such as 172.16.0.0/12.",
            id="webapp.W006",
        )
    ]
