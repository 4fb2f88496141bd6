"""Writes: uploads. Creating one twice gives the first one again."""

from __future__ import annotations

import hashlib
import json
import logging
from typing import Any

from django.db import transaction
from django.db.models import Q

from webapp import clock
from webapp.accounts.models import Team, User
from webapp.library import blobs, quota, resumable
from webapp.library.errors import InUse, Refused, TooLarge
from webapp.library.models import Blob, DatasetUpload, ModelUpload, Thumbnails, Upload
from webapp.library.resumable import Received
from webapp.library.uploads import KnownFile, StoredUpload

log = logging.getLogger(__name__)
File = StoredUpload | KnownFile | Received


def settings_digest(values: dict) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def create_model(
    *,
    owner: User,
    team: Team | None = None,
    file: File,
    architecture: str,
    num_classes: int,
    options: dict | None = None,
    weights: str = "",
    key: str = "",
    strip_prefix: str = "",
    classes_text: str = "",
    preprocessing: dict | None = None,
    name: str = "",
) -> tuple[ModelUpload, bool]:
    """Returns the upload and whether it is new. A rejected one is checked again.

    Args:
        owner: who makes it.
        team: whose it becomes; None: its maker's.
    """
    described = {
        "architecture": architecture,
        "num_classes": num_classes,
        "options": options or {},
        "weights": weights,
        "classes_text": classes_text,
        "preprocessing": preprocessing,
    }
    # left out where they are empty: uploads from before they were there stay the same
    described |= {name: value for name, value in (("key", key), ("strip_prefix", strip_prefix)) if value}
    return _create(
        ModelUpload, owner, team, file, name, key={"settings_digest": settings_digest(described)}, values=described
    )


def create_dataset(
    *, owner: User, team: Team | None = None, file: File, name: str = "", split_folder: str = ""
) -> tuple[DatasetUpload, bool]:
    """Returns the upload and whether it is new, as `create_model`."""
    return _create(DatasetUpload, owner, team, file, name, key={"split_folder": split_folder}, values={})


def known_file(owner: User, team: Team | None, sha256: str, name: str = "") -> KnownFile:
    """A file among the owner's uploads, or the team's for which it is wanted, of either kind. Nobody learns what
    others have uploaded, and nothing of a team's is carried out of it.

    Raises Refused (404): there is none.
    """
    theirs = Q(owner=owner) | (Q(team=team) if team else Q())
    for kind in (ModelUpload, DatasetUpload):
        upload = kind.objects.filter(theirs, blob_id=sha256).select_related("blob").first()
        if upload is not None and upload.blob.is_there:
            return KnownFile(name or upload.file_name, upload.blob.size, sha256)
    raise Refused("You have uploaded no file with this SHA-256.", "Send the file.", status=404)


def _create(
    kind: type[Upload], owner: User, team: Team | None, file: File, name: str, key: dict, values: dict
):  # fmt: skip
    if file.too_large:
        raise TooLarge(file.name, file.size, file.cap)
    if file.size == 0:
        raise Refused(f"{file.name} is empty.", "Choose the file again; the upload may have been cut short.")
    try:
        there = file.there if isinstance(file, Received) else None
        ready = blobs.ready(file.path, file.sha256, there=there) if file.path is not None else None
    except FileNotFoundError:  # another request has made something of it
        raise resumable.gone() from None
    with blobs.or_given_up(ready), transaction.atomic():
        if isinstance(file, KnownFile):
            known_file(owner, team, file.sha256)  # not deleted meanwhile
        if isinstance(file, Received):
            resumable.claim(file)
        blob = _blob(owner, team, file, ready)
        defaults = {**values, "name": (name or file.name)[:200], "file_name": file.name[:255], "made_by": owner}
        whose: dict[str, Any] = {"owner": None, "team": team} if team else {"owner": owner}
        upload, created = kind.objects.get_or_create(**whose, blob=blob, **key, defaults=defaults)
        if not created and upload.state == Upload.State.REJECTED:
            kind.objects.filter(pk=upload.pk, state=Upload.State.REJECTED).update(
                state=Upload.State.VALIDATING, error="", mend="", detail="", attempts=0, rung_at=None
            )
            upload.refresh_from_db()
        if upload.state == Upload.State.VALIDATING:
            ring(upload)
    return upload, created


def _blob(owner: User, team: Team | None, file: File, ready: blobs.Ready | None) -> Blob:
    """The file's, within the quota. What its payer keeps already takes no more room, so it is never refused."""
    payer = team.payer if team else owner
    quota.lock(payer)
    kept = quota.kept_by(payer)
    here = any(kind.objects.filter(kept, blob=file.sha256).exists() for kind in (ModelUpload, DatasetUpload))
    if not here:
        quota.check(payer, file.size, file.name, besides=file.reservation)
    if ready is not None:
        return blobs.put(ready)
    blob = Blob.objects.select_for_update().filter(pk=file.sha256).first()
    if not (here or isinstance(file, KnownFile)) or blob is None or not blob.is_there:
        raise Refused(f"There was no room for {file.name} when it began to arrive.", "Send it again.", status=413)
    return blob


def ring(upload: Upload) -> None:
    """Ask for the check, once the row can be seen. The reaper rings again if the message is lost."""
    from webapp.library import tasks

    kind = upload._meta.model_name
    type(upload).objects.filter(pk=upload.pk).update(rung_at=clock.now())
    transaction.on_commit(lambda: tasks.send(tasks.validate.name, kind, str(upload.pk)))


def delete_upload(*, upload: Upload) -> None:
    """Raises InUse while a run refers to it; what was deleted and can come back is not asked (`jobs.removal`)."""
    with transaction.atomic():
        users = {job.pk: str(job) for jobs in runs_with(upload) for job in jobs.filter(deleted_at=None)[:100]}
        if names := list(users.values()):
            raise InUse(upload.name, names)
        used = {upload.blob_id, *_thumbnails_of(upload)}
        upload.delete()
        for sha256 in sorted(used):
            blobs.drop(sha256)


def runs_with(upload: Upload) -> tuple[Any, ...]:
    """Those that use it, by what they use it for."""
    if isinstance(upload, DatasetUpload):
        return upload.jobs, upload.guarded_jobs, upload.triggered_jobs
    return upload.jobs, upload.surrogate_jobs


def _thumbnails_of(upload: Upload) -> list[str]:
    if not isinstance(upload, DatasetUpload):
        return []
    rows = Thumbnails.objects.select_for_update().filter(dataset=upload).exclude(blob=None)
    return list(rows.values_list("blob_id", flat=True))
