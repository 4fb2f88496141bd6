"""Files of a job that are no results yet: states and block results, named by their SHA-256."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from webapp.jobs.models import Job

ATTACK = "attack-request.json"  # in the work directory of a job of the kind attack: what was asked
ADVERSARIAL = "adversarial.pack"  # of an attack's fixed set: what the page shows of it
_LENGTH = struct.Struct("<Q")


class Damaged(RuntimeError):
    """A working file is missing or its content no longer has the hash that the database remembers."""


def put(job: Job, content: bytes) -> str:
    """Write once; the same content again is the same file."""
    sha256 = hashlib.sha256(content).hexdigest()
    directory = job.directory / "parts"
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / sha256
    if not target.exists():
        with tempfile.NamedTemporaryFile(dir=directory, prefix="new-", delete=False) as file:
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            except BaseException:  # a full disk gets its room back
                os.unlink(file.name)
                raise
        os.replace(file.name, target)
    return sha256


def get(job: Job, sha256: str) -> bytes:
    path = job.directory / "parts" / sha256
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise Damaged(f"{path} is missing: do web and workers share the data directory?") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise Damaged(f"{path} is damaged: its content does not have the hash it is named by")
    return content


def intact(job: Job, sha256: str) -> bool:
    try:
        get(job, sha256)
    except Damaged:
        return False
    return True


def leading(job: Job, names: list[str]) -> list[bytes]:
    """The contents of these files up to the first that is missing or damaged."""
    contents = []
    for name in names:
        try:
            contents.append(get(job, name))
        except Damaged:
            break
    return contents


def discard(job: Job, names: set[str]) -> None:
    """Remove files that nothing will be computed from any more."""
    for name in names:
        if name:
            (job.directory / "parts" / name).unlink(missing_ok=True)


def put_json(job: Job, value: object) -> str:
    return put(job, json.dumps(value, sort_keys=True).encode())


def get_json(job: Job, sha256: str):
    return json.loads(get(job, sha256))


def pack(parts: list[bytes]) -> bytes:
    """Several byte strings in one, in order: each after its length (8 bytes, little endian)."""
    return b"".join(_LENGTH.pack(len(part)) + part for part in parts)


def unpack(content: bytes) -> list[bytes]:
    parts, at = [], 0
    while at < len(content):
        (length,) = _LENGTH.unpack_from(content, at)
        at += _LENGTH.size
        parts.append(content[at : at + length])
        at += length
    return parts


@contextmanager
def fresh_directory(job: Job, what: str, attempt: int) -> Iterator[Path]:
    """An empty directory for one attempt. They never share one: a slow one cannot disturb its successor.

    What an attempt left that failed or was killed is removed, or repeated attempts would fill the disk.
    """
    path = job.directory / f"{what}-{attempt}"
    for old in job.directory.glob(f"{what}-*"):
        shutil.rmtree(old, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        yield path
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
