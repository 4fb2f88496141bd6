"""Reads: who does a key belong to."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

from django.db import DatabaseError
from django.utils import timezone

from webapp.accounts.models import ApiToken
from webapp.accounts.services import digest
from webapp.prepared import TEXT, Prepared

_by_digest: Prepared[ApiToken] = Prepared(
    lambda digest: ApiToken.objects.select_related("owner").filter(
        digest=digest, revoked_at=None, owner__is_active=True
    ),
    TEXT,
)


def token_by_key(key: str) -> ApiToken | None:
    """The token, expired or not; None: unknown, revoked, or of a closed account."""
    token = next(iter(_by_digest(digest(key))), None)
    if token is not None and not token.expired:
        # Once a minute is enough to see whether a token is in use, and keeps polling free of writes.
        now = timezone.now()
        if token.last_used_at is None or token.last_used_at < now - timedelta(minutes=1):
            with suppress(DatabaseError):  # a disk that is full must not keep people from reading
                ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
    return token
