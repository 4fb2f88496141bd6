"""Who is calling: a token (`Authorization: Bearer nr_…`) or a signed-in browser."""

from __future__ import annotations

from rest_framework import authentication, exceptions
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request

from webapp.accounts.models import ApiToken, User
from webapp.accounts.selectors import token_by_key


class TokenAuthentication(authentication.BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        word, _, key = request.headers.get("Authorization", "").partition(" ")
        if word.lower() not in ("bearer", "token"):
            return None
        token = token_by_key(key.strip())
        if token is None:
            raise exceptions.AuthenticationFailed("This token is unknown or was revoked.")
        if token.expired:
            raise exceptions.AuthenticationFailed(
                f"This token expired on {token.expires_at:%Y-%m-%d %H:%M} UTC. Make a new one on the tokens page."
            )
        # Here and not in a permission: no view can forget it.
        if token.scope == ApiToken.Scope.READ and request.method not in SAFE_METHODS:
            raise exceptions.PermissionDenied("This token may only read (GET). Make one with the scope “run”.")
        return token.owner, token

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="neuron-repair"'


class SessionAuthentication(authentication.SessionAuthentication):
    """Django's session, with the CSRF check."""
