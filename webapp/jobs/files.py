"""Files of a job that are no results yet: states and block results, named by their SHA-256."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

from repair_engine.support.outputs import sha256 as sha256_of
from webapp.jobs.models import Job
from webapp.library import cache, incoming
from webapp.library.store import Damaged, get_store

ATTACK = "attack-request.json"  # in the work directory of a job of the kind attack: what was asked
ADVERSARIAL = "adversarial.pack"  # of an attack's fixed set: what the page shows of it
_LENGTH = struct.Struct("<Q")


def _name(job: Job, sha256: str) -> str:
    return f"jobs/{job.pk}/parts/{sha256}"


def put(job: Job, content: bytes) -> str:
    """Write once; the same content again is the same file."""
    sha256 = hashlib.sha256(content).hexdigest()
    store, name = get_store(), _name(job, sha256)
    if store.remote or not store.at(name).exists():
        path, file = incoming.new_file("part-")
        try:
            with file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            store.send(path, name)
            store.place(path, name)
        except BaseException:  # a full disk gets its room back
            path.unlink(missing_ok=True)
            raise
    return sha256


def get(job: Job, sha256: str) -> bytes:
    store, name = get_store(), _name(job, sha256)
    for _ in range(2):
        path = store.fetch(name, sha256)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise Damaged(f"{path} is missing: do web and workers share the data directory?") from None
        if hashlib.sha256(content).hexdigest() == sha256:
            return content
        if not store.remote:
            break
        cache.drop(path)  # what lies here is spoilt; the store may still have it
    raise Damaged(f"{path} is damaged: its content does not have the hash it is named by")


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
            get_store().delete(_name(job, name))


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


def keep_directory(job: Job, path: Path, note: Callable[[str, float], None]) -> str:
    """Let all have what an attempt wrote. Returns the name by which `directory` gives it.

    In the data directory it stays as it is. For an object store each file is a part of the job, and a list of their
    hashes is one, too: its hash is the name.
    """
    store = get_store()
    if not store.remote:
        return path.name
    listed: dict[str, tuple[str, int]] = {}
    written = sorted(one for one in path.rglob("*") if one.is_file())
    for number, file in enumerate(written):
        note("sending files to the store", number / len(written))  # and the lease is renewed
        sha256 = sha256_of(file)
        store.send(file, _name(job, sha256))
        listed[file.relative_to(path).as_posix()] = (sha256, file.stat().st_size)
    name = put_json(job, listed)
    cache.put(path, job.directory / name, sum(size for _, size in listed.values()))
    return name


def directory(job: Job, name: str) -> Path:
    """What `keep_directory` kept, to be read. Raises Damaged, StoreAway; in the data directory it may be missing."""
    path = job.directory / name
    if not get_store().remote or cache.have(path):
        return path
    listed = get_json(job, name)
    return cache.bring(path, sum(size for _, size in listed.values()), lambda: _brought(job, listed))


def _brought(job: Job, listed: dict[str, tuple[str, int]]) -> Path:
    folder = settings.INCOMING_DIR / f"tree-{secrets.token_hex(16)}"
    try:
        folder.mkdir(parents=True)
        for name, (sha256, _) in listed.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(get_store().checked(_name(job, sha256), sha256), target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def has_directory(job: Job, name: str) -> bool:
    """It is there, whole as far as can be said without reading it."""
    store = get_store()
    if not store.remote:
        return bool(name) and (job.directory / name).is_dir()
    if not name or not intact(job, name):
        return False
    sizes = {found.name: found.size for found in store.entries(f"jobs/{job.pk}/parts")}
    return all(sizes.get(_name(job, sha256)) == size for sha256, size in get_json(job, name).values())
