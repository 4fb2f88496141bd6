"""Signed receipts: what a server did with which files, for whoever gets a repair without the server.

The private key is a file of the data directory, made when a worker first starts, closed to all others (600); where
machines share no disk, NR_SIGNING_KEY names one file that all of them are given. Public keys are rows: those that were
in use stay, so that what they signed can be checked (`/.well-known/neuron-repair-keys.json`).
"""

from __future__ import annotations

import base64
import json
import logging
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction

from repair_engine import __version__
from repair_engine.support import signatures
from webapp.jobs.models import Job, Receipt, SigningKey

log = logging.getLogger(__name__)
FORMAT = 1
FIGURES = ("metric", "gain", "before", "after", "k", "clean_before", "clean_after")


def begin() -> str:
    """The id of this machine's key, which is made and told to the database where that was not done before.

    Raises:
        OSError, ValueError: the file cannot be read or written, or is no such key.
    """
    public = signatures.public_of(_private())
    name = signatures.id_of(public)
    SigningKey.objects.get_or_create(pk=name, defaults={"public": base64.b64encode(public).decode()})
    return name


def rotate() -> str:
    """A new key in the place of the present one, of which only the public half stays. Its id."""
    path = settings.SIGNING_KEY
    if path.exists():
        begin()
    fresh = _written(path)
    os.replace(fresh, path)
    return begin()


def put_back(private: bytes) -> None:
    """Of a backup, where this server has no key of its own yet."""
    path = settings.SIGNING_KEY
    if path.exists():
        log.warning("%s is there already: the key of the backup is left out", path)
        return
    fresh = _written(path, private)
    os.replace(fresh, path)


def publics() -> dict[str, bytes]:
    """All that were ever in use here, by id."""
    return {row.pk: base64.b64decode(row.public) for row in SigningKey.objects.order_by("created_at")}


def _private() -> bytes:
    path = settings.SIGNING_KEY
    if not path.exists():
        fresh = _written(path)
        try:
            os.link(fresh, path)  # another process may have been faster: then its key counts
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_bytes()


def _written(path: Path, private: bytes = b"") -> Path:
    """A new key (or this one), whole, beside where it shall be."""
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(private or signatures.new_private())
        os.fsync(file.fileno())
    return fresh


def give(job: Job, outcome: str, result: Mapping[str, Any], files: Mapping[str, str]) -> None:
    """Write the receipt of a repair that has just succeeded. A key that cannot be used keeps no run from its end.

    Args:
        files: SHA-256 of each file of the result, by name.
    """
    try:
        with transaction.atomic():
            begin()
            signed = signatures.sign(json.dumps(_said(job, outcome, result, files), sort_keys=True), _private())
            Receipt.objects.create(
                job=job, key_id=signed.key, text=signed.receipt, signature=base64.b64encode(signed.signature).decode()
            )
    except (OSError, ValueError) as error:
        log.error("run %s gets no receipt: the signing key %s: %s", job.pk, settings.SIGNING_KEY, error)


def _said(job: Job, outcome: str, result: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
    def source(row: Any) -> dict[str, Any] | None:
        return None if row is None else {"name": row.file_name, "sha256": row.blob_id}

    at = {"asked": job.created_at, "started": job.started_at, "finished": job.finished_at}
    return {
        "format": FORMAT,
        "server": settings.SITE_URL,
        "run": str(job.pk),
        "asked": job.request,
        "model": source(job.model),
        "data": source(job.dataset),
        "guard": source(job.guard),
        "triggered": source(job.triggered),
        "outcome": outcome,
        "checkpoint": next((name for name in sorted(files) if name.startswith("repaired.")), None),
        "files": dict(files),
        "figures": {name: result[name] for name in FIGURES if name in result},
        "versions": {"neuron-repair": __version__},
        "times": {name: moment.isoformat() if moment else None for name, moment in at.items()},
    }


def document(receipt: Receipt) -> dict[str, str]:
    """As it is passed on: receipt.json."""
    return signatures.Signed(receipt.text, receipt.key_id, base64.b64decode(receipt.signature)).to_json()
