"""A file whose form was not accepted: kept for an hour, so that it need not be sent again.

It stays where it arrived; a signed name, which the form gives back, says what it is and whose. It holds its room in the
quota for as long, and the reaper removes what nobody comes back for.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.core import signing
from django.http import HttpRequest

from webapp import clock
from webapp.accounts.models import User
from webapp.library import quota
from webapp.library.errors import Refused
from webapp.library.models import Reservation
from webapp.library.uploads import Arriving, StoredUpload

PREFIX = "up-"
KEPT = timedelta(hours=1)  # as `jobs.cleanup` leaves files to which nothing is written
_SALT = "webapp.library.kept"


@dataclass(frozen=True)
class Kept:
    """What the form shows of it: its name, its bytes, and the hidden fields by which it is given back."""

    name: str
    size: int
    hidden: dict[str, str]


def keep(request: HttpRequest, owner: User, file: StoredUpload) -> Kept | None:
    """Keep what this request sent. None: it did not reach the disk whole."""
    arrived: list[Arriving] = getattr(request, "arriving", [])
    arriving = next((one for one in arrived if one.path is not None and one.path == file.path), None)
    if arriving is None or arriving.path is None or file.too_large or not file.size:
        return None
    arrived.remove(arriving)
    if arriving.file is not None:
        arriving.file.close()
    arriving.path = arriving.path.rename(arriving.path.with_name(f"{_of(owner)}{secrets.token_hex(16)}"))
    held = arriving.reservation
    if held is not None:
        Reservation.objects.filter(pk=held.pk).update(touched_at=clock.now() + KEPT - quota.STALE)
    said = {
        "owner": owner.pk, "path": arriving.path.name, "name": file.name, "size": file.size, "sha256": file.sha256,
        "cap": file.cap, "held": str(held.pk) if held is not None else "",
    }  # fmt: skip
    return Kept(file.name, file.size, {"kept": signing.dumps(said, salt=_SALT)})


def _of(owner: User) -> str:
    return f"{PREFIX}{owner.pk}-"


def files_of(owner: User) -> list[Path]:
    """What is kept of this account."""
    return list(settings.INCOMING_DIR.glob(f"{_of(owner)}*"))


def take(request: HttpRequest, owner: User, token: str) -> StoredUpload:
    """What was kept, for this request alone, at whose end it goes unless it was used.

    Raises:
        Refused: it is not there any more, is taken by another request, or was somebody else's.
    """
    try:
        said = signing.loads(token, salt=_SALT, max_age=KEPT)
        if said["owner"] != owner.pk:
            raise signing.BadSignature
        path = settings.INCOMING_DIR / f"{PREFIX}{secrets.token_hex(16)}"
        os.rename(settings.INCOMING_DIR / said["path"], path)  # of two requests one has it
    except (signing.BadSignature, FileNotFoundError):
        raise Refused(
            "The file that you sent is not here any more: it is kept for an hour, and used once.", "Choose it again."
        ) from None
    held = Reservation.objects.filter(pk=said["held"], owner=owner).first() if said["held"] else None
    arriving = Arriving(held, path, None, said["size"])
    request.arriving = [*getattr(request, "arriving", []), arriving]  # type: ignore[attr-defined]
    return StoredUpload(arriving, name=said["name"], content_type="", sha256=said["sha256"], cap=said["cap"])
