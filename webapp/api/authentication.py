"""Who is calling: a token (`Authorization: Bearer nr_…`) or a signed-in browser."""

from __future__ import annotations

from rest_framework import authentication, exceptions
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
        return token.owner, token

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="neuron-repair"'


class SessionAuthentication(authentication.SessionAuthentication):
    """Django's session, with the CSRF check."""
