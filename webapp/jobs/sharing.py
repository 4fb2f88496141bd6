"""Links at which a finished run can be seen without an account, until they end or are revoked.

The address holds 192 random bits, of which the SHA-256 is stored. It shows that run and nothing else; of its files
those to be read, and where the owner said so those of which a model can be made.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta

from django.db.models import Q

from webapp import clock
from webapp.jobs.models import Artifact, Job, ShareLink
from webapp.library.errors import Refused

MOST = 50  # links of one run that work
TO_READ = (".html", ".json", ".csv")
_SEEN = timedelta(minutes=1)  # between two notes that it was opened


class Ended(Exception):
    """The link is known, and shows nothing any more; says why."""


def create_link(
    *, job: Job, name: str = "", weights: bool = False, expires_at: datetime | None = None
) -> tuple[ShareLink, str]:
    """Returns the row and the token of its address, which cannot be read again.

    Raises Refused: the run has not succeeded, or has very many links.
    """
    if job.state != Job.State.SUCCEEDED:
        raise Refused(f"There is no result to share: this {job.word} is {job.state}.", status=409)
    if job.share_links.filter(revoked_at=None).count() >= MOST:
        raise Refused(f"This run has {MOST} links.", "Revoke some first.", status=409)
    token = secrets.token_urlsafe(24)
    row = ShareLink.objects.create(
        job=job, name=name[:100], weights=weights, expires_at=expires_at, digest=_digest(token)
    )
    return row, token


def revoke_link(*, link: ShareLink) -> None:
    ShareLink.objects.filter(pk=link.pk, revoked_at=None).update(revoked_at=clock.now())


def opened(token: str) -> ShareLink | None:
    """The link of an address, with its run. None: there is none.

    Raises Ended: it was revoked, its time is over, or the run was deleted.
    """
    found = (
        ShareLink.objects.filter(digest=_digest(token))
        .select_related("job__model__blob", "job__dataset__blob", "job__guard", "job__parent", "job__audited")
        .first()
    )
    if found is None:
        return None
    if found.revoked_at is not None:
        raise Ended("Whoever made this link has revoked it.")
    if found.expired:
        raise Ended(f"This link worked until {found.expires_at:%d %b %Y %H:%M} UTC.")
    if found.job.deleted_at is not None:
        raise Ended("The run that this link showed was deleted.")
    now = clock.now()
    late = Q(seen_at=None) | Q(seen_at__lt=now - _SEEN)
    ShareLink.objects.filter(late, pk=found.pk).update(seen_at=now)
    return found


def shows(link: ShareLink, file: Artifact) -> bool:
    """Whether a file of the run goes with the link."""
    return link.weights or to_read(file)


def to_read(file: Artifact) -> bool:
    """It is a report or a table, and nothing of which a model can be made."""
    return file.name.endswith(TO_READ)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
