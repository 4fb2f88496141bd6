"""Rows and blobs as of one moment in one file, taken while the service runs; and back again.

A backup is a tar: `database.jsonl`, a row a line in Django's own serialization, which SQLite and PostgreSQL both read
whichever wrote it, and which needs no database's client programs of the right version; `blobs/ab/abcd…`; and, last,
`manifest.json`. A file without that was cut short. The private key that receipts are signed with is in it only if that
is asked for: without it a restored server makes a new one, and what the old one signed can be checked as before.

Working files of runs under way are not in it: they change all the time. A restored run begins anew, and as its random
numbers depend on its seed alone, it comes to the same bits.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.core import serializers
from django.core.management import call_command
from django.core.management.color import no_style
from django.db import Error, connection, transaction
from django.db.models import Model
from django.utils import timezone

from repair_engine import __version__
from repair_engine.support.outputs import sha256 as sha256_of
from repair_engine.support.words import byte_size
from webapp import migrated, private
from webapp.jobs import receipts, releases, resuming, selectors
from webapp.jobs.models import Job
from webapp.library import blobs, incoming
from webapp.library.errors import Miswritten, Refused
from webapp.library.models import Blob
from webapp.library.store import CHUNK, Damaged, get_store

log = logging.getLogger(__name__)
FORMAT = 1
# Who is alive, who is signed in, uploads under way, tries of passwords: over by the time of a restore. Permissions and
# types of content are made by `migrate`.
LEFT_OUT = [
    "sessions", "contenttypes", "auth.Permission", "accounts.AttemptCount", "library.Reservation",
    "library.ResumableUpload", "jobs.Worker", "jobs.Release",
]  # fmt: skip
_TRIES = 5
SIGNING_KEY = "signing_key.pem"  # in the tar, if it was asked for


@dataclass(frozen=True)
class Manifest:
    """What a backup says of itself.

    Attributes:
        made_at: ISO 8601, when the moment was.
        version: of the release that wrote it.
        migrations: app -> its last migration.
        database: SHA-256 of database.jsonl.
        blobs, bytes: how many, and of how many bytes together.
        lacking: names of blobs that were missing or damaged when the backup was made: they cannot be restored.
    """

    format: int
    made_at: str
    version: str
    migrations: dict[str, str]
    database: str
    blobs: int
    bytes: int
    lacking: list[str]


# --- make one -----------------------------------------------------------------------------------------------


def make(target: Path, *, signing_key: bool = False) -> Manifest:
    """Write a backup; `target` is there when it is whole.

    Args:
        signing_key: with the private key of receipts, which who gets the backup could sign with.

    Raises:
        Refused: `target` is there already, its folder is not, the database lacks migrations, or there is no key.
    """
    if signing_key and not settings.SIGNING_KEY.is_file():
        raise Refused(f"There is no signing key {settings.SIGNING_KEY}.", "Leave --with-signing-key out.")
    if target.exists():
        raise Refused(f"{target} is there already.", "Name a file that is not.")
    if not target.parent.is_dir():
        raise Refused(f"There is no folder {target.parent}.", "Make it first.")
    if waiting := migrated.unapplied():
        raise Refused(f"The database lacks {len(waiting)} migration(s): {waiting[0]}…", "First `manage.py migrate`.")
    part = target.with_name(target.name + ".part")
    with tempfile.TemporaryDirectory(prefix="backup-", dir=private.folder(settings.INCOMING_DIR)) as folder:
        made_at = timezone.now().isoformat()
        held = _hold() if get_store().remote else ""
        try:
            names, missing = _capture(Path(folder))
            with os.fdopen(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
                manifest = _write(file, Path(folder), names, missing, made_at, signing_key)
                os.fsync(file.fileno())
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        finally:
            if held:
                get_store().delete(held)
    part.replace(target)
    return manifest


def _hold() -> str:
    """Of an object store nothing is deleted until this is (`blobs`), or until it is a day old."""
    path, file = incoming.new_file("hold-")
    file.close()
    name = f"{blobs.HOLDS}/{path.name}"
    try:
        get_store().send(path, name)
    finally:
        path.unlink()
    return name


def _capture(folder: Path) -> tuple[list[str], list[str]]:
    """The rows of one moment in `folder`/database.jsonl, and links to their blobs, which no deletion takes away.
    (An object store has no links: nothing is deleted there meanwhile.)

    Returns the names of the blobs that are there, and of those that are lost.
    """
    for _ in range(_TRIES):
        with _one_moment():
            known = list(Blob.objects.order_by("pk").values_list("pk", flat=True))
            if get_store().remote:
                there = {found.name for found in get_store().entries("blobs")}
                missing = [name for name in known if Blob(sha256=name).stored_as not in there]
            else:
                missing = [name for name in known if not _link(name, folder)]
            options = {"format": "jsonl", "exclude": LEFT_OUT, "use_natural_foreign_keys": True, "verbosity": 0}
            call_command("dumpdata", output=str(folder / "database.jsonl"), **options)
        # Dropped between the moment and the link: then another moment is taken. Else the file is lost.
        if Blob.objects.filter(pk__in=missing).count() == len(missing):
            return sorted(set(known) - set(missing)), missing
    raise Refused("Files went away as fast as they were counted.", "Try again when less is deleted.")


@contextmanager
def _one_moment() -> Iterator[None]:
    """All reads see the database as of the first one; nobody who writes has to wait."""
    usual = getattr(connection, "transaction_mode", None)
    if connection.vendor == "sqlite":
        connection.ensure_connection()
        usual, connection.transaction_mode = connection.transaction_mode, "DEFERRED"
    try:
        with transaction.atomic(durable=True):
            if connection.vendor == "postgresql":
                with connection.cursor() as cursor:
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield
    finally:
        if connection.vendor == "sqlite":
            connection.transaction_mode = usual


def _link(name: str, folder: Path) -> bool:
    """False: there is no such file."""
    path, kept = get_store().at(Blob(sha256=name).stored_as), folder / name
    if kept.exists():
        return True
    try:
        os.link(path, kept)
    except FileNotFoundError:
        return False
    except OSError:  # a file system without hard links
        with suppress(FileNotFoundError):
            shutil.copyfile(path, kept)
        return kept.exists()
    return True


def _write(
    file: IO[bytes], folder: Path, names: list[str], missing: list[str], made_at: str, signing_key: bool
) -> Manifest:
    damaged, size = [], 0
    with tarfile.open(fileobj=file, mode="w") as tar:
        if signing_key:
            _add(tar, settings.SIGNING_KEY, SIGNING_KEY)
        database = _add(tar, folder / "database.jsonl", "database.jsonl")
        for name in names:
            try:
                path = _brought(name, folder)
            except Damaged as error:
                log.error("%s", error)
                damaged.append(name)
                continue
            size += path.stat().st_size
            if _add(tar, path, _member(name)) != name:
                damaged.append(name)
            path.unlink()
        manifest = Manifest(
            FORMAT, made_at, __version__, migrated.expected(), database, len(names), size, sorted(missing + damaged)
        )
        said = folder / "manifest.json"
        said.write_text(json.dumps(asdict(manifest), indent=1) + "\n")
        _add(tar, said, said.name)
    return manifest


def _brought(name: str, folder: Path) -> Path:
    store = get_store()
    return store.checked(Blob(sha256=name).stored_as, name) if store.remote else folder / name


def _member(name: str) -> str:
    return f"blobs/{name[:2]}/{name}"


class _Hashed:
    """A file that is read once, and its SHA-256."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        chunk = self.file.read(size)
        self.digest.update(chunk)
        return chunk


def _add(tar: tarfile.TarFile, path: Path, name: str) -> str:
    """The SHA-256 of what was written."""
    with path.open("rb") as file:
        hashed = _Hashed(file)
        info = tar.gettarinfo(arcname=name, fileobj=file)
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        info.mode, info.type, info.size = 0o600, tarfile.REGTYPE, os.fstat(file.fileno()).st_size
        tar.addfile(info, hashed)
    return hashed.digest.hexdigest()


# --- restore one --------------------------------------------------------------------------------------------


def restore(source: Path, *, replace: bool = False) -> tuple[Manifest, int]:
    """Bring a backup into this data directory and database. Files first, then all rows in one transaction: what breaks
    off leaves files without rows, and can be begun again.

    Args:
        replace: what is there goes: all rows; files that no row of the backup needs are left to the sweep.

    Returns:
        The manifest, and how many runs were under way and begin anew.

    Raises:
        Refused: the file is no backup, or damaged, or another release's; or something is there already.
    """
    try:
        with tarfile.open(source, "r:") as tar:
            members = {one.name: one for one in tar.getmembers()}
            manifest = _manifest(source, tar, members)
            _make_tables()
            _check_place(replace)
            sizes = [one.size for one in members.values()]
            needed = max(sizes) if get_store().remote else manifest.bytes
            if (free := shutil.disk_usage(settings.DATA_DIR).free) < needed:
                said = f"The backup's files need {byte_size(needed)} here; {byte_size(free)} are free."
                raise Refused(said, "Make room first.")
            with tempfile.TemporaryDirectory(prefix="restore-", dir=private.folder(settings.INCOMING_DIR)) as folder:
                rows = _extract(tar, members["database.jsonl"], Path(folder) / "database.jsonl")
                if sha256_of(rows) != manifest.database:
                    raise Refused(f"{source} is damaged: database.jsonl is not what was written.", _OTHER)
                placed = _place_files(source, tar, members, manifest, Path(folder))
                anew = _load(rows, placed, manifest)
            if SIGNING_KEY in members:
                receipts.put_back(_opened(tar, members[SIGNING_KEY]).read())
            return manifest, anew
    except tarfile.TarError as error:
        raise Refused(f"{source} is no backup, or was cut short: {error}.", _OTHER) from None
    except OSError as error:
        raise Refused(f"{source}: {error}.") from None


_OTHER = "Take another backup. No row was changed."


def _manifest(source: Path, tar: tarfile.TarFile, members: dict[str, tarfile.TarInfo]) -> Manifest:
    if not {"manifest.json", "database.jsonl"} <= set(members):
        raise Refused(f"{source} is no backup, or was cut short: it has no manifest.json at its end.", _OTHER)
    try:
        said = json.loads(_opened(tar, members["manifest.json"]).read())
        if said["format"] != FORMAT:
            raise Refused(
                f"{source} is of format {said['format']} (release {said['version']}); this release reads {FORMAT}.",
                "Restore it with that release.",
            )
        manifest = Manifest(**said)
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(f"{source}: manifest.json cannot be read: {error!r}.", _OTHER) from None
    here = migrated.expected()
    apart = {name for name in {*here, *manifest.migrations} if here.get(name) != manifest.migrations.get(name)}
    if apart:
        name = min(apart)
        raise Refused(
            f"{source} was made by release {manifest.version} ({name}: {manifest.migrations.get(name)}); this is "
            f"{__version__} ({name}: {here.get(name)}): its tables differ.",
            "Restore it with that release; then upgrade, and run `manage.py migrate`.",
        )
    return manifest


def _opened(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = tar.extractfile(member)
    if file is None:
        raise tarfile.ReadError(f"{member.name} is no file")
    return file


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> Path:
    with _opened(tar, member) as source, target.open("xb") as file:
        shutil.copyfileobj(source, file, CHUNK)
    return target


def _make_tables() -> None:
    waiting = migrated.unapplied()
    if waiting and connection.introspection.table_names():
        raise Refused(
            f"The database is another release's: it lacks {len(waiting)} migration(s).",
            "Name an empty one, or run `manage.py migrate` first.",
        )
    if waiting:
        call_command("migrate", interactive=False, verbosity=0)


def _check_place(replace: bool) -> None:
    if alive := selectors.live_workers():
        raise Refused(
            f"The worker {alive[0].name} was heard of a moment ago.",
            "Stop web, workers and beat; a worker that was killed counts as alive for a minute.",
        )
    if replace:
        return
    left_out = {label.lower() for label in LEFT_OUT}
    for model in apps.get_models():
        if not {model._meta.app_label, model._meta.label_lower} & left_out and model.objects.exists():
            there = f"{model.objects.count()} {model._meta.verbose_name_plural}"
            raise Refused(f"The database is not empty: it holds {there}.", "--replace puts the backup in its place.")
    if next(get_store().entries("blobs"), None):
        where = get_store().where("blobs")
        raise Refused(f"{where} is not empty.", "--replace goes on: files that no row needs are swept after two days.")


def _place_files(
    source: Path, tar: tarfile.TarFile, members: dict[str, tarfile.TarInfo], manifest: Manifest, folder: Path
) -> set[str]:
    """Each blob under its name, its SHA-256 computed from what is on the disk. Returns the names."""
    placed = set()
    for path, member in members.items():
        name = path.rpartition("/")[2]
        if path != _member(name) or name in manifest.lacking:
            continue
        try:
            blobs.place(blobs.ready(_extract(tar, member, folder / name), name))
        except Miswritten:
            raise Refused(f"{source} is damaged: {path} holds other content than its name says.", _OTHER) from None
        placed.add(name)
    return placed


def _load(rows: Path, placed: set[str], manifest: Manifest) -> int:
    """All rows, or none. Returns how many runs begin anew."""
    with transaction.atomic(durable=True):
        _empty()
        releases.record()
        _insert(rows)
        known = set(Blob.objects.values_list("pk", flat=True))
        if lost := known - placed - set(manifest.lacking):
            raise Refused(f"The backup lacks {len(lost)} file(s) that its rows need, such as {min(lost)}.", _OTHER)
        active = list(Job.objects.filter(state__in=Job.ACTIVE))
        for job in active:
            resuming.begin_anew(job)
    for job in active:
        get_store().delete_folder(f"jobs/{job.pk}")
    return len(active)


def _insert(rows: Path) -> None:
    """What `loaddata` does, but for its asking of each row whether it is there: more than half of the time."""
    tables: set[type[Model]] = set()
    with rows.open(encoding="utf-8") as file:
        for one in serializers.deserialize("jsonl", file):
            try:
                one.save(force_insert=True)
            except Error as error:  # databases differ in what they refuse
                said = f"{one.object._meta.label} {one.object.pk}"
                raise Refused(f"The backup's {said} does not go into this database: {error}") from error
            tables.add(type(one.object))
    connection.check_constraints()
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), list(tables)):
            cursor.execute(statement)


def _empty() -> None:
    """Also of sign-ins and of what else is left out: they are of people who may be others now."""
    kept = {ContentType._meta.db_table, Permission._meta.db_table}
    tables: list[Any] = connection.introspection.django_table_names(only_existing=True, include_views=False)
    connection.ops.execute_sql_flush(connection.ops.sql_flush(no_style(), [one for one in tables if one not in kept]))
