"""Writes: accounts and tokens."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime

from django.contrib.auth.password_validation import validate_password
from django.contrib.auth.tokens import default_token_generator
from django.db import transaction
from django.urls import reverse
from django.utils import timezone
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from webapp.accounts.models import ApiToken, User

TOKEN_PREFIX = "nr_"  # lets secret scanners recognise a leaked key


def digest(key: str) -> str:
    # A key holds 256 random bits: a fast hash is enough, unlike for passwords.
    return hashlib.sha256(key.encode()).hexdigest()


@transaction.atomic
def create_user(*, username: str, password: str) -> User:
    """Raises ValidationError when the name is taken or the password is weak."""
    user = User(username=username)
    validate_password(password, user)
    user.set_password(password)
    user.full_clean()
    user.save()
    return user


def create_token(
    *, owner: User, name: str, scope: str = ApiToken.Scope.RUN, expires_at: datetime | None = None
) -> tuple[ApiToken, str]:
    """Returns the row and the key. The key cannot be read again."""
    key = TOKEN_PREFIX + secrets.token_urlsafe(32)
    row = ApiToken.objects.create(
        owner=owner, name=name, hint=key[:8], digest=digest(key), scope=scope, expires_at=expires_at
    )
    return row, key


def revoke_token(*, token: ApiToken) -> None:
    ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now())


def revoke_all_tokens(*, owner: User) -> int:
    """How many worked until now."""
    return ApiToken.objects.filter(owner=owner, revoked_at=None).update(revoked_at=timezone.now())


def reset_path(user: User) -> str:
    """The path at which somebody may choose a new password for this account, once, for a few hours."""
    where = {"uidb64": urlsafe_base64_encode(force_bytes(user.pk)), "token": default_token_generator.make_token(user)}
    return reverse("accounts:reset", kwargs=where)
